"""What can be known about a run before it starts, found out in order."""

import time
from collections.abc import Iterator

import tensorflow as tf

from input import pipeline
from input.foundation.errors import UserError
from input.foundation.text import counted
from input.splits import TRAIN
from models import pixels
from trainer import assembly, audit, gpus, links, placement, run_dir, tracing, transfer
from trainer.assembly import Job
from trainer.checks import feeding, space
from trainer.checks.examination import Examination
from trainer.checks.finding import Finding, wrong
from trainer.config import Config, Hardware
from trainer.errors import TrainerError
from trainer.sums import Layout
from trainer.tracing import Training
from trainer.workers import strategy

NOTHING = Examination(checks="run")


def examine(
    config: Config,
    hardware: Hardware,
    examination: Examination = NOTHING,
    read_per_second: float | None = None,
) -> Iterator[Finding]:
    """Yields what is found, up to the first that is wrong; without records only the devices.

    read_per_second: records, as trainer.checks.reading has measured; None: not known. Makes one
    step, and more where rates are measured. Nothing is written: a run's folder is only compared.
    """
    begun: list[str] = []  # the check that is being made stands last
    try:
        yield from _examine(config, hardware, examination, read_per_second, begun)
    except UserError as error:
        yield wrong(begun[-1], error)


def _examine(
    config: Config,
    hardware: Hardware,
    examination: Examination,
    read_per_second: float | None,
    begun: list[str],
) -> Iterator[Finding]:
    def ok(found: str) -> Finding:
        return Finding(begun[-1], "ok", found)

    if hardware.virtual_cpus is None:
        begun.append("driver")
        for check, found in gpus.examine():  # before TensorFlow starts them: one may end it
            yield Finding(check, "ok", found)
    begun.append("devices")
    if not config.input.data_dir:
        asked = (hardware.virtual_cpus, hardware.gpus, hardware.virtual_gpus)
        devices = ", ".join(strategy.device_names(*asked))
        yield ok(f"{devices}; with --data_dir the model and its step are looked at too")
        return
    first = run_dir.find(config.run.run_dir) if config.run.run_dir else None
    job = assembly.begin(config, hardware, first)
    yield ok(f"{', '.join(job.devices)} ({job.definition.environment['device']})")
    begun.append("run")
    if first is not None:
        yield ok(f"{config.run.run_dir} holds this run")
    elif transferred := transfer.transfer(job, first):
        for check, found in transferred.rows():
            yield Finding(check, "ok", found)
    begun.append("batch")
    training = tracing.training(job)
    plan, train = training.plan, training.train
    micro_batches = counted(plan.micro_batches, "micro-batch")
    yield ok(f"{micro_batches} of {plan.images_per_micro_batch} a step")
    begun.append("pixels")
    yield ok(pixels.shown(job.model))
    if job.strategy.num_replicas_in_sync > 1:
        begun.append("all-reduce")
        yield ok(_all_reduce(job, training.micro_batch.layout, hardware))
    begun.append("audit")
    iterator = tracing.micro_batches(job, plan, first_step=0)
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    walked = audit.audit(tracing.trace(training, iterator), job.model)
    yield ok(
        f"{counted(walked.operations, 'operation')} from the pipeline to "
        f"{', '.join(walked.layers)}, none of which reshapes the batch, on "
        f"{counted(walked.draws, 'replica')}"
    )
    begun.append("step")
    start = time.perf_counter()
    with pipeline.naming_bad_records(job.readers[TRAIN]):
        history = train(iterator, zero, one)
    yield ok(f"loss {float(history.loss[0]):.4f} on {int(history.images[0])} images")
    if examination.checks == "all":
        seconds = time.perf_counter() - start
        with pipeline.naming_bad_records(job.readers[TRAIN]):
            rates = feeding.measure(job, training, seconds, read_per_second)
        yield feeding.judge(rates, strategy.cores())
        if config.run.run_dir:
            kept = config.run.keep_checkpoints
            yield space.checkpoints(config.run.run_dir, _checkpoint_bytes(job, training), kept)
    if examination.trace_gpus:
        begun.append("gpus")
        inputs = config.input if first is None else job.config.input
        yield ok(_on_gpus(assembly.on_gpus(job, inputs, examination.trace_gpus)))


def _checkpoint_bytes(job: Job, training: Training) -> int:
    variables = [*job.model.variables, *training.optimizer.variables]
    if training.averages:
        variables += training.averages.layer.variables
    return sum(tf.size(v.value).numpy().item() * tf.as_dtype(v.dtype).size for v in variables)


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
