"""The rows of a run's cards: what it starts from, and how it ended."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from input import order
from input.foundation.text import counted, duration, one_of
from input.order import Plan
from input.splits import TRAIN, VALIDATION
from models import names, pixels
from trainer import command, provenance, recipe
from trainer.assembly import Job
from trainer.audit import Audit
from trainer.config import PROCESSOR, ResolvedConfig, RunDefinition
from trainer.state import State
from trainer.totals import Totals, totals
from trainer.transfer import Transfer

CLASSES_SHOWN = 12
RESTARTS_SHOWN = 8


def start_rows(
    job: Job,
    plan: Plan,
    found: Audit,
    state: State | None,
    first: RunDefinition,
    transferred: Transfer | None = None,
) -> Iterator[tuple[str, str]]:
    """state: the checkpoint that the run goes on from. first: as its first launch defined it.

    transferred: what a new run starts with, if not with random weights.
    """
    inputs, run, manifest = job.config.input, job.config.run, job.manifests[TRAIN]
    gpus = len(tf.config.list_physical_devices("GPU"))
    workers = f"{counted(job.workers.count, 'worker')}, each " if job.workers.count > 1 else ""
    environment = job.definition.environment
    on_cpu = environment["device"] == "CPU"
    kind = f"CPU ({environment[PROCESSOR]})" if on_cpu else environment["device"]
    yield (
        "devices",
        f"{workers}{len(job.devices)} x {kind}: {', '.join(job.devices)}; "
        f"TensorFlow sees {counted(gpus, 'GPU') if gpus else 'no GPUs'}",
    )
    yield (
        "batch",
        f"{plan.images_per_step} images a step = {counted(plan.micro_batches, 'micro-batch')} of "
        f"{plan.images_per_micro_batch}, {plan.draws_per_step} per replica",
    )
    yield (
        "same result",
        f"on {one_of(plan.replica_counts, 'device')}, with --micro_batch_size="
        f"{inputs.micro_batch_size} --intra_op_threads={run.intra_op_threads}",
    )
    if larger := order.larger_micro_batch(plan, job.config.input):
        yield (
            "larger",
            f"--micro_batch_size={larger} has less overhead on these devices and takes more "
            "memory; it is another run, on fewer numbers of devices, with other BatchNorms",
        )
    total = plan.steps_per_epoch * run.epochs
    yield "steps", f"{plan.steps_per_epoch} an epoch, {total} in all"
    trained, validated = job.readers[TRAIN].records, job.readers[VALIDATION].records
    held_back = " that are held back from it" if inputs.validation_share else ""
    yield "records", f"{trained} to train, {validated} to validate{held_back}"
    yield "decoder", environment["decoder"]
    yield "per class", _per_class(manifest.classes, manifest.records_per_class)
    unbound = [split for split, each in job.manifests.items() if not each.has_checksums]
    if unbound:
        yield (
            "not checked",
            f"whether {' and '.join(unbound)} still holds what was indexed; "
            f"samestep-records index {inputs.data_dir} adds the checksums for that",
        )
    parameters = sum(int(np.prod(v.shape)) for v in job.model.trainable_variables)
    yield (
        "model",
        f"{job.config.model.model}, {parameters:,} parameters, {inputs.image_size} pixels, "
        f"{run.precision}",
    )
    yield "pixels", pixels.shown(job.model)
    yield "optimizer", recipe.shown(job.config.optimizer, plan.images_per_step)
    if job.definition.class_weights:
        yield "class weights", _per_class(job.definition.classes, job.definition.class_weights)
    replicas = counted(found.draws, "replica")
    yield "audit", f"nothing reshapes the batch before {', '.join(found.layers)}, on {replicas}"
    if job.compare_every:
        yield "replicas", f"compared to the bit every {job.compare_every:,} steps"
    yield "start", f"step {state.step}, {state.fingerprint[:16]}" if state else "step 0, a new run"
    if transferred:
        yield from transferred.rows()
    if note := provenance.note(first):
        yield "warning", f"{note}; it computes the same"
    for name, value in environment.items():
        before = first.environment.get(name)
        if before == value or (name == PROCESSOR and before is None):  # not known of older runs
            continue
        if name == PROCESSOR and not on_cpu:
            continue  # it computes nothing of the step
        yield (
            "warning",
            f"{name} was {before} at the first launch and is {value} now: the bits may differ "
            "from those of a run that was never stopped",
        )


def end_rows(
    run_dir: Path, last: State, best: State, config: ResolvedConfig
) -> Iterator[tuple[str, str]]:
    """last: the checkpoint of the last step. Raises TrainerError."""
    sums = totals(run_dir)
    yield "result", str(last.evaluation)
    if last.evaluation_of_averages:
        yield "averaged", str(last.evaluation_of_averages)
    yield "best", f"{best.judged} at step {best.step}"
    yield "weights", f"fingerprint {last.fingerprint}"
    if last.averages:
        yield "averages", f"fingerprint {last.averages}"
    yield "time", _times(sums, last.step)
    if sums.training_seconds:
        yield "speed", f"{sums.images / sums.training_seconds:,.0f} images/s while training"
    yield "restarts", _at_steps(sums.launches[1:])
    yield "bad records", f"{sums.bad_records}, with weight 0" if sums.bad_records else "none"
    yield "skipped steps", str(sums.skipped or "none")
    yield "run", str(run_dir)
    yield "watch", shlex.join(["tensorboard", "--logdir", str(run_dir)])
    export = ["samestep-export", f"--run_dir={run_dir}", f"--out={run_dir / 'export'}"]
    if names.is_code(config.model.model):
        export.append(f"--model={config.model.model}")
    yield "export", shlex.join(export)


def again(config: ResolvedConfig) -> str:
    """The same run once more, in another folder; "" for arrays in memory, which no command has."""
    if not config.input.data_dir:
        return ""
    folder = Path(config.run.run_dir)
    other = folder.with_name(f"{folder.name}-again")
    return f"the same run again: {command.reproduction(config, other)}"


def _times(sums: Totals, steps: int) -> str:
    """0:10:02: device 91 %, host 4 %, saving 5 %"""
    total = sum(sums.seconds.values())
    if not total:
        return "unknown"
    parts = [f"{name} {100 * each / total:.0f} %" for name, each in sums.seconds.items()]
    of = "" if sums.steps == steps else f", of {sums.steps} of the {steps} steps"
    return f"{duration(total)}{of}: {', '.join(parts)}"


def _at_steps(steps: Sequence[int]) -> str:
    """2, at steps 100, 250"""
    if not steps:
        return "none"
    shown = ", ".join(map(str, steps[-RESTARTS_SHOWN:]))
    last = "the last at" if len(steps) > RESTARTS_SHOWN else "at"
    return f"{len(steps)}, {last} step{'s' * (len(steps) > 1)} {shown}"


def _per_class(classes: Sequence[str], numbers: Sequence[float]) -> str:
    """cat 12, dog 30, and 3 more classes"""
    pairs = [f"{name} {number:g}" for name, number in zip(classes, numbers, strict=True)]
    left_out = len(pairs) - CLASSES_SHOWN
    more = f", and {counted(left_out, 'more class')}" if left_out > 0 else ""
    return ", ".join(pairs[:CLASSES_SHOWN]) + more
