"""The settings of the input check themselves."""

import math
from dataclasses import asdict, replace

import pytest

from input.config import InputConfig, Policy, ResolvedInput
from tests.conftest import error

CONFIG = InputConfig(global_batch_size=32, micro_batch_size=8, image_size=16)


@pytest.mark.parametrize(
    "augment", ["rand", "rand-m31-n2", "rand-m9-n0", "Standard", "rand-m9-n2 "]
)
def test_what_augment_can_be(augment):
    assert error(InputConfig, augment=augment) == (
        f"--augment={augment}: it must be none, crop, standard, trivial or rand-mM-nN with M from "
        "0 to 30 and N from 1 to 9, as in rand-m9-n2."
    )


def test_what_augment_means():
    assert InputConfig(augment="rand-m12-n3").policy == Policy(layers=3, magnitude=12)
    assert InputConfig(augment="rand-m0-n9").policy == Policy(layers=9, magnitude=0)
    assert InputConfig(augment="trivial").policy == Policy(layers=1, magnitude=None)
    for augment in ("none", "crop", "standard"):
        assert InputConfig(augment=augment).policy.layers == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"color_jitter": -0.1}, "--color_jitter must be at least 0 and below 10, not -0.1."),
        ({"color_jitter": 10.0}, "--color_jitter must be at least 0 and below 10, not 10.0."),
        ({"erasing": 1.5}, "--erasing must be at least 0 and at most 1, not 1.5."),
        ({"mixup": math.nan}, "--mixup must be a finite number, not nan."),
        ({"cutmix": 2.0}, "--cutmix must be at least 0 and at most 1, not 2.0."),
        ({"crop_min_area": 0.0}, "--crop_min_area must be above 0 and at most 1, not 0.0."),
        ({"eval_crop": 1.1}, "--eval_crop must be above 0 and at most 1, not 1.1."),
        ({"global_batch_size": 0}, "--global_batch_size must be at least 1, not 0."),
        ({"micro_batch_size": 0}, "--micro_batch_size must be at least 1, not 0."),
        ({"image_size": 0}, "--image_size must be at least 1, not 0."),
        ({"read_block": 0}, "--read_block must be at least 1, not 0."),
        ({"max_bad_records": -1}, "--max_bad_records must be at least 0, not -1."),
        ({"cutmix": 1.0, "micro_batch_size": 1}, "micro-batches of 2 or more"),
        (
            {"micro_batch_size": 7},
            "32 images a step do not divide into micro-batches of 7. Set --micro_batch_size to a "
            "divisor of 32, or leave it unset.",
        ),
    ],
)
def test_wrong_settings(settings, words):
    assert words in error(replace, CONFIG, **settings)
    resolved = ResolvedInput(**asdict(CONFIG))
    assert words in error(replace, resolved, **settings)


@pytest.mark.parametrize(
    ("settings", "soft"),
    [({}, False), ({"erasing": 1.0}, False), ({"mixup": 0.2}, True), ({"cutmix": 1.0}, True)],
)
def test_mixing_makes_labels_soft(settings, soft):
    assert replace(CONFIG, **settings).soft_labels is soft


def test_what_leaves_the_images_as_they_are_does_not_count():
    """A run may be resumed with other folders of the same data, and more patience."""
    assert replace(CONFIG, data_dir="elsewhere", max_bad_records=3) == CONFIG
    assert replace(CONFIG, read_block=2) != CONFIG


def test_a_resolved_input_has_its_sizes():
    assert InputConfig().micro_batch_size is InputConfig().image_size is None
    with pytest.raises(TypeError, match=r"arguments: 'micro_batch_size' and 'image_size'"):
        ResolvedInput()
