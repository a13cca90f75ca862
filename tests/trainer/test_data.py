"""What a run is validated on: its split, another one, or a part of train that is held back."""

import dataclasses
import shutil

import pytest

from input.config import InputConfig
from input.errors import InputError
from input.splits import TRAIN, VALIDATION
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer import data, loop, run_dir
from trainer.config import Hardware
from trainer.evaluate import evaluate_run


@pytest.fixture
def without_validation(data_dir, tmp_path):
    """train and test: MNIST, CIFAR-10 and many sets of TFDS."""
    shutil.copytree(data_dir / "train", tmp_path / "data" / "train")
    shutil.copytree(data_dir / "validation", tmp_path / "data" / "test")
    return tmp_path / "data"


def with_input(config, **changes):
    return dataclasses.replace(config, input=dataclasses.replace(config.input, **changes))


def test_a_missing_split_says_which_there_are_and_what_helps(without_validation):
    message = error(data.manifests, settings(without_validation), (TRAIN, VALIDATION))
    assert "has no split validation, only train and test." in message
    assert "--validation_split=test evaluates on test, --validation_share=0.1" in message
    shutil.rmtree(without_validation / "test")
    message = error(data.manifests, settings(without_validation), (VALIDATION,))
    assert "only train." in message and "--validation_split" not in message
    shutil.rmtree(without_validation / "train")
    assert "holds no records" in error(data.manifests, settings(without_validation), (TRAIN,))


def test_another_split_takes_the_place_of_validation(without_validation, tmp_path, data_dir):
    config = with_input(settings(without_validation, tmp_path / "run"), validation_split="test")
    state = loop.fit(config, HARDWARE)
    own = loop.fit(settings(data_dir, tmp_path / "own"), HARDWARE)
    assert state.fingerprint == own.fingerprint
    assert state.evaluation == own.evaluation
    first = run_dir.load(tmp_path / "run")
    assert first.data == run_dir.load(tmp_path / "own").data
    assert evaluate_run(tmp_path / "run", HARDWARE) == state.evaluation
    assert evaluate_run(tmp_path / "run", HARDWARE, split="test") == state.evaluation


def test_a_part_of_train_is_held_back_on_any_hardware(without_validation, tmp_path):
    """No record is on both sides; 1 and 2 replicas, and a later evaluation, have the same ones."""
    found = {}
    for replicas in (1, 2):
        folder = tmp_path / f"run{replicas}"
        config = with_input(settings(without_validation, folder), validation_share=0.2)
        found[replicas] = loop.fit(config, Hardware(virtual_cpus=replicas))
    assert found[1].fingerprint == found[2].fingerprint
    assert found[1].evaluation == found[2].evaluation
    assert found[1].evaluation.images == 32
    assert found[1].step == 3 * (160 - 32) // 32
    assert evaluate_run(tmp_path / "run1", HARDWARE) == found[1].evaluation
    assert evaluate_run(tmp_path / "run1", HARDWARE, split="train").images == 128
    assert evaluate_run(tmp_path / "run1", HARDWARE, split="test").images == 43


def test_another_share_or_seed_is_another_run(without_validation, tmp_path):
    config = with_input(settings(without_validation, tmp_path / "run"), validation_share=0.2)
    loop.fit(config, HARDWARE)
    other = with_input(config, validation_share=0.1)
    assert "validation_share" in error(loop.fit, other, HARDWARE)


def test_two_ways_at_once_are_refused():
    with pytest.raises(InputError, match="Leave one of them out"):
        InputConfig(validation_split="test", validation_share=0.1)
