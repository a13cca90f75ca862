"""The contact sheet shows the pixels that it is given, and fits any name below them."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer.findings import Mistake
from trainer.pictures import mistakes
from trainer.pictures.sheet import ACROSS, GAP, LARGEST, LINE

CLASSES = ("cat", "a dog \n" * 50, "猫")


def sheet(images: np.ndarray) -> np.ndarray:
    found = [Mistake(i, i % 3, (i + 1) % 3, 0.5) for i in range(len(images))]
    png = mistakes.draw(images, found, CLASSES)
    assert mistakes.draw(images, found, CLASSES) == png
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize(("count", "side", "shown"), [(1, 28, 112), (11, 150, 150), (64, 16, 112)])
def test_every_image_stands_at_its_place(count, side, shown):
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    drawn = sheet(images)
    for number, image in enumerate(images):
        row, column = divmod(number, ACROSS)
        left, top = GAP + column * (shown + GAP), GAP + row * (shown + 2 * LINE + GAP)
        tile = drawn[top : top + shown, left : left + shown]
        times = shown // side
        np.testing.assert_array_equal(tile, image.repeat(times, 0).repeat(times, 1))
        below = drawn[top + shown : top + shown + 2 * LINE, left : left + shown]
        assert (below < 200).any(), "its classes"
        assert (drawn[:, left - GAP : left - 1] == 255).all(), "no name reaches into the gap"


def test_large_images_and_floats_are_shown():
    images = np.random.default_rng(0).normal(size=(3, 300, 300, 3)).astype(np.float32)
    drawn = sheet(images)
    assert drawn.shape[1] == 3 * (LARGEST + GAP) + GAP
    assert drawn[GAP : GAP + 200, GAP : GAP + 200].std() > 10


def test_no_mistake_is_said_so():
    assert (sheet(np.empty((0, 28, 28, 3), np.uint8)) < 100).any()
