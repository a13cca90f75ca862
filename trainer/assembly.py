"""What every command starts from: the devices, the records and the model of a run."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from input import order, pipeline
from input.config import InputConfig, ResolvedInput
from input.errors import InputError
from input.manifest import Manifest
from input.native import library
from input.order import Plan
from input.reader import RecordReader
from input.splits import TRAIN, VALIDATION
from models.build import build_model
from models.inspection import assigned_variables
from trainer import data, internals, optimizers, provenance, run_dir, step
from trainer.averages import Averages
from trainer.config import Config, Hardware, ResolvedConfig, ResolvedRun, RunDefinition
from trainer.errors import TrainerError
from trainer.loss_scale import LossScale
from trainer.micro_batch import MicroBatch
from trainer.workers import discovery, watchdog
from trainer.workers.agreement import Workers
from trainer.workers.discovery import Cluster
from trainer.workers.strategy import cores, device_kind, device_names, make_strategy


@dataclass(frozen=True)
class Job:
    """What a run's definition and this launch's hardware are made into."""

    definition: RunDefinition
    devices: list[str]  # of this worker
    workers: Workers
    strategy: tf.distribute.Strategy
    manifests: dict[str, Manifest]  # of each split's records, of which a part may be used
    readers: dict[str, RecordReader]
    model: keras.Model

    @property
    def config(self) -> ResolvedConfig:
        return self.definition.config

    @property
    def compare_every(self) -> int | None:
        """Steps between two comparisons of the replicas, where they must agree to the bit."""
        run = self.config.run
        same_bits = run.deterministic or self.devices[0].startswith("CPU")
        several = self.strategy.num_replicas_in_sync > 1
        return run.check_replicas or None if several and same_bits else None


def begin(config: Config, hardware: Hardware, first: RunDefinition | None = None) -> Job:
    """A new run, or, with the definition of its first launch, one to resume.

    Raises InputError, ModelError or TrainerError.
    """
    manifests = data.manifests(config, (TRAIN, VALIDATION))
    trained, validated = (manifests[split].classes for split in (TRAIN, VALIDATION))
    if trained != validated:
        raise InputError(
            f"{config.input.data_dir}: train and validation differ in their classes: "
            f"{_difference(trained, validated)}. Write both with one samestep-records write."
        )
    if len({data.image_dtype(manifest) for manifest in manifests.values()}) > 1:
        raise InputError(
            f"{config.input.data_dir}: train has {data.image_dtype(manifests[TRAIN])} pixels and "
            f"validation {data.image_dtype(manifests[VALIDATION])}. Write both in the same way."
        )
    if first is not None:
        config = run_dir.fill_in(config, first.config)
        run_dir.check_same(first, config, data.fingerprints(manifests))
        _check_decoder(first)
    cluster = discovery.discover(os.environ)
    inputs = order.resolve(config.input, manifests[TRAIN].image_size)
    weights = data.class_weights(config.optimizer.class_weights, manifests[TRAIN])
    if first is not None and first.class_weights != weights:
        raise TrainerError(
            f"--class_weights={config.optimizer.class_weights} holds other weights than when the "
            "run began. Put them back, or start in another --run_dir."
        )
    job = _assemble(_resolved(config, inputs), hardware, cluster, manifests, weights)
    own = provenance.recorded(job.definition, job.model, first)
    return dataclasses.replace(job, definition=own)


def restored(first: RunDefinition, hardware: Hardware, *, data_dir: str, split: str) -> Job:
    """The run of a folder, to evaluate and not to train: any number of replicas will do, and
    TensorFlow's decoder where the run's is not there."""
    config = first.config
    inputs = dataclasses.replace(
        config.input,
        data_dir=data_dir or config.input.data_dir,
        decoder=config.input.decoder if library.available() else "tensorflow",
    )
    config = dataclasses.replace(config, input=inputs)
    manifests = data.manifests(config, (split,))
    if manifests[split].classes != first.classes:
        raise InputError(
            f"{inputs.data_dir}/{split} has other classes than the run was trained on: "
            f"{_difference(first.classes, manifests[split].classes)}."
        )
    if data.image_dtype(manifests[split]) != first.image_dtype:
        raise InputError(
            f"{inputs.data_dir}/{split} has {data.image_dtype(manifests[split])} pixels; the "
            f"run was trained on {first.image_dtype}."
        )
    return _assemble(config, hardware, discovery.discover(os.environ), manifests)


def on_gpus(job: Job, inputs: InputConfig, gpus: int) -> Job:
    """The job as one worker with so many GPUs would have it: to be traced, not run.

    Raises InputError where its batch does not fit them.
    """
    devices = [f"GPU:{i}" for i in range(gpus)]
    first = next(iter(job.manifests.values()))
    resolved = order.resolve(inputs, first.image_size)
    config = dataclasses.replace(job.config, input=resolved)
    # Not make_strategy: TensorFlow has started, and the GPUs of this machine stay as they are.
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        model = new_model(config, resolved, len(first.classes), job.definition.image_dtype)
    return dataclasses.replace(
        job,
        definition=dataclasses.replace(job.definition, config=config),
        devices=devices,
        workers=Workers(strategy, 0, 1),
        strategy=strategy,
        model=model,
    )


@dataclass(frozen=True)
class Training:
    """A job's step, and what it is made of."""

    plan: Plan
    schedule: optimizers.Schedule
    optimizer: keras.optimizers.Optimizer
    micro_batch: MicroBatch
    averages: Averages | None
    train: step.Train


