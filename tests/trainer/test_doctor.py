"""The checks before a run, in their order; nothing is written."""

from dataclasses import replace

from models.config import ModelConfig
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer.config import Hardware
from trainer.doctor import examine


def test_every_check_of_a_new_run(data_dir, tmp_path):
    found = dict(examine(settings(data_dir, tmp_path / "run"), HARDWARE))
    assert list(found) == ["devices", "train", "validation", "batch", "audit", "step"]
    assert found["devices"] == "CPU:0, CPU:1 (CPU)"
    assert found["train"].startswith("160 records, 3 shards, 3 classes, ")
    assert found["validation"].startswith("43 records, ")
    assert found["batch"] == "4 micro-batches of 8 a step"
    assert found["audit"] == (
        "10 operations from the pipeline to block1_conv, none of which reshapes the batch, on 2 "
        "replicas"
    )
    assert found["step"].endswith(" on 32 images")
    assert not (tmp_path / "run").exists()


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
