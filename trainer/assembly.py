"""What every command starts from: the devices, the records and the model of a run."""

import dataclasses
import os
from dataclasses import dataclass

import keras
import tensorflow as tf

from input import order
from input.config import InputConfig, ResolvedInput
from input.manifest import Manifest
from input.native import library
from input.reader import RecordReader
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
    prepared = preflight.prepare(config, first)
    job = _assemble(
        _resolved(prepared),
        hardware,
        prepared.cluster,
        prepared.manifests,
        prepared.class_weights,
    )
    if not names.is_code(config.model.model):
        return job
    computed = graph.digest(job.model, job.config.input.micro_batch_size)
    own = provenance.recorded(job.definition, computed, first)
    return dataclasses.replace(job, definition=own)


def restored(first: RunDefinition, hardware: Hardware, *, data_dir: str, split: str) -> Job:
    """The run of a folder, to evaluate and not to train: any number of replicas will do."""
    config, manifests = preflight.evaluated(first, data_dir, split)
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


def _resolved(prepared: Prepared) -> ResolvedConfig:
    run = prepared.config.run
    run = ResolvedRun(**{**vars(run), "intra_op_threads": run.intra_op_threads or cores()})
    return ResolvedConfig(prepared.inputs, prepared.config.model, prepared.optimizer, run)


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
