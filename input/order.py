"""Which record sits in which slot at which step: integers in, integers out, nothing remembered.

Step s, slot t is position p = (s mod steps_per_epoch) * G + t of epoch e = s div steps_per_epoch;
a permutation of the records, another one every epoch, turns p into a record number. A run is
resumed at any step by asking for that step.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from input.config import InputConfig
from input.errors import InputError

LARGEST_DEFAULT_SIZE = 224  # pixels; ImageNet's usual training size


@dataclass(frozen=True)
class Plan:
    """The numbers of a run that follow from batch sizes, records and replicas."""

    images_per_step: int  # G
    images_per_micro_batch: int  # M, the leading dimension of everything after the pipeline
    micro_batches: int  # V = G / M per step, all replicas together
    replicas: int  # R
    records: int  # N
    steps_per_epoch: int  # N div G

    @property
    def draws_per_step(self) -> int:
        """K = V / R: micro-batches that each replica processes per step."""
        return self.micro_batches // self.replicas


@dataclass(frozen=True)
class EvaluationPlan:
    """The numbers of one pass over every record; any number of replicas will do."""

    images_per_micro_batch: int
    replicas: int
    records: int

    @property
    def draws(self) -> int:
        """Micro-batches per replica that hold every record once, padding included."""
        return math.ceil(self.records / (self.images_per_micro_batch * self.replicas))


def resolve(config: InputConfig, records_size: int | None, replicas: int) -> InputConfig:
    """Fills in what the command line left unset, at the first launch of a run.

    records_size: pixels, where all records are squares of one size.
    """
    if config.image_size is None:
        small = records_size is not None and records_size <= LARGEST_DEFAULT_SIZE
        config = replace(config, image_size=records_size if small else LARGEST_DEFAULT_SIZE)
    if config.micro_batch_size is None:
        if config.global_batch_size % replicas:
            raise _uneven(config.global_batch_size, "images a step", replicas)
        config = replace(config, micro_batch_size=config.global_batch_size // replicas)
    return config


def plan(config: InputConfig, records: int, replicas: int) -> Plan:
    """A resolved config, N records and R replicas -> the run's numbers. Raises InputError."""
    micro_batches = config.global_batch_size // config.micro_batch_size
    if micro_batches % replicas:
        what = f"micro-batches of {config.micro_batch_size} images a step"
        raise _uneven(micro_batches, what, replicas)
    if records < config.global_batch_size:
        raise InputError(
            f"{records} training records do not fill one step of {config.global_batch_size} images. "
            f"Set --global_batch_size to {records} or less."
        )
    return Plan(
        images_per_step=config.global_batch_size,
        images_per_micro_batch=config.micro_batch_size,
        micro_batches=micro_batches,
        replicas=replicas,
        records=records,
        steps_per_epoch=records // config.global_batch_size,
    )


def _uneven(number: int, what: str, replicas: int) -> InputError:
    divisors = [str(n) for n in range(1, min(number, 1024) + 1) if number % n == 0]
    return InputError(
        f"{number} {what} do not split evenly over {replicas} replicas; replica counts that do: "
        f"{', '.join(divisors)}. Set --global_batch_size, or use another number of devices."
    )


def micro_batch(draw: int, plan: Plan, worker: int = 0, workers: int = 1) -> tuple[int, int]:
    """The draw-th element of a worker's dataset -> (step, micro-batch of that step).

    tf.distribute hands a worker's elements to its replicas in turn, and replica r of all processes
    micro-batches r*K .. r*K+K-1 of a step.
    """
    local_replicas = plan.replicas // workers
    step, place = divmod(draw, local_replicas * plan.draws_per_step)
    turn, local_replica = divmod(place, local_replicas)
    replica = worker * local_replicas + local_replica
    return step, replica * plan.draws_per_step + turn


def training_records(step: int, micro_batch: int, plan: Plan, seed: int) -> tuple[int, np.ndarray]:
    """(epoch, int64[M] record numbers) of one micro-batch of a step."""
    epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
    first = step_in_epoch * plan.images_per_step + micro_batch * plan.images_per_micro_batch
    positions = np.arange(first, first + plan.images_per_micro_batch)
    return epoch, permute(positions, plan.records, seed, epoch)


def evaluation_records(
    draw: int, plan: EvaluationPlan, worker: int = 0, workers: int = 1
) -> np.ndarray:
    """int64[M] record numbers of the draw-th element of a worker's dataset; -1 is padding.

    The elements repeat, pass after pass.
    """
    local_replicas = plan.replicas // workers
    turn, local_replica = divmod(draw % (plan.draws * local_replicas), local_replicas)
    micro_batch = turn * plan.replicas + worker * local_replicas + local_replica
    first = micro_batch * plan.images_per_micro_batch
    numbers = np.arange(first, first + plan.images_per_micro_batch)
    return np.where(numbers < plan.records, numbers, -1)


def permute(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """int64[...] positions in [0, n) -> int64[...]: a bijection of [0, n) for each (seed, epoch).

    A Feistel network over the bits that n - 1 needs, walked until the value is below n (Black and
    Rogaway 2002, "Ciphers with arbitrary finite domains"): at most every second value walks on.
    It is written out here so that no library's new version can change a run's order.
    """
    bits = max(2, (n - 1).bit_length())
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    keys = fold_in(seed, epoch, np.arange(6))
    values = np.array(positions, np.uint64)
    outside = np.ones(values.shape, bool)
    while outside.any():
        walking = values[outside]
        low, high = walking & low_mask, walking >> low_bits
        for even, odd in zip(keys[::2], keys[1::2], strict=True):
            low ^= _mix(high ^ even) & low_mask
            high ^= _mix(low ^ odd) & high_mask
        values[outside] = high << low_bits | low
        outside = values >= np.uint64(n)
    return values.astype(np.int64)


def fold_in(seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
    """uint64[...]: independent random bits for each (seed, epoch, number)."""
    key = np.array([seed % 2**64], np.uint64)
    key = _mix(_mix(key) + np.uint64(epoch))
    return _mix(key + np.asarray(numbers).astype(np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finalizer (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