def training(job: Job) -> Training:
    """The step of a job. Raises InputError where its batch does not fit its devices."""
    config = job.config
    replicas = job.strategy.num_replicas_in_sync
    plan = order.plan(config.input, job.readers[TRAIN].records, replicas)
    order.local_replicas(plan, job.workers.count)
    schedule = optimizers.build_schedule(config.optimizer, plan.steps_per_epoch, config.run.epochs)
    with job.strategy.scope():
        optimizer = optimizers.build_optimizer(config.optimizer, job.model)
        loss_scale = LossScale() if config.run.precision == "float16" else None
        its_micro_batch = micro_batch(
            job.model, plan, config, job.definition.class_weights, loss_scale
        )
    averages = averages_of(job.model, config, job.strategy)
    train = step.build_train(
        job.strategy,
        its_micro_batch,
        optimizer,
        schedule,
        clip_norm=config.optimizer.clip_norm,
        averages=averages,
    )
    return Training(plan, schedule, optimizer, its_micro_batch, averages, train)


def averages_of(
    model: keras.Model, config: ResolvedConfig, strategy: tf.distribute.Strategy
) -> Averages | None:
    """Of what training changes in a model; None where --ema_decay asks for none."""
    if not config.optimizer.ema_decay:
        return None
    assigned = assigned_variables(model, config.input.micro_batch_size)
    statistics = [v for v in assigned if not internals.is_seed(v)]
    with strategy.scope():
        return Averages(
            strategy, [*model.trainable_variables, *statistics], config.optimizer.ema_decay
        )


def micro_batch(
    model: keras.Model,
    plan: Plan,
    config: Config,
    class_weights: Sequence[float] = (),
    loss_scale: LossScale | None = None,
) -> MicroBatch:
    """What a micro-batch of a run computes. Raises ModelError, TrainerError."""
    return MicroBatch(
        model,
        statistics=statistics(model, plan),
        images_per_step=plan.images_per_step,
        micro_batches=plan.micro_batches,
        seed=config.run.seed,
        label_smoothing=config.optimizer.label_smoothing,
        reduction=config.run.reduction,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )


def statistics(model: keras.Model, plan: Plan) -> list[keras.Variable]:
    """The moving statistics that a model assigns in training. Raises ModelError."""
    assigned = assigned_variables(model, plan.images_per_micro_batch)
    return [variable for variable in assigned if not internals.is_seed(variable)]


def micro_batches(job: Job, plan: Plan, first_step: int) -> Iterator[Any]:
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
                worker_count=job.workers.count,
            )
        )
    )


def trace(training: Training, iterator: Iterator[Any]) -> Any:
    """The concrete function of a step, whatever its numbers."""
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    return training.train.get_concrete_function(iterator, zero, one)


def new_model(config: Config, inputs: ResolvedInput, classes: int, dtype: str) -> keras.Model:
    """The run's network with its initial weights; dtype: of the records' pixels."""
    return build_model(
        config.model,
        input_shape=(inputs.image_size, inputs.image_size, 3),
        num_classes=classes,
        input_dtype=dtype,
        precision=config.run.precision,
        seed=config.run.seed,
    )


def _device_names(hardware: Hardware) -> list[str]:
    return device_names(hardware.virtual_cpus, hardware.gpus, hardware.virtual_gpus)


def _check_decoder(first: RunDefinition) -> None:
    """Raises InputError where a run would go on with pixels that another decoder has made."""
    before, decoder = first.environment["decoder"], first.config.input.decoder
    if (now := library.version(decoder)) != before:
        raise InputError(
            f"The run's images were decoded by {before}, and here is {now}: some pixels would "
            "differ. Go on where that is, or begin another run; --decoder=tensorflow depends on "
            "TensorFlow's version alone."
        )


def _difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    only = [sorted(set(a) - set(b)) for a, b in ((first, second), (second, first))]
    return f"only in the first {only[0]}, only in the second {only[1]}"


def _resolved(config: Config, inputs: ResolvedInput) -> ResolvedConfig:
    threads = config.run.intra_op_threads or cores()
    run = ResolvedRun(**{**vars(config.run), "intra_op_threads": threads})
    optimizer = optimizers.resolve(config.optimizer, inputs.global_batch_size, run.epochs)
    return ResolvedConfig(inputs, config.model, optimizer, run)


def _assemble(
    config: ResolvedConfig,
    hardware: Hardware,
    cluster: Cluster,
    manifests: dict[str, Manifest],
    class_weights: tuple[float, ...] = (),
) -> Job:
    run, devices = config.run, _device_names(hardware)
    with watchdog.connecting(run.start_seconds, cluster.addresses):
        strategy = make_strategy(
            devices,
            run.intra_op_threads,
            run.deterministic,
            cluster,
            tf32=run.tf32,
            virtual_gpus=hardware.virtual_gpus,
            gpu_memory_growth=hardware.gpu_memory_growth,
        )
    first = next(iter(manifests.values()))
    definition = RunDefinition(
        config=config,
        classes=first.classes,
        data=data.fingerprints(manifests),
        environment={
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "device": device_kind(devices),
            "decoder": library.version(config.input.decoder),
        },
        image_dtype=data.image_dtype(first),
        class_weights=class_weights,
    )
    with strategy.scope():
        model = new_model(config, config.input, len(first.classes), definition.image_dtype)
    return Job(
        definition=definition,
        devices=devices,
        workers=Workers(strategy, cluster.index, len(cluster.addresses)),
        strategy=strategy,
        manifests=manifests,
        readers={
            split: data.reader(config, split, manifest) for split, manifest in manifests.items()
        },
        model=model,
    )
