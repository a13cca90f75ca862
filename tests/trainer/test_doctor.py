"""The checks before a run, in their order; nothing is written."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from models.config import ModelConfig
from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, doctor, tracing
from trainer.checks.examination import Examination
from trainer.checks.finding import Finding
from trainer.config import Hardware
from trainer.doctor import examine
from trainer.links import Link


def checks(config, hardware, **options) -> dict[str, str]:
    """Check -> what was found, where nothing is wrong."""
    found = list(examine(config, hardware, **options))
    assert {finding.verdict for finding in found} == {"ok"}, found
    return {finding.check: finding.found for finding in found}


def test_every_check_of_a_new_run(data_dir, tmp_path):
    found = checks(settings(data_dir, tmp_path / "run"), HARDWARE)
    assert list(found) == ["devices", "batch", "pixels", "all-reduce", "audit", "step"]
    assert found["devices"] == "CPU:0, CPU:1 (CPU)"
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
    found = checks(settings(data_dir, init_weights=str(finished.run_dir)), HARDWARE)
    state = finished.state
    assert found["weights"] == (
        f"17 of 17 variables from {finished.run_dir}, step 15, {state.fingerprint[:16]}"
    )


def test_one_replica_has_no_all_reduce(data_dir):
    found = checks(settings(data_dir), Hardware(virtual_cpus=1))
    assert list(found) == ["devices", "batch", "pixels", "audit", "step"]


@pytest.mark.parametrize("virtual_cpus", [None, 1])
def test_gpus_come_first_where_they_may_be_used(data_dir, monkeypatch, virtual_cpus):
    monkeypatch.setattr(doctor.gpus, "examine", lambda: iter([("GPU:0", "NVIDIA H100")]))
    found = examine(settings(data_dir), Hardware(virtual_cpus=virtual_cpus))
    assert next(found).check == ("GPU:0" if virtual_cpus is None else "devices")


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
    found = checks(settings(data_dir, finished.run_dir), HARDWARE)
    assert found["run"] == f"{finished.run_dir} holds this run"
    assert files() == before


def wrong(config, hardware, **options) -> tuple[list[str], Finding]:
    """The checks that are made, and the finding of the last one, which is wrong."""
    found = list(examine(config, hardware, **options))
    assert [finding.verdict for finding in found[:-1]] == ["ok"] * (len(found) - 1)
    assert found[-1].verdict == "wrong"
    return [finding.check for finding in found], found[-1]


def test_the_first_check_that_is_wrong_is_the_last(data_dir):
    made, last = wrong(settings(data_dir), Hardware(virtual_cpus=3))
    assert made == ["devices", "batch"]
    assert "do not split evenly over 3 replicas" in last.found


def test_what_training_would_refuse_is_refused(finished, data_dir):
    _, last = wrong(settings(data_dir, finished.run_dir, seed=1), HARDWARE)
    assert "--seed=1 (the run has 0)" in last.found
    nameless = replace(settings(data_dir), model=ModelConfig("resent18"))
    _, last = wrong(nameless, HARDWARE)
    assert "Did you mean resnet18" in last.found


def test_without_records_only_the_devices_are_looked_at():
    found = checks(settings(""), Hardware(virtual_cpus=2))
    assert found == {
        "devices": "CPU:0, CPU:1; with --data_dir the model and its step are looked at too"
    }
    made, last = wrong(settings(""), Hardware(gpus=64))
    assert made == ["devices"]
    assert "--gpus=64" in last.found


def test_rates_and_room_are_measured_when_asked(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.feeding, "SECONDS", 0.05)
    config = settings(data_dir, tmp_path / "run", keep_checkpoints=4)
    found = examine(config, HARDWARE, Examination(checks="all"), read_per_second=0.5)
    *_, step, rates, room = found
    assert step.check == "step"
    assert (rates.check, rates.verdict) == ("input", "warning")
    assert "only 0 records a second" in rates.found
    assert (room.check, room.verdict) == ("checkpoints", "ok")
    assert room.found.startswith("6 at a time of ")


def test_the_room_of_a_checkpoint_is_what_one_takes(finished, data_dir):
    """Within what a file format adds."""
    job = assembly.begin(settings(data_dir), HARDWARE)
    expected = doctor._checkpoint_bytes(job, tracing.training(job))
    (saved, *_) = sorted((finished.run_dir / "checkpoints").iterdir())
    files = sum(path.stat().st_size for path in saved.rglob("*") if path.is_file())
    assert files == pytest.approx(expected, rel=0.1)


def test_the_step_is_traced_for_gpus_when_asked(data_dir):
    """For more than there are, with the batch that they would give it."""
    asked = Examination(checks="run", trace_gpus=2)
    found = checks(settings(data_dir), Hardware(), examination=asked)["gpus"]
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
    asked = Examination(checks="run", trace_gpus=1)
    made, last = wrong(config, Hardware(), examination=asked)
    assert made[-2:] == ["step", "gpus"]
    assert last.found.startswith("1 operations of the step")
    assert "halved_1/PyFunc (PyFunc, float32, " in last.found
