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
from input.native import library
from input.reader import Reader
from models import graph, names
from models.build import build_model
from trainer import data, preflight, provenance
from trainer.config import (
    PROCESSOR,
    Config,
    Hardware,
    ResolvedConfig,
    ResolvedRun,
    RunDefinition,
)
from trainer.data import Split
from trainer.preflight import Prepared
from trainer.workers import discovery, watchdog
from trainer.workers.agreement import Workers
from trainer.workers.discovery import Cluster
from trainer.workers.strategy import (
    cores,
    device_kind,
    device_names,
    make_strategy,
    processor,
)


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
    prepared = preflight.prepare(config, first, arrays)
    job = _assemble(
        _resolved(prepared),
        hardware,
        prepared.cluster,
        prepared.manifests,
        prepared.class_weights,
    )
    return _with_provenance(job, first)


def restored(
    first: RunDefinition,
    hardware: Hardware,
    *,
    split: str,
    data_dir: str = "",
    arrays: ArrayReader | None = None,
) -> Job:
    """The run of a folder, to evaluate and not to train: any number of replicas will do.

    arrays: in place of the split's records.
    """
    config, manifests = preflight.evaluated(first, data_dir, split, arrays)
    return _assemble(config, hardware, discovery.discover(os.environ), manifests)


def network(
    first: RunDefinition, hardware: Hardware
) -> tuple[ResolvedInput, tf.distribute.Strategy, keras.Model]:
    """The run of a folder in this process alone, to predict: without records, and with the
    decoder of `restored`; the network has its initial weights."""
    inputs = preflight.decoded_here(first.config.input)
    devices = _device_names(hardware)
    strategy = _strategy(first.config.run, hardware, devices, cluster=None)
    with strategy.scope():
        model = new_model(first.config, inputs, len(first.classes), first.image_dtype)
    return inputs, strategy, model


def replayed(first: RunDefinition, hardware: Hardware, *, data_dir: str) -> Job:
    """The run of a folder, to compute steps of it again and hash each of them.

    Any records of the same kind will do, so that it can be said in what they differ.
    """
    config, manifests = preflight.replayed(first, data_dir)
    cluster = discovery.discover(os.environ)
    job = _assemble(config, hardware, cluster, manifests, first.class_weights)
    return _with_provenance(job, first)


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


def _with_provenance(job: Job, first: RunDefinition | None) -> Job:
    """A job that knows what a model of the user's own code computes."""
    if not names.is_code(job.config.model.model):
        return job
    computed = graph.digest(job.model, job.config.input.micro_batch_size)
    own = provenance.recorded(job.definition, computed, first)
    return dataclasses.replace(job, definition=own)


def _resolved(prepared: Prepared) -> ResolvedConfig:
    run = prepared.config.run
    run = ResolvedRun(**{**vars(run), "intra_op_threads": run.intra_op_threads or cores()})
    return ResolvedConfig(prepared.inputs, prepared.config.model, prepared.optimizer, run)


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
            PROCESSOR: processor(),
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
