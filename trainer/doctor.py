"""What can be known about a run before it starts, found out in order."""

from collections.abc import Iterator

import tensorflow as tf

from input import pipeline
from input.foundation.text import counted
from input.splits import TRAIN
from models import pixels
from trainer import assembly, audit, gpus, links, placement, run_dir, tracing, transfer
from trainer.assembly import Job
from trainer.config import Config, Hardware
from trainer.errors import TrainerError
from trainer.sums import Layout


def examine(config: Config, hardware: Hardware, trace_gpus: int = 0) -> Iterator[tuple[str, str]]:
    """Yields (check, what was found); raises the error of the first check that fails.

    trace_gpus: GPUs, here or not, to trace the step for; 0 leaves that out.
    Makes one step. Nothing is written: a run's folder is only compared.
    """
    if hardware.virtual_cpus is None:
        yield from gpus.examine()  # before TensorFlow starts them: one that it cannot use ends it
    first = run_dir.find(config.run.run_dir) if config.run.run_dir else None
    job = assembly.begin(config, hardware, first)
    yield "devices", f"{', '.join(job.devices)} ({job.definition.environment['device']})"
    for split, manifest in job.manifests.items():
        found = f"{counted(manifest.records, 'record')}, {counted(len(manifest.shards), 'shard')}"
        yield split, f"{found}, {len(manifest.classes)} classes, {manifest.fingerprint[:16]}"
    if first is not None:
        yield "run", f"{config.run.run_dir} holds this run"
    elif transferred := transfer.transfer(job, first):
        yield from transferred.rows()
    training = tracing.training(job)
    plan, train = training.plan, training.train
    micro_batches = counted(plan.micro_batches, "micro-batch")
    yield "batch", f"{micro_batches} of {plan.images_per_micro_batch} a step"
    yield "pixels", pixels.shown(job.model)
    if job.strategy.num_replicas_in_sync > 1:
        yield "all-reduce", _all_reduce(job, training.micro_batch.layout, hardware)
    iterator = tracing.micro_batches(job, plan, first_step=0)
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    walked = audit.audit(tracing.trace(training, iterator), job.model)
    yield (
        "audit",
        f"{counted(walked.operations, 'operation')} from the pipeline to "
        f"{', '.join(walked.layers)}, none of which reshapes the batch, on "
        f"{counted(walked.draws, 'replica')}",
    )
    with pipeline.naming_bad_records(job.readers[TRAIN]):
        history = train(iterator, zero, one)
    yield "step", f"loss {float(history.loss[0]):.4f} on {int(history.images[0])} images"
    if trace_gpus:
        inputs = config.input if first is None else job.config.input
        yield "gpus", _on_gpus(assembly.on_gpus(job, inputs, trace_gpus))


def _on_gpus(job: assembly.Job) -> str:
    """How the step would run on a job's GPUs. Raises TrainerError where a part of it would not."""
    training = tracing.training(job)
    iterator = tracing.micro_batches(job, training.plan, first_step=0)
    found = placement.examine(tracing.trace(training, iterator), len(job.devices))
    wrong = [*found.without_kernel, *found.on_host, *found.batch]
    if wrong:
        raise TrainerError(
            f"{len(wrong)} operations of the step have no GPU kernel for their types, leave their "
            f"result in host memory or move the batch: {'; '.join(wrong[:5])}. Replace them in "
            "the model, or train on CPUs."
        )
    kernels = found.kernels
    return (
        f"{len(job.devices)}: no operation without a GPU kernel; at least {kernels.model} kernels "
        f"of the model and {kernels.ours} others per micro-batch, {kernels.optimizer} of the "
        f"optimizer and {kernels.ours_per_step} others per step; {len(found.host_copies)} waits "
        f"of the host; one all-reduce of {', '.join(found.reductions)}; "
        f"{found.layout_transposes} transposes to NCHW and back"
    )


def _all_reduce(job: Job, layout: Layout, hardware: Hardware) -> str:
    pairs = []
    cards = job.devices[0].startswith("GPU") and hardware.virtual_gpus is None
    # What joins two replicas of one CPU or GPU is its memory; other workers' GPUs are not ours.
    if cards and len(job.devices) > 2 and job.workers.count == 1:
        pairs = list(links.time_pairs(job.devices, layout))
    return links.summary(links.time_all(job.strategy, layout), pairs, layout.bytes)
