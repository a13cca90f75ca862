"""What every command starts from: the devices, the records and the model of a run."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import tensorflow as tf

from input import order
from input.arrays import ArrayReader
from input.config import InputConfig, ResolvedInput
from input.errors import InputError
from input.native import library
from input.reader import Reader
from input.splits import TRAIN, VALIDATION
from models.build import build_model
from trainer import data, optimizers, provenance, run_dir
from trainer.config import Config, Hardware, ResolvedConfig, ResolvedRun, RunDefinition
from trainer.data import Split
from trainer.errors import TrainerError
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
    manifests: Mapping[str, Split]  # of each split's records, of which a part may be used
    readers: dict[str, Reader]
    model: keras.Model

    @property
    def config(self) -> ResolvedConfig:
        return self.definition.config

    @property
    def compare_every(self) -> int | None:
        """Steps between two comparisons of the replicas, where they must agree to the bit."""
        several = self.strategy.num_replicas_in_sync > 1
        return self.config.run.check_replicas or None if several and self.same_bits else None

    @property
    def same_bits(self) -> bool:
        """Whether a device computes the same bits each time."""
        return self.config.run.deterministic or self.devices[0].startswith("CPU")


def begin(
    config: Config,
    hardware: Hardware,
    first: RunDefinition | None = None,
    arrays: Mapping[str, ArrayReader] | None = None,
) -> Job:
    """A new run, or, with the definition of its first launch, one to resume.

    arrays: train and validation, in place of the records of --data_dir. Raises InputError,
    ModelError or TrainerError.
    """
    if arrays:
        config = _for_arrays(config)
    manifests: Mapping[str, Split] = arrays or data.manifests(config, (TRAIN, VALIDATION))
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


def restored(
    first: RunDefinition,
    hardware: Hardware,
    *,
    split: str,
    data_dir: str = "",
    arrays: ArrayReader | None = None,
) -> Job:
    """The run of a folder, to evaluate and not to train: any number of replicas will do, and
    TensorFlow's decoder where the run's is not there. arrays: in place of the split's records."""
    inputs = _decoded_here(first.config.input)
    inputs = dataclasses.replace(inputs, data_dir=data_dir or inputs.data_dir)
    config = dataclasses.replace(first.config, input=inputs)
    manifests: Mapping[str, Split]
    manifests = data.manifests(config, (split,)) if arrays is None else {split: arrays}
    _check_records(first, manifests, inputs.data_dir)
    return _assemble(config, hardware, discovery.discover(os.environ), manifests)


def network(
    first: RunDefinition, hardware: Hardware
) -> tuple[ResolvedInput, tf.distribute.Strategy, keras.Model]:
    """The run of a folder in this process alone, to predict: without records, and with the
    decoder of `restored`; the network has its initial weights."""
    inputs, devices = _decoded_here(first.config.input), _device_names(hardware)
    strategy = _strategy(first.config.run, hardware, devices, cluster=None)
    with strategy.scope():
        model = new_model(first.config, inputs, len(first.classes), first.image_dtype)
    return inputs, strategy, model


def replayed(first: RunDefinition, hardware: Hardware, *, data_dir: str) -> Job:
    """The run of a folder, to compute steps of it again and hash each of them.

    Any records of the same kind will do, so that it can be said in what they differ.
    """
    config = dataclasses.replace(
        first.config,
        input=dataclasses.replace(
            first.config.input, data_dir=data_dir or first.config.input.data_dir
        ),
        run=dataclasses.replace(first.config.run, hash_every=1),
    )
    manifests = data.manifests(config, (TRAIN,))
    _check_records(first, manifests, config.input.data_dir)
    _check_decoder(first)
    cluster = discovery.discover(os.environ)
    job = _assemble(config, hardware, cluster, manifests, first.class_weights)
    own = provenance.recorded(job.definition, job.model, first)
    return dataclasses.replace(job, definition=own)


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


def _for_arrays(config: Config) -> Config:
    """Nothing is decoded, and no other decoder will be met. Raises InputError."""
    if config.input.validation_share:
        raise InputError(
            "--validation_share holds back records in files. Divide the arrays and give both parts."
        )
    return dataclasses.replace(
        config, input=dataclasses.replace(config.input, decoder="tensorflow")
    )


def _device_names(hardware: Hardware) -> list[str]:
    return device_names(hardware.virtual_cpus, hardware.gpus, hardware.virtual_gpus)


def _strategy(
    run: ResolvedRun, hardware: Hardware, devices: list[str], cluster: Cluster | None
) -> tf.distribute.Strategy:
    return make_strategy(
        devices,
        run.intra_op_threads,
        run.deterministic,
        cluster,
        tf32=run.tf32,
        virtual_gpus=hardware.virtual_gpus,
        gpu_memory_growth=hardware.gpu_memory_growth,
    )


def _decoded_here(inputs: ResolvedInput) -> ResolvedInput:
    """TensorFlow's decoder in place of one that was not built here."""
    decoder = inputs.decoder if library.available() else "tensorflow"
    return dataclasses.replace(inputs, decoder=decoder)


def _check_records(first: RunDefinition, manifests: Mapping[str, Split], data_dir: str) -> None:
    """Raises InputError for records that a run's model cannot be given."""
    for split, manifest in manifests.items():
        if manifest.classes != first.classes:
            raise InputError(
                f"{data_dir}/{split} has other classes than the run was trained on: "
                f"{_difference(first.classes, manifest.classes)}."
            )
        if data.image_dtype(manifest) != first.image_dtype:
            raise InputError(
                f"{data_dir}/{split} has {data.image_dtype(manifest)} pixels; the run was trained "
                f"on {first.image_dtype}."
            )


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
    manifests: Mapping[str, Split],
    class_weights: tuple[float, ...] = (),
) -> Job:
    run, devices = config.run, _device_names(hardware)
    with watchdog.connecting(run.start_seconds, cluster.addresses):
        strategy = _strategy(run, hardware, devices, cluster)
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
