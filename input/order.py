"""Which record sits in which slot at which step: integers in, integers out, no state.

Step s, slot t is position p = (s mod steps_per_epoch) * G + t of epoch e = s div steps_per_epoch;
a permutation of the records, another one every epoch, turns p into a record index. A run is
resumed at any step by asking for that step.
"""

from dataclasses import dataclass

import numpy as np

from input.config import InputConfig, ResolvedInput
from input.errors import InputError
from input.foundation.text import counted, one_of
from input.native import library
from input.randomness import shuffle

LARGEST_DEFAULT_SIZE = 224  # pixels; ImageNet's usual training size
# Images at once, where nothing else is asked for: BatchNorm's usual number on one device (Goyal et
# al. 2017), and 8 devices share 256 images a step.
LARGEST_DEFAULT_MICRO_BATCH = 32
# Below so many pixels the default views are milder: docs/learning.md has the figures.
SMALL_IMAGE = 128
MIN_AREA, SMALL_MIN_AREA = 0.08, 0.7  # of a crop (Szegedy et al. 2015)


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
    repeats: int = 1  # views of each record in a step
    left_out: frozenset[int] = frozenset()  # records whose slots stay empty

    @property
    def draws_per_step(self) -> int:
        """K = V / R: micro-batches that each replica processes per step."""
        return self.micro_batches // self.replicas

    @property
    def replica_counts(self) -> list[int]:
        """Numbers of replicas that give the same run: [1, 2, 4, 8]."""
        return _likely(divisors(self.micro_batches))


