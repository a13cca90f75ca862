"""A micro-batch as a picture."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer.pictures import micro_batch


@pytest.mark.parametrize(
    ("images", "side", "size"),
    [(1, 28, (116, 130)), (8, 28, (928, 130)), (9, 28, (928, 260)), (40, 224, (1824, 968))],
)
def test_rows_of_eight(images, side, size):
    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), np.uint8)
    found = Image.open(io.BytesIO(micro_batch.draw(pixels, ["a\nname"] * images)))
    assert found.size == size
    corner = np.asarray(found)[:112:4, :112:4] if side == 28 else np.asarray(found)[:224, :224]
    np.testing.assert_array_equal(corner, pixels[0])


def test_floats_are_shown_from_black_to_white():
    pixels = np.zeros((1, 96, 96, 3), np.float32)
    pixels[0, 0, 0], pixels[0, 0, 1] = -3, 5
    found = np.asarray(Image.open(io.BytesIO(micro_batch.draw(pixels, ["x"]))))
    assert (found[0, 0] == 0).all()
    assert (found[0, 1] == 255).all()
