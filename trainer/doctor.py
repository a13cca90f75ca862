"""What can be known about a run before it starts, found out in order."""

from collections.abc import Iterator

import tensorflow as tf

from input import pipeline
from trainer import assembly, audit, run_dir
from trainer.assembly import TRAIN
from trainer.config import Config, Hardware


def examine(config: Config, hardware: Hardware) -> Iterator[tuple[str, str]]:
    """Yields (check, what was found); raises the error of the first check that fails.

    Makes one step. Nothing is written: a run's folder is only compared.
    """
    first = run_dir.find(config.run.run_dir) if config.run.run_dir else None
    job = assembly.begin(config, hardware, first)
    yield "devices", f"{', '.join(job.devices)} ({job.definition.environment['device']})"
    for split, manifest in job.manifests.items():
        found = f"{manifest.records} records, {len(manifest.shards)} shards"
        yield split, f"{found}, {len(manifest.classes)} classes, {manifest.fingerprint[:16]}"
    if first is not None:
        yield "run", f"{config.run.run_dir} holds this run"
    training = assembly.training(job)
    plan, train = training.plan, training.train
    yield "batch", f"{plan.micro_batches} micro-batches of {plan.images_per_micro_batch} a step"
    iterator = assembly.micro_batches(job, plan, first_step=0)
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    walked = audit.audit(train.get_concrete_function(iterator, zero, one), job.model)
    yield (
        "audit",
        f"{walked.operations} operations from the pipeline to {', '.join(walked.layers)}, none of "
        f"which reshapes the batch, on {walked.draws} replica{'s' * (walked.draws > 1)}",
    )
    with pipeline.naming_bad_records(job.readers[TRAIN]):
        history = train(iterator, zero, one)
    yield "step", f"loss {float(history.loss[0]):.4f} on {int(history.images[0])} images"
