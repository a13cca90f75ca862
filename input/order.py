"""Which record sits in which slot at which step: integers in, integers out, nothing remembered.

Step s, slot t is position p = (s mod steps_per_epoch) * G + t of epoch e = s div steps_per_epoch;
a permutation of the records, another one every epoch, turns p into a record number. A run is
resumed at any step by asking for that step.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

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
    read_block: int = 1  # neighbouring records that stay together

    @property
    def draws_per_step(self) -> int:
        """K = V / R: micro-batches that each replica processes per step."""
        return self.micro_batches // self.replicas

    @property
    def replica_counts(self) -> str:
        """Numbers of replicas that give the same run: 1, 2, 4, 8."""
        return _divisors(self.micro_batches)


@dataclass(frozen=True)
class EvaluationPlan:
    """The numbers of one pass over every record; any number of replicas will do."""

    images_per_micro_batch: int
    replicas: int
    records: int

    @property
    def draws(self) -> int:
        """Micro-batches per replica that hold every record once, padding included."""
        return -(-self.records // (self.images_per_micro_batch * self.replicas))


def resolve(config: InputConfig, records_size: int | None, replicas: int) -> InputConfig:
    """Fills in what the command line left unset, at the first launch of a run.

    records_size: pixels, where all records are squares of one size.
    """
    if config.image_size is None:
        small = records_size is not None and records_size <= LARGEST_DEFAULT_SIZE
        config = replace(config, image_size=records_size if small else LARGEST_DEFAULT_SIZE)
    if config.micro_batch_size is None:
        if config.global_batch_size % replicas:
            raise _uneven(
                f"{config.global_batch_size} images a step",
                config.global_batch_size,
                replicas,
                "Set --global_batch_size.",
            )
        config = replace(config, micro_batch_size=config.global_batch_size // replicas)
    return config


def plan(config: InputConfig, records: int, replicas: int) -> Plan:
    """A resolved config, N records and R replicas -> the run's numbers. Raises InputError."""
    micro_batches = config.global_batch_size // config.micro_batch_size
    if micro_batches % replicas:
        raise _uneven(
            f"{config.global_batch_size} images a step in micro-batches of "
            f"{config.micro_batch_size}",
            micro_batches,
            replicas,
            "Use one of these; a new run may set --micro_batch_size or --global_batch_size.",
        )
    if records < config.global_batch_size:
        raise InputError(
            f"{records} training records do not fill one step of {config.global_batch_size} "
            f"images. Set --global_batch_size to {records} or less."
        )
    return Plan(
        images_per_step=config.global_batch_size,
        images_per_micro_batch=config.micro_batch_size,
        micro_batches=micro_batches,
        replicas=replicas,
        records=records,
        steps_per_epoch=records // config.global_batch_size,
        read_block=config.read_block,
    )


def _uneven(what: str, parts: int, replicas: int, way_out: str) -> InputError:
    return InputError(
        f"{what} do not split evenly over {replicas} replicas; replica counts that do: "
        f"{_divisors(parts)}. {way_out}"
    )


def _divisors(parts: int) -> str:
    return ", ".join(str(n) for n in range(1, min(parts, 1024) + 1) if parts % n == 0)


def micro_batch(draw: int, plan: Plan, worker: int = 0, workers: int = 1) -> tuple[int, int]:
    """The draw-th element of a worker's dataset -> (step, micro-batch of that step).

    tf.distribute hands a worker's elements to its replicas in turn, and replica r of all processes
    micro-batches r*K .. r*K+K-1 of a step.
    """
    replicas = local_replicas(plan, workers)
    step, place = divmod(draw, replicas * plan.draws_per_step)
    turn, local_replica = divmod(place, replicas)
    replica = worker * replicas + local_replica
    return step, replica * plan.draws_per_step + turn


def training_records(step: int, micro_batch: int, plan: Plan, seed: int) -> tuple[int, np.ndarray]:
    """(epoch, int64[M] record numbers) of one micro-batch of a step."""
    epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
    first = step_in_epoch * plan.images_per_step + micro_batch * plan.images_per_micro_batch
    positions = np.arange(first, first + plan.images_per_micro_batch)
    return epoch, shuffle(positions, plan.records, seed, epoch, plan.read_block)


def evaluation_records(
    draw: int, plan: EvaluationPlan, worker: int = 0, workers: int = 1
) -> np.ndarray:
    """int64[M] record numbers of the draw-th element of a worker's dataset; -1 is padding.

    The elements repeat, pass after pass.
    """
    replicas = local_replicas(plan, workers)
    turn, local_replica = divmod(draw % (plan.draws * replicas), replicas)
    micro_batch = turn * plan.replicas + worker * replicas + local_replica
    first = micro_batch * plan.images_per_micro_batch
    numbers = np.arange(first, first + plan.images_per_micro_batch)
    return np.where(numbers < plan.records, numbers, -1)


