"""What is refused before TensorFlow is loaded, and that nothing else is.

tests/scripts/test_doorway.py sees it refused by the commands.
"""

import dataclasses
import json

import pytest

from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer import preflight, run_dir
from trainer.config import Hardware


def changed(config, group, **changes):
    return dataclasses.replace(
        config, **{group: dataclasses.replace(getattr(config, group), **changes)}
    )


def test_a_run_that_can_begin_passes_and_leaves_no_trace(data_dir, tmp_path):
    config = settings(data_dir, tmp_path / "new")
    assert preflight.check_training(config, HARDWARE).addresses == ("",)
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_finished_can_go_on_be_evaluated_and_exported(finished, data_dir, tmp_path):
    preflight.check_training(settings(data_dir, finished.run_dir), HARDWARE)
    first = run_dir.load(finished.run_dir)
    assert preflight.trained(finished.run_dir, "", "auto") == first
    assert preflight.exported(finished.run_dir, tmp_path / "out", "", "trained") == first
    config, manifests = preflight.evaluated(first, "", "train")
    assert (config, set(manifests)) == (first.config, {"train"})


def test_the_largest_micro_batch_is_found_later(data_dir):
    config = changed(settings(data_dir), "input", micro_batch_size="auto")
    preflight.check(config, Hardware(virtual_cpus=32))
    resumed = changed(settings(data_dir), "input", micro_batch_size=8)
    assert "over 3 replicas" in error(preflight.check, resumed, Hardware(virtual_cpus=3))


def test_a_folder_that_is_in_use_is_refused(finished, data_dir):
    config = settings(data_dir, finished.run_dir)
    with run_dir.lock(finished.run_dir):
        assert "Another process trains in" in error(preflight.check_training, config, HARDWARE)
    preflight.check_training(config, HARDWARE)


def test_a_run_does_not_write_between_records_or_images(data_dir, tmp_path):
    for folder in (data_dir, data_dir / "run"):
        said = error(preflight.check_training, settings(data_dir, folder), HARDWARE)
        assert said.startswith(f"--run_dir={folder} is in --data_dir={data_dir}, and a run would ")
    images = data_dir.parent / "images"
    said = error(preflight.check_training, settings(data_dir, images), HARDWARE)
    assert said.startswith(f"--run_dir={images} holds images, and a run would write between what")
    (tmp_path / "notes.txt").touch()
    preflight.check_training(settings(data_dir, tmp_path), HARDWARE)


def test_only_the_first_worker_asks_for_the_lock(finished, data_dir, monkeypatch):
    addresses = ["a:1", "b:1"]
    worker = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(worker))
    with run_dir.lock(finished.run_dir):
        cluster = preflight.check_training(settings(data_dir, finished.run_dir), Hardware())
    assert (cluster.index, cluster.addresses) == (1, tuple(addresses))


def test_a_part_of_a_run_is_refused(data_dir, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    config = settings(data_dir, tmp_path)
    assert "holds a part of a run" in error(preflight.check_training, config, HARDWARE)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("imagenet", "there are none for --model=cnn"),
        ("none.weights.h5", "--init_weights=none.weights.h5 is no file."),
        ("nowhere", "--init_weights=nowhere holds no run"),
    ],
)
def test_initial_weights_that_are_not_there_are_refused(data_dir, asked, said):
    assert said in error(preflight.check, settings(data_dir, init_weights=asked), HARDWARE)


def test_initial_weights_of_a_run_are_found(finished, data_dir):
    config = settings(data_dir, init_weights=str(finished.run_dir))
    preflight.check(config, HARDWARE)
    found = preflight.check_initial_weights(config.run, "cnn")
    assert found == run_dir.load(finished.run_dir)


def test_averages_that_a_run_has_not_are_refused(finished):
    said = error(preflight.trained, finished.run_dir, "", "averaged")
    assert said.endswith("has no averages of its weights: --ema_decay was 0. Leave --weights out.")


def test_a_folder_that_is_there_is_no_place_for_an_export(finished, tmp_path):
    said = error(preflight.exported, finished.run_dir, tmp_path, "", "auto")
    assert said == f"--out={tmp_path} exists already. Remove it, or choose another folder."


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ("ab", "ac", "only train has b; only test has c"),
        ("abc", "a", "only train has b, c"),
        ("ab", "ba", "the same ones in another order"),
    ],
)
def test_how_classes_differ(ours, theirs, said):
    assert preflight._difference("train", tuple(ours), "test", tuple(theirs)) == said
