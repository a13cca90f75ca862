"""What every deed starts from: the devices, the records and the model of a run."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

import models.build
from input import order, pipeline
from input.errors import InputError
from input.manifest import Manifest
from input.order import Plan
from input.reader import RecordReader
from trainer import cluster, config, environment, optimizers, step, watchdog
from trainer.agreement import Workers
from trainer.config import Config, Hardware, Stored

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class Job:
    """Everything that a launch needs and that config.json or the machine decides."""

    config: Config  # complete: nothing is unset
    devices: list[str]  # of this worker
    workers: Workers
    strategy: tf.distribute.Strategy
    manifests: dict[str, Manifest]
    classes: tuple[str, ...]
    readers: dict[str, RecordReader]
    model: keras.Model
    data: dict[str, str]  # split -> fingerprint
    environment: dict[str, str]
    image_dtype: str  # of the records' pixels


def begin(settings: Config, hardware: Hardware, stored: Stored | None = None) -> Job:
    """A new run, or, with what its directory says, one to go on with.

    Raises InputError, ModelError or TrainerError.
    """
    manifests = _manifests(settings, (TRAIN, VALIDATION))
    trained, validated = (manifests[split].classes for split in (TRAIN, VALIDATION))
    if trained != validated:
        raise InputError(
            f"{settings.input.data_dir}: train and validation differ in their classes: "
            f"{_difference(trained, validated)}. Write both with one samestep-records write."
        )
    if len({_image_dtype(manifest) for manifest in manifests.values()}) > 1:
        raise InputError(
            f"{settings.input.data_dir}: train has {_image_dtype(manifests[TRAIN])} pixels and "
            f"validation {_image_dtype(manifests[VALIDATION])}. Write both in the same way."
        )
    devices = cluster.devices(hardware.virtual_cpus, hardware.gpus)
    data = {split: manifest.fingerprint for split, manifest in manifests.items()}
    if stored is not None:
        settings = config.fill_in(settings, stored.config)
        config.check_same(stored, settings, data)
    workers = environment.find(os.environ)
    replicas = len(devices) * len(workers.addresses)
    inputs = order.resolve(settings.input, manifests[TRAIN].image_size, replicas)
    threads = settings.run.intra_op_threads or cluster.cores()
    settings = dataclasses.replace(
        settings,
        input=inputs,
        run=dataclasses.replace(settings.run, intra_op_threads=threads),
    )
    return _assemble(settings, devices, workers, manifests)


def restored(stored: Stored, hardware: Hardware, *, data_dir: str, split: str) -> Job:
    """The run of a directory, to look at and not to train: any number of replicas will do."""
    settings = stored.config
    settings = dataclasses.replace(
        settings,
        input=dataclasses.replace(settings.input, data_dir=data_dir or settings.input.data_dir),
    )
    manifests = _manifests(settings, (split,))
    if manifests[split].classes != stored.classes:
        raise InputError(
            f"{settings.input.data_dir}/{split} has other classes than the run was trained on: "
            f"{_difference(stored.classes, manifests[split].classes)}."
        )
    if _image_dtype(manifests[split]) != stored.image_dtype:
        raise InputError(
            f"{settings.input.data_dir}/{split} has {_image_dtype(manifests[split])} pixels; the "
            f"run was trained on {stored.image_dtype}."
        )
    devices = cluster.devices(hardware.virtual_cpus, hardware.gpus)
    return _assemble(settings, devices, environment.find(os.environ), manifests)


@dataclass(frozen=True)
class Training:
    """A job's step, and what it is made of."""

    plan: Plan
    rate: optimizers.Schedule
    optimizer: keras.optimizers.Optimizer
    train: Callable[..., step.History]


def training(job: Job) -> Training:
    """The step of a job. Raises InputError where its batch does not fit its devices."""
    settings = job.config
    replicas = job.strategy.num_replicas_in_sync
    plan = order.plan(settings.input, job.readers[TRAIN].records, replicas)
    order.local_replicas(plan, job.workers.count)
    rate = optimizers.schedule(settings.optimizer, plan.steps_per_epoch, settings.run.epochs)
    with job.strategy.scope():
        optimizer = optimizers.build(settings.optimizer, job.model)
    train = step.build_train(
        job.strategy,
        job.model,
        optimizer,
        rate,
        images_per_step=plan.images_per_step,
        micro_batches=plan.micro_batches,
        seed=settings.run.seed,
        label_smoothing=settings.optimizer.label_smoothing,
        clip_norm=settings.optimizer.clip_norm,
        reduction=settings.run.reduction,
    )
    return Training(plan, rate, optimizer, train)


def micro_batches(job: Job, plan: Plan, first_step: int) -> Iterator:
    """A distributed iterator over the training micro-batches from a step on."""
    return iter(
        job.strategy.distribute_datasets_from_function(
            lambda _: pipeline.train(
                job.config.input,
                job.readers[TRAIN],
                plan,
                seed=job.config.run.seed,
                first_step=first_step,
                worker=job.workers.index,
                workers=job.workers.count,
            )
        )
    )


def build_model(settings: Config, num_classes: int, image_dtype: str) -> keras.Model:
    """The run's network with its initial weights."""
    size = settings.input.image_size
    return models.build.build(
        settings.model,
        input_shape=(size, size, 3),
        num_classes=num_classes,
        input_dtype=image_dtype,
        precision=settings.run.precision,
        seed=settings.run.seed,
    )


def _manifests(settings: Config, splits: Iterable[str]) -> dict[str, Manifest]:
    data_dir = settings.input.data_dir
    if not data_dir:
        raise InputError(
            "--data_dir is missing: the folder that samestep-records write --out=DIR has made."
        )
    verify = settings.input.max_bad_records == 0
    return {split: Manifest.load(Path(data_dir) / split, verify) for split in splits}


def _image_dtype(manifest: Manifest) -> str:
    return manifest.schema.raw_dtype or "uint8"


def _difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    only = [sorted(set(a) - set(b)) for a, b in ((first, second), (second, first))]
    return f"only in the first {only[0]}, only in the second {only[1]}"


def _assemble(
    settings: Config,
    devices: list[str],
    workers: environment.Cluster,
    manifests: dict[str, Manifest],
) -> Job:
    run = settings.run
    with watchdog.assembling(run.start_seconds, workers.addresses):
        strategy = cluster.strategy(devices, run.intra_op_threads, run.deterministic, workers)
    first = next(iter(manifests.values()))
    classes, image_dtype = first.classes, _image_dtype(first)
    with strategy.scope():
        model = build_model(settings, len(classes), image_dtype)
    return Job(
        config=settings,
        devices=devices,
        workers=Workers(strategy, workers.index, len(workers.addresses)),
        strategy=strategy,
        manifests=manifests,
        classes=classes,
        readers={
            split: RecordReader(manifest, settings.input.max_bad_records)
            for split, manifest in manifests.items()
        },
        model=model,
        data={split: manifest.fingerprint for split, manifest in manifests.items()},
        environment={
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "device": cluster.kind(devices),
        },
        image_dtype=image_dtype,
    )