def local_replicas(plan: Plan | EvaluationPlan, workers: int) -> int:
    """Replicas of each worker. Raises InputError where workers would differ."""
    if plan.replicas % workers:
        raise InputError(
            f"{plan.replicas} replicas do not split evenly over {workers} workers. "
            "Give each worker the same number of devices."
        )
    return plan.replicas // workers


def shuffle(
    positions: np.ndarray, n: int, seed: int, epoch: int, read_block: int = 1
) -> np.ndarray:
    """int64[...] positions in [0, n) -> int64[...] record numbers, a bijection.

    The records form a ring, which each epoch cuts at another place into runs of read_block and a
    shorter rest. The runs are permuted; the rest comes last.
    """
    if read_block == 1:
        return permute(positions, n, seed, epoch)
    runs = n // read_block
    numbers = np.array(positions, np.int64)
    whole = numbers < runs * read_block
    if runs:
        run, place = np.divmod(numbers[whole], read_block)
        numbers[whole] = permute(run, runs, seed, epoch) * read_block + place
    return (numbers + int(_key(seed, _CUTS, epoch)) % n) % n


_ROUNDS = 6  # even; 4 do for a large n (Luby and Rackoff 1988), but below 50 they show
_ORDER, VIEWS, _CUTS, MIXES = 0, 1, 2, 3  # streams of random bits that share a seed


def permute(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """int64[...] positions in [0, n) -> int64[...]: a bijection of [0, n) for each (seed, epoch).

    A Feistel network on the cells of a rectangle, which has n cells and less than a row more: what
    lands on one of those is sent through again until it is below n (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains", secs. 4 and 5). It is written out here so that no
    library's new version can change a run's order.
    """
    width = math.isqrt(n - 1) + 1
    height = -(-n // width)
    numbers = _rectangle(np.asarray(positions, np.uint64), width, height, seed, epoch)
    while (outside := numbers >= np.uint64(n)).any():
        numbers[outside] = _rectangle(numbers[outside], width, height, seed, epoch)
    return numbers.astype(np.int64)


def _rectangle(cells: np.ndarray, width: int, height: int, seed: int, epoch: int) -> np.ndarray:
    """uint64[...] cells -> uint64[...]: a bijection of [0, width * height), both below 2**32."""
    size, other_size = _uint64(width), _uint64(height)
    other, half = np.divmod(cells, size)
    for i in range(_ROUNDS):
        # A number below `size`, which depends on the key and on `other`: the 32 high bits, scaled.
        shift = _mix(other ^ _key(seed, _ORDER, epoch, i))
        shift >>= _32
        shift *= size
        shift >>= _32
        half += shift
        np.minimum(half, half - size, out=half)  # modulo size: below it, the difference wraps
        half, other, size, other_size = other, half, other_size, size
    return other * size + half  # the rounds are even: both are at their place again


def uniform(
    seed: int, epoch: int, numbers: np.ndarray, count: int, stream: int = VIEWS
) -> np.ndarray:
    """float32[n, count] in [0, 1): what is random about each record in an epoch."""
    bits = _mix(_key(seed, stream, epoch) + numbers.astype(np.uint64))
    bits = _mix(bits[:, None] + np.arange(count, dtype=np.uint64))
    return (bits >> _40).astype(np.float32) * np.float32(2**-24)


def _uint64(number: int) -> np.ndarray:
    # An array without axes: NumPy is slower with its own scalars (37 us, not 54, for 64 numbers).
    return np.array(number, np.uint64)


_GAMMA = _uint64(0x9E3779B97F4A7C15)
_MIX_1 = _uint64(0xBF58476D1CE4E5B9)
_MIX_2 = _uint64(0x94D049BB133111EB)
_27, _30, _31, _32, _40 = map(_uint64, (27, 30, 31, 32, 40))


@lru_cache(maxsize=256)
def _key(*numbers: int) -> np.ndarray:
    """uint64[]: random bits that depend on each of the numbers and their order."""
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = _mix(key + _uint64(number % 2**64))
    return key.reshape(())


def _mix(x: np.ndarray) -> np.ndarray:
    """The next value of splitmix64 in state x (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    x = x + _GAMMA
    x ^= x >> _30
    x *= _MIX_1
    x ^= x >> _27
    x *= _MIX_2
    x ^= x >> _31
    return x