@dataclass(frozen=True)
class EvaluationPlan:
    """The numbers of one pass over every record, with any number of replicas."""

    images_per_micro_batch: int
    replicas: int
    records: int

    @property
    def draws(self) -> int:
        """Micro-batches per replica that hold every record once, padding included."""
        return -(-self.records // (self.images_per_micro_batch * self.replicas))


def resolve(config: InputConfig, records_size: int | None) -> ResolvedInput:
    """Fills in what the command line left unset, at the first launch of a run.

    Nothing follows from the hardware but what decodes. records_size: pixels, where all records are
    squares of one size. Raises InputError.
    """
    size, micro_batch_size = config.image_size, config.micro_batch_size
    if config.tries_sizes:
        raise InputError(
            "--micro_batch_size=auto tries sizes on this machine: samestep-train does that, at the "
            "start of a new run of one worker. Give a number."
        )
    if size is None:
        size = min(records_size or LARGEST_DEFAULT_SIZE, LARGEST_DEFAULT_SIZE)
    small = size < SMALL_IMAGE
    resolved = {
        "image_size": size,
        "micro_batch_size": micro_batch_size
        or max(n for n in divisors(config.global_batch_size) if n <= LARGEST_DEFAULT_MICRO_BATCH),
        "augment": config.augment or ("crop" if small else "standard"),
        "crop_min_area": config.crop_min_area or (SMALL_MIN_AREA if small else MIN_AREA),
        "decoder": library.resolve(config.decoder),
    }
    return ResolvedInput(**{**vars(config), **resolved})


def larger_micro_batch(plan: Plan, config: InputConfig) -> int | None:
    """The micro-batch with which each replica would have one a step; None where it has one."""
    return None if plan.draws_per_step == 1 else config.global_batch_size // plan.replicas


def plan(config: ResolvedInput, records: int, replicas: int) -> Plan:
    """A resolved config, N records and R replicas -> the run's numbers. Raises InputError."""
    micro_batches = config.global_batch_size // config.micro_batch_size
    if micro_batches % replicas:
        raise InputError(
            f"{config.global_batch_size} images a step in micro-batches of "
            f"{config.micro_batch_size} do not split evenly over {counted(replicas, 'replica')}, "
            f"but over {one_of(_likely(divisors(micro_batches)), 'replica')}. Use so many; a new "
            "run may set --micro_batch_size or --global_batch_size."
        )
    if records < config.global_batch_size:
        raise InputError(
            f"A step of {config.global_batch_size} images is not filled by "
            f"{counted(records, 'training record')}. Set --global_batch_size to {records} or less."
        )
    return Plan(
        images_per_step=config.global_batch_size,
        images_per_micro_batch=config.micro_batch_size,
        micro_batches=micro_batches,
        replicas=replicas,
        records=records,
        steps_per_epoch=records // config.global_batch_size,
        read_block=config.read_block,
        repeats=config.repeated_augmentation,
    )


def divisors(number: int) -> list[int]:
    """In ascending order."""
    return [n for n in range(1, number + 1) if number % n == 0]


def _likely(replicas: list[int]) -> list[int]:
    return [n for n in replicas if n <= 1024]


def micro_batch(draw: int, plan: Plan, worker: int = 0, worker_count: int = 1) -> tuple[int, int]:
    """The draw-th element of a worker's dataset -> (step, micro-batch of that step).

    tf.distribute hands a worker's elements to its replicas in turn, and replica r of all processes
    micro-batches r*K .. r*K+K-1 of a step.
    """
    replicas = local_replicas(plan, worker_count)
    step, place = divmod(draw, replicas * plan.draws_per_step)
    turn, local_replica = divmod(place, replicas)
    replica = worker * replicas + local_replica
    return step, replica * plan.draws_per_step + turn


def training_records(step: int, micro_batch: int, plan: Plan, seed: int) -> tuple[int, np.ndarray]:
    """(epoch, int64[M] record indices) of one micro-batch of a step; -1 for one left out."""
    epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
    first = step_in_epoch * (plan.images_per_step // plan.repeats)
    positions = first + _slots(micro_batch, plan)[1]
    records = shuffle(positions, plan.records, seed, epoch, plan.read_block)
    if plan.left_out:
        records = np.where(np.isin(records, list(plan.left_out)), -1, records)
    return epoch, records


def view_numbers(micro_batch: int, records: np.ndarray, plan: Plan) -> np.ndarray:
    """int64[M] record indices of a micro-batch -> int64[M]: another number for each of their views.

    What is random about a view follows from it. The first view of a record has the record's own.
    """
    return records + plan.records * _slots(micro_batch, plan)[0]


def _slots(micro_batch: int, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """int64[M] twice: for each slot of a micro-batch which view it is, and of which of the step's
    records. All first views stand before all second ones, so that a BatchNorm sees one of them."""
    first = micro_batch * plan.images_per_micro_batch
    slots = np.arange(first, first + plan.images_per_micro_batch)
    return np.divmod(slots, plan.images_per_step // plan.repeats)


def compared_micro_batch(step: int, plan: Plan, seed: int) -> int:
    """Which of a step's micro-batches all replicas compute when they are compared: any."""
    return int(np.random.default_rng([seed, step]).integers(plan.micro_batches))


def evaluation_records(
    draw: int, plan: EvaluationPlan, worker: int = 0, worker_count: int = 1
) -> np.ndarray:
    """int64[M] record indices of the draw-th element of a worker's dataset; -1 is padding.

    The elements repeat, pass after pass.
    """
    replicas = local_replicas(plan, worker_count)
    turn, local_replica = divmod(draw % (plan.draws * replicas), replicas)
    micro_batch = turn * plan.replicas + worker * replicas + local_replica
    first = micro_batch * plan.images_per_micro_batch
    indices = np.arange(first, first + plan.images_per_micro_batch)
    return np.where(indices < plan.records, indices, -1)


def evaluated_records(plan: EvaluationPlan, worker: int = 0, worker_count: int = 1) -> np.ndarray:
    """int64[draws, replicas, M] record indices of one pass of a worker's replicas."""
    replicas = local_replicas(plan, worker_count)
    draws = range(plan.draws * replicas)
    records = [evaluation_records(draw, plan, worker, worker_count) for draw in draws]
    return np.reshape(records, (plan.draws, replicas, plan.images_per_micro_batch))


def local_replicas(plan: Plan | EvaluationPlan, worker_count: int) -> int:
    """Replicas of each worker. Raises InputError where workers would differ."""
    if plan.replicas % worker_count:
        raise InputError(
            f"{counted(plan.replicas, 'replica')} cannot be split evenly over "
            f"{counted(worker_count, 'worker')}. "
            "Give each worker the same number of devices."
        )
    return plan.replicas // worker_count
