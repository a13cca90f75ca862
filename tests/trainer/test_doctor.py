"""The checks before a run, in their order; nothing is written."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from models.config import ModelConfig
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer import doctor
from trainer.config import Hardware
from trainer.doctor import examine
from trainer.links import Link


def test_every_check_of_a_new_run(data_dir, tmp_path):
    found = dict(examine(settings(data_dir, tmp_path / "run"), HARDWARE))
    names = ["devices", "train", "validation", "batch", "pixels", "all-reduce", "audit", "step"]
    assert list(found) == names
    assert found["devices"] == "CPU:0, CPU:1 (CPU)"
    assert found["train"].startswith("160 records, 3 shards, 3 classes, ")
    assert found["validation"].startswith("43 records, ")
    assert found["batch"] == "4 micro-batches of 8 a step"
    assert found["pixels"] == "unit: -1..1 in float32"
    assert re.fullmatch(
        r"[\d.]+ MB in [\d.]+ ms \([\d.]+ GB/s\) over 2 devices", found["all-reduce"]
    )
    assert found["audit"] == (
        "10 operations from the pipeline to block1_conv, none of which reshapes the batch, on 2 "
        "replicas"
    )
    assert found["step"].endswith(" on 32 images")
    assert not (tmp_path / "run").exists()


def test_the_weights_that_a_new_run_starts_with_are_looked_at(finished, data_dir):
    found = dict(examine(settings(data_dir, init_weights=str(finished.run_dir)), HARDWARE))
    state = finished.state
    assert found["weights"] == (
        f"17 of 17 variables from {finished.run_dir}, step 15, {state.fingerprint[:16]}"
    )


def test_one_replica_has_no_all_reduce(data_dir):
    found = dict(examine(settings(data_dir), Hardware(virtual_cpus=1)))
    assert list(found) == ["devices", "train", "validation", "batch", "pixels", "audit", "step"]


@pytest.mark.parametrize("virtual_cpus", [None, 1])
def test_gpus_come_first_where_they_may_be_used(data_dir, monkeypatch, virtual_cpus):
    monkeypatch.setattr(doctor.gpus, "examine", lambda: iter([("GPU:0", "NVIDIA H100")]))
    checks = examine(settings(data_dir), Hardware(virtual_cpus=virtual_cpus))
    assert next(checks)[0] == ("GPU:0" if virtual_cpus is None else "devices")


@pytest.mark.parametrize(
    ("devices", "virtual_gpus", "workers", "timed"),
    [
        (["GPU:0", "GPU:1", "GPU:2"], None, 1, True),
        (["GPU:0", "GPU:1"], None, 1, False),
        (["GPU:0", "GPU:1", "GPU:2"], None, 2, False),
        (["GPU:0", "GPU:1", "GPU:2"], 3, 1, False),
        (["CPU:0", "CPU:1", "CPU:2"], None, 1, False),
    ],
)
def test_pairs_are_timed_where_each_is_two_cards(
    monkeypatch, devices, virtual_gpus, workers, timed
):
    monkeypatch.setattr(
        doctor.links, "time_pairs", lambda names, layout: iter([Link("-".join(names), 0.5)])
    )
    monkeypatch.setattr(doctor.links, "time_all", lambda strategy, layout: Link("all", 0.1))
    job = SimpleNamespace(devices=devices, workers=SimpleNamespace(count=workers), strategy=None)
    layout = SimpleNamespace(bytes=10**8)
    found = doctor._all_reduce(job, layout, Hardware(virtual_gpus=virtual_gpus))
    assert found.startswith("100 MB in 100.0 ms (1 GB/s) over all")
    assert ("slowest pair GPU:0-GPU:1-GPU:2 500.0 ms" in found) == timed


def test_a_run_that_is_there_is_compared_and_left_alone(finished, data_dir):
    def files():
        return {path: path.read_bytes() for path in finished.run_dir.rglob("*") if path.is_file()}

    before = files()
    found = dict(examine(settings(data_dir, finished.run_dir), HARDWARE))
    assert found["run"] == f"{finished.run_dir} holds this run"
    assert files() == before


def test_the_checks_before_the_one_that_fails_are_shown(data_dir):
    checks = examine(settings(data_dir), Hardware(virtual_cpus=3))
    assert [next(checks)[0] for _ in range(3)] == ["devices", "train", "validation"]
    assert "do not split evenly over 3 replicas" in error(next, checks)


def test_what_training_would_refuse_is_refused(finished, data_dir):
    other = settings(data_dir, finished.run_dir, seed=1)
    assert "--seed=1 (the run has 0)" in error(next, examine(other, HARDWARE))
    nameless = replace(settings(data_dir), model=ModelConfig("resent18"))
    assert "Did you mean resnet18" in error(next, examine(nameless, HARDWARE))


def test_the_step_is_traced_for_gpus_when_asked(data_dir):
    """For more than there are, with the batch that they would give it."""
    checks = examine(settings(data_dir), Hardware(), trace_gpus=2)
    found = dict(checks)["gpus"]
    assert found.startswith("2: no operation without a GPU kernel; at least ")
    assert "one all-reduce of int64" in found


NUMPY = """
import keras
import tensorflow as tf


class Halved(keras.layers.Layer):
    def call(self, x):
        y = tf.numpy_function(lambda y: y / 2, [tf.stop_gradient(x)], tf.float32)
        return tf.ensure_shape(y, x.shape)


def model(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(Halved()(x))
    return keras.Model(image, keras.layers.Dense(num_classes)(x))
"""


def test_an_operation_that_would_not_run_on_gpus_is_refused_when_asked(data_dir, tmp_path):
    (tmp_path / "own.py").write_text(NUMPY)
    config = replace(settings(data_dir), model=ModelConfig(f"{tmp_path}/own.py:model"))
    checks = examine(config, Hardware(), trace_gpus=1)
    before = [next(checks)[0] for _ in range(7)]
    assert before[-1] == "step"
    message = error(next, checks)
    assert message.startswith("1 operations of the step")
    assert "halved_1/PyFunc (PyFunc, float32, " in message
