"""What a run will read, keep in memory and send: from its settings, records and replicas.

Nothing is trained. samestep-plan shows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from input import order, pipeline
from input.foundation.text import counted, one_of
from input.manifest import INDEX_BYTES
from input.order import Plan
from input.splits import TRAIN, VALIDATION
from trainer import assembly, data, tracing
from trainer.config import Config
from trainer.workers.strategy import hide_gpus

BITS, GIGA = 8, 1e9


@dataclass(frozen=True)
class Forecast:
    """The numbers of a run on some hardware. Bytes, seconds."""

    plan: Plan
    workers: int
    bandwidth_gigabits: float  # between two workers, in Gbit/s
    total_steps: int
    parameters: int
    read_bytes_per_step: float  # of one worker, framing included
    index_bytes: int
    waiting_bytes: float  # images that are read, decoded or ready, of one worker
    reduced_bytes: int  # what one replica puts into a step's only all-reduce
    ring_seconds: float  # of that all-reduce, between workers
    compute_seconds: float | None  # of a step; unknown without a replica's rate

    @property
    def step_seconds(self) -> float | None:
        """The all-reduce follows the last gradient: none of it overlaps with the computation."""
        return None if self.compute_seconds is None else self.compute_seconds + self.ring_seconds


def forecast(
    config: Config,
    workers: int = 1,
    replicas_per_worker: int = 1,
    images_per_second: float | None = None,
    bandwidth_gigabits: float = 100.0,
) -> Forecast:
    """The forecast of a run. Raises InputError, ModelError or TrainerError where the run would.

    images_per_second: of one replica alone; without it there are no times. bandwidth_gigabits:
    between two workers, in Gbit/s.
    """
    hide_gpus()
    manifests = data.manifests(config, (TRAIN, VALIDATION))
    manifest = manifests[TRAIN]
    replicas = workers * replicas_per_worker
    inputs = order.resolve(config.input, manifest.image_size)
    records = data.reader(config, TRAIN, manifest).records
    plan = order.plan(inputs, records, replicas)
    dtype = np.dtype(manifest.schema.raw_dtype or np.uint8)
    model = assembly.new_model(config, inputs, len(manifest.classes), dtype.name)
    layout = tracing.micro_batch(model, plan, config).layout
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    record_bytes = sum(shard.bytes for shard in manifest.shards) / manifest.records
    pixels_bytes = inputs.image_size**2 * 3 * dtype.itemsize
    images_waiting = (pipeline.PARALLEL + pipeline.READY) * plan.images_per_micro_batch
    images_of_replica = plan.images_per_step / replicas
    return Forecast(
        plan=plan,
        workers=workers,
        bandwidth_gigabits=bandwidth_gigabits,
        total_steps=plan.steps_per_epoch * config.run.epochs,
        parameters=parameters,
        read_bytes_per_step=record_bytes * plan.images_per_step / workers,
        index_bytes=sum(each.records for each in manifests.values()) * INDEX_BYTES,
        waiting_bytes=images_waiting * (record_bytes + pixels_bytes),
        reduced_bytes=layout.bytes,
        # A ring sends and receives 2 (W - 1) / W times what is reduced (Patarasuk and Yuan 2009).
        ring_seconds=2
        * (workers - 1)
        / workers
        * layout.bytes
        / (bandwidth_gigabits * GIGA / BITS),
        compute_seconds=images_of_replica / images_per_second if images_per_second else None,
    )


def rows(found: Forecast) -> Iterator[tuple[str, str]]:
    """A forecast as a card shows it."""
    plan, compute, seconds = found.plan, found.compute_seconds, found.step_seconds
    yield (
        "replicas",
        f"{plan.replicas} = {counted(found.workers, 'worker')} x {plan.replicas // found.workers}; "
        f"the same result on {one_of(plan.replica_counts, 'replica')}",
    )
    yield (
        "batch",
        f"{plan.images_per_step} images a step = {counted(plan.micro_batches, 'micro-batch')} of "
        f"{plan.images_per_micro_batch}, {plan.draws_per_step} per replica",
    )
    yield "steps", f"{plan.steps_per_epoch} an epoch, {found.total_steps} in all"
    rate = "" if seconds is None else f", {_bytes(found.read_bytes_per_step / seconds)}/s"
    yield "reading", f"{_bytes(found.read_bytes_per_step)} a step and worker{rate}"
    yield (
        "memory",
        f"{_bytes(found.index_bytes)} for the index, {_bytes(found.waiting_bytes)} for images "
        "that are read ahead, per worker",
    )
    yield "model", f"{found.parameters:,} parameters"
    yield "all-reduce", f"{_bytes(found.reduced_bytes)} a step and replica"
    if found.workers > 1:
        yield (
            "ring",
            f"{1000 * found.ring_seconds:.1f} ms between the workers at "
            f"{found.bandwidth_gigabits:g} Gbit/s",
        )
    if compute is None or seconds is None:
        yield "time", "unknown: --images_per_second of one replica is not set"
        return
    yield (
        "time",
        f"{1000 * seconds:.1f} ms a step, {plan.images_per_step / seconds:,.0f} images/s, "
        f"{seconds * found.total_steps / 3600:.2f} hours in all, without evaluations",
    )
    yield (
        "efficiency",
        f"{compute / seconds:.0%} of {counted(plan.replicas, 'replica')} without communication",
    )


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
