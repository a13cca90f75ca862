"""A micro-batch as a picture."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer.pictures import micro_batch
from trainer.pictures.sheet import GAP, LINE


@pytest.mark.parametrize(
    ("images", "side", "shown", "across", "rows"),
    [(1, 28, 112, 1, 1), (8, 28, 112, 8, 1), (9, 28, 112, 8, 2), (40, 224, 224, 8, 4)],
)
def test_rows_of_eight(images, side, shown, across, rows):
    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), np.uint8)
    found = Image.open(io.BytesIO(micro_batch.draw(pixels, ["a\nname"] * images)))
    assert found.size == (across * (shown + GAP) + GAP, rows * (shown + LINE + GAP) + GAP)
    first = np.asarray(found)[GAP : GAP + shown, GAP : GAP + shown]
    np.testing.assert_array_equal(first[:: shown // side, :: shown // side], pixels[0])


def test_floats_are_shown_from_black_to_white():
    pixels = np.zeros((2, 112, 112, 3), np.float32)
    pixels[0, 0, 0], pixels[1, 0, 1] = -3, 5
    found = np.asarray(Image.open(io.BytesIO(micro_batch.draw(pixels, ["x", "y"]))))
    assert (found[GAP, GAP] == 0).all()
    assert (found[GAP, GAP + 112 + GAP + 1] == 255).all()
    assert (found[GAP, GAP + 1] == found[GAP, GAP + 112 + GAP]).all(), "grey is the same in both"


def test_a_name_in_any_script_has_its_letters():
    pixels = np.zeros((1, 112, 112, 3), np.uint8)
    names = ("Жук", "Ψάρι", "a")
    drawn = [np.asarray(Image.open(io.BytesIO(micro_batch.draw(pixels, [n])))) for n in names]
    below = [each[GAP + 112 :] for each in drawn]
    assert all((each < 128).any() for each in below)
    assert not any((below[0] == other).all() for other in below[1:])
