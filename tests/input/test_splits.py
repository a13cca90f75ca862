"""The names that people give to splits."""

import pytest

from input.splits import SPLITS, all_named, chosen, named, split_of, splits_among
from tests.conftest import error


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (
            "train Train TRAINING trn train_images training_set trainset train2017 train-data",
            "train",
        ),
        (
            "validation valid val Val VALID dev eval evaluation val_images valset val2017",
            "validation",
        ),
        ("test Test testing tst test_set testdata Testing", "test"),
    ],
)
def test_usual_names(names, split):
    assert {split_of(name) for name in names.split()} == {split}


@pytest.mark.parametrize(
    "name", ["cat", "trains", "contest", "latest", "valley", "0", "", "images"]
)
def test_other_names(name):
    assert split_of(name) is None
    assert all_named(name) == set()


def test_compounds():
    assert named("seg_train") == ("train", ("seg",))
    assert split_of("seg_train") is None
    assert named("train_val") is None
    assert all_named("train_val") == {"train", "validation"}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train", "valid"], {"train": "train", "valid": "validation"}),
        (["Training", "Testing"], {"Training": "train", "Testing": "test"}),
        (["seg_train", "seg_test"], {"seg_train": "train", "seg_test": "test"}),
        (["train", "test", "extra"], {"train": "train", "test": "test"}),
        (["train", "bus", "car"], {}),  # vehicles
        (["test", "exam"], {}),
        (["train", "training"], {}),
        (["train", "seg_test"], {}),
        ([], {}),
    ],
)
def test_splits_among_folders(names, found):
    assert splits_among(names) == found


def test_chosen():
    assert chosen("", SPLITS) == list(SPLITS)
    assert chosen("val,train", SPLITS) == ["train", "validation"]
    assert "is not a list of train, validation, test" in error(chosen, "train,all", SPLITS)
    assert "each once" in error(chosen, "val,valid", SPLITS)
    assert "there is no test, only train" in error(chosen, "test", ["train"])
