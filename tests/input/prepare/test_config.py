"""The settings of samestep-records check themselves."""

from fractions import Fraction

import pytest

from input.config import ResolvedInput
from input.native import library
from input.prepare.config import IndexConfig, ShowConfig, VerifyConfig, WriteConfig
from tests.conftest import error


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("train:0.9,validation:0.2", "sum to 1.1, not 1"),
        ("train:0.9", "sum to 0.9, not 1"),
        ("train:0.9,validation:0.100002", "not 1"),
        ("train", "is not name:share"),
        ("", "is not name:share"),
        ("train:x,test:1", "is not name:share"),
        ("train:1/0", "is not name:share"),
        ("train:nan", "is not name:share"),
        ("train:1,validation:0", "is not name:share"),
        ("train:2,validation:-1", "is not name:share"),
        ("train:0.5,train:0.5", "is not name:share"),
        ("val:0.5,validation:0.5", "is not name:share"),
        ("train:0.5,holdout:0.5", "is not name:share"),
    ],
)
def test_split_settings_that_are_refused(split, reason):
    message = error(WriteConfig, images="x", out="y", split=split)
    assert reason in message
    assert f"--split={split}" in message


def test_shares_are_exact():
    config = WriteConfig(images="x", out="y", split="train:0.3333333,val:0.6666666")
    assert sum(config.shares().values()) == 1
    assert WriteConfig(images="x", out="y").shares() == {
        "train": Fraction(9, 10),
        "validation": Fraction(1, 10),
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"images": ""}, "--images is missing: Folder of class folders"),
        ({"out": ""}, "--out is missing: Folder to write"),
        ({"shards": 0}, "--shards must be at least 1, not 0."),
        ({"short_side": 0}, "--short_side must be at least 1, not 0."),
        ({"quality": 0}, "--quality must be at least 1 and at most 95, not 0."),
        ({"quality": 96}, "--quality must be at least 1 and at most 95, not 96."),
        ({"max_pixels": 0}, "--max_pixels must be at least 1, not 0."),
        ({"jobs": 0}, "--jobs must be at least 1, not 0."),
        ({"max_bad_images": -1}, "--max_bad_images must be at least 0, not -1."),
    ],
)
def test_wrong_settings_of_write(settings, words):
    assert words in error(WriteConfig, **{"images": "x", "out": "y", **settings})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "--dir is missing: Folder of their files"),
        ({"dir": "x", "raw_shape": "8,8,3"}, "belong together"),
        ({"dir": "x", "raw_dtype": "uint8"}, "belong together"),
        ({"dir": "x", "raw_dtype": "uint8", "raw_shape": "8,8"}, "is not height,width,channels"),
        ({"dir": "x", "raw_dtype": "uint8", "raw_shape": "8,8,4"}, "is not height,width,channels"),
        ({"dir": "x", "raw_dtype": "uint8", "raw_shape": "0,8,3"}, "is not height,width,channels"),
    ],
)
def test_wrong_settings_of_index(settings, words):
    assert words in error(IndexConfig, **settings)


def test_raw_shape_in_numbers():
    assert IndexConfig("x", raw_dtype="uint8", raw_shape="8, 9,1").shape() == (8, 9, 1)
    assert IndexConfig("x").shape() is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dir": ""}, "--dir is missing: Folder of splits, or of one split."),
        ({"jobs": 0}, "--jobs must be at least 1, not 0."),
        ({"max_pixels": 0}, "--max_pixels must be at least 1, not 0."),
    ],
)
def test_wrong_settings_of_verify(settings, words):
    assert words in error(VerifyConfig, **{"dir": "x", **settings})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dir": ""}, "--dir is missing: Folder of splits, or of one split."),
        ({"per_class": 0}, "--per_class must be at least 1, not 0."),
        ({"image_size": 0}, "--image_size must be at least 1, not 0."),
        ({"crop_min_area": 0.0}, "--crop_min_area must be above 0 and at most 1, not 0.0."),
        ({"eval_crop": 1.5}, "--eval_crop must be above 0 and at most 1, not 1.5."),
        ({"augment": "all"}, "--augment=all: it must be none, crop, standard, trivial"),
    ],
)
def test_wrong_settings_of_show(settings, words):
    assert words in error(ShowConfig, **{"dir": "x", **settings})


def test_what_is_shown_is_augmented_as_in_training():
    config = ShowConfig("x", image_size=7, augment="trivial", crop_min_area=0.5, eval_crop=0.9)
    assert config.views() == ResolvedInput(
        micro_batch_size=32,
        image_size=7,
        augment="trivial",
        crop_min_area=0.5,
        eval_crop=0.9,
        decoder=library.resolve("auto"),
    )
    assert ShowConfig("x").views().augment == "crop"
