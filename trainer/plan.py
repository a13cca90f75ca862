"""What a run will take, on paper: from settings, records and a number of replicas; nothing runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input import order, pipeline
from input.manifest import INDEX_BYTES, Manifest
from input.order import Plan
from trainer import assembly
from trainer.assembly import TRAIN, VALIDATION
from trainer.config import Config, PlanConfig
from trainer.errors import TrainerError

BITS, GIGA = 8, 1e9


@dataclass(frozen=True)
class Forecast:
    """The numbers of a run on so many workers. Bytes, seconds."""

    plan: Plan
    workers: int
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
        """The sum follows the last gradient: nothing of it is hidden behind the computation."""
        return None if self.compute_seconds is None else self.compute_seconds + self.ring_seconds

    @property
    def efficiency(self) -> float | None:
        """Images per second against as many workers that need not talk."""
        return None if self.step_seconds is None else self.compute_seconds / self.step_seconds


def forecast(settings: Config, what: PlanConfig) -> Forecast:
    """Raises InputError, ModelError or TrainerError where the run would."""
    manifests = {s: _manifest(settings, s) for s in (TRAIN, VALIDATION)}
    manifest = manifests[TRAIN]
    replicas = what.workers * what.replicas_per_worker
    inputs = order.resolve(settings.input, manifest.image_size, replicas)
    settings = Config(inputs, settings.model, settings.optimizer, settings.run)
    plan = order.plan(inputs, manifest.records, replicas)
    dtype = np.dtype(manifest.schema.raw_dtype or np.uint8)
    model = assembly.build_model(settings, len(manifest.classes), dtype.name)
    counts = dict.fromkeys(("trainable", "statistics"), 0)
    for variable in model.variables:
        if variable.name != "seed_generator_state":
            counts["trainable" if variable.trainable else "statistics"] += int(
                np.prod(variable.shape)
            )
    exact = settings.run.reduction == "exact" and plan.micro_batches > 1
    # Gradients, changes of statistics, loss and weight; two counts.
    reduced = (sum(counts.values()) + 2) * (8 if exact else 4) + 2 * 8
    record_bytes = sum(shard.bytes for shard in manifest.shards) / manifest.records
    pixels_bytes = inputs.image_size**2 * 3 * dtype.itemsize
    bandwidth = what.bandwidth_gigabits * GIGA / BITS
    ring = 2 * (what.workers - 1) / what.workers * reduced / bandwidth
    images_of_replica = plan.images_per_step / replicas
    return Forecast(
        plan=plan,
        workers=what.workers,
        total_steps=plan.steps_per_epoch * settings.run.epochs,
        parameters=counts["trainable"],
        read_bytes_per_step=record_bytes * plan.images_per_step / what.workers,
        index_bytes=sum(each.records for each in manifests.values()) * INDEX_BYTES,
        waiting_bytes=(pipeline.PARALLEL + pipeline.READY)
        * plan.images_per_micro_batch
        * (record_bytes + pixels_bytes),
        reduced_bytes=reduced,
        ring_seconds=ring,
        compute_seconds=images_of_replica / what.images_per_second
        if what.images_per_second
        else None,
    )


def rows(found: Forecast, what: PlanConfig) -> Iterator[tuple[str, str]]:
    """A forecast as a card shows it."""
    plan, seconds = found.plan, found.step_seconds
    yield (
        "replicas",
        f"{plan.replicas} = {found.workers} workers x {what.replicas_per_worker}; "
        f"{plan.replica_counts} give the same run",
    )
    yield (
        "batch",
        f"{plan.images_per_step} images a step = {plan.micro_batches} micro-batches of "
        f"{plan.images_per_micro_batch}, {plan.draws_per_step} per replica",
    )
    yield "steps", f"{plan.steps_per_epoch} an epoch, {found.total_steps} in all"
    rate = "" if seconds is None else f", {_bytes(found.read_bytes_per_step / seconds)}/s"
    yield "reading", f"{_bytes(found.read_bytes_per_step)} a step and worker{rate}"
    yield (
        "memory",
        f"{_bytes(found.index_bytes)} for the index, {_bytes(found.waiting_bytes)} for images on "
        "their way, a worker",
    )
    yield "model", f"{found.parameters:,} parameters"
    yield "all-reduce", f"{_bytes(found.reduced_bytes)} a step and replica"
    if found.workers > 1:
        yield (
            "ring",
            f"{1000 * found.ring_seconds:.1f} ms between the workers at "
            f"{what.bandwidth_gigabits:g} Gbit/s",
        )
    if seconds is None:
        yield "time", "unknown: --images_per_second of one replica is not set"
        return
    yield (
        "time",
        f"{1000 * seconds:.1f} ms a step, {plan.images_per_step / seconds:,.0f} images/s, "
        f"{seconds * found.total_steps / 3600:.2f} hours in all, evaluations not counted",
    )
    yield "efficiency", f"{found.efficiency:.0%} of {plan.replicas} replicas that need not talk"


def _manifest(settings: Config, split: str) -> Manifest:
    if not settings.input.data_dir:
        raise TrainerError("--data_dir is missing: the folder of the records to plan for.")
    return Manifest.load(Path(settings.input.data_dir) / split)


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
