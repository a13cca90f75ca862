"""What the plan says is what a run does, where that can be measured."""

import math
from dataclasses import replace

import pytest
import tensorflow as tf

from input import order, pipeline
from input.config import ResolvedInput
from input.errors import InputError
from input.manifest import Manifest, load_index
from input.reader import RecordReader
from models.config import ModelConfig
from tests.conftest import THREADS, error
from trainer import assembly, tracing
from trainer.config import Config, Hardware, RunConfig
from trainer.forecast import forecast, rows
from trainer.recipe import OptimizerConfig

INPUT = ResolvedInput(global_batch_size=32, micro_batch_size=8, image_size=16)


def settings(data_dir, **run) -> Config:
    inputs = replace(INPUT, data_dir=str(data_dir))
    return Config(inputs, ModelConfig("cnn"), OptimizerConfig(), RunConfig(epochs=3, **run))


def test_reading_and_index_are_what_the_workers_read(data_dir):
    found = forecast(settings(data_dir), workers=2, replicas_per_worker=2)
    assert (found.plan.steps_per_epoch, found.total_steps) == (5, 15)
    read = []
    for worker in range(2):
        reader = RecordReader(Manifest.load(data_dir / "train"))
        draws = found.plan.draws_per_step * 2
        for draw in range(5 * draws):  # an epoch
            step, micro_batch = order.micro_batch(draw, found.plan, worker, worker_count=2)
            reader.read(order.training_records(step, micro_batch, found.plan, seed=0)[1])
        read.append(reader.bytes_read)
    assert sum(read) == pytest.approx(found.read_bytes_per_step * 2 * 5, rel=1e-9)  # 160 = 5 x 32
    sizes = 0
    for split in ("train", "validation"):
        index = load_index(Manifest.load(data_dir / split))
        sizes += index.offsets.nbytes + index.lengths.nbytes + index.checksums.nbytes
    assert found.index_bytes == sizes


def test_images_on_their_way_are_the_pipelines_elements(data_dir):
    found = forecast(settings(data_dir))
    manifest = Manifest.load(data_dir / "train")
    dataset = pipeline.train(INPUT, RecordReader(manifest), found.plan, seed=0)
    image = dataset.element_spec[0]
    one = math.prod(image.shape) * image.dtype.size
    stored = sum(shard.bytes for shard in manifest.shards) / manifest.records * 8
    assert found.waiting_bytes == (pipeline.PARALLEL + pipeline.READY) * (one + stored)


@pytest.mark.parametrize("reduction", ["exact", "fast"])
def test_the_all_reduce_is_that_of_the_traced_step(data_dir, reduction, monkeypatch):
    chosen = settings(data_dir, reduction=reduction, intra_op_threads=THREADS)
    found = forecast(chosen, workers=1, replicas_per_worker=2)
    seen = []

    def all_reduce(self, operation, value, original=tf.distribute.ReplicaContext.all_reduce):
        seen.append(sum(math.prod(each.shape) * each.dtype.size for each in tf.nest.flatten(value)))
        return original(self, operation, value)

    job = assembly.begin(chosen, Hardware(virtual_cpus=2))
    training = tracing.training(job)
    iterator = tracing.micro_batches(job, training.plan, 0)
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    monkeypatch.setattr(tf.distribute.ReplicaContext, "all_reduce", all_reduce)
    training.train.get_concrete_function(iterator, zero, one)
    assert seen == [found.reduced_bytes] * 2  # once on each replica
    assert found.parameters == sum(math.prod(v.shape) for v in job.model.trainable_variables)


def test_times_add_up(data_dir):
    found = forecast(
        settings(data_dir),
        workers=4,
        replicas_per_worker=1,
        images_per_second=80.0,
        bandwidth_gigabits=1.0,
    )
    assert found.compute_seconds == 8 / 80
    assert found.ring_seconds == pytest.approx(2 * 3 / 4 * found.reduced_bytes * 8 / 1e9)
    assert found.step_seconds == 0.1 + found.ring_seconds
    shown = dict(rows(found))
    assert shown["replicas"] == "4 = 4 workers x 1; the same result on 1, 2 or 4 replicas"
    assert shown["steps"] == "5 an epoch, 15 in all"
    efficiency = 0.1 / (0.1 + found.ring_seconds)
    assert 0.5 < efficiency < 0.99
    said = f"{efficiency:.0%} of 4 replicas without communication"
    assert shown["efficiency"] == said


def test_what_is_not_known_is_not_shown(data_dir):
    """One worker sends nothing to others; without a replica's rate there are no times."""
    found = forecast(settings(data_dir))
    assert (found.ring_seconds, found.compute_seconds, found.step_seconds) == (0, None, None)
    shown = dict(rows(found))
    assert shown["time"] == "unknown: --images_per_second of one replica is not set"
    assert not {"ring", "efficiency"} & shown.keys()


def test_missing_records_are_named():
    assert error(forecast, settings("")).startswith("--data_dir is missing: the folder that")


def test_what_does_not_divide_is_refused_as_training_would(data_dir):
    with pytest.raises(InputError, match="do not split evenly over 3 replicas"):
        forecast(settings(data_dir), workers=3)
