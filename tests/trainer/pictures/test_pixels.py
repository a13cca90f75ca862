"""Pixels as bytes."""

import numpy as np

from trainer.pictures import pixels


def test_bytes_stay_and_floats_are_spread_from_black_to_white():
    given = np.array([[0, 7, 255]], np.uint8)
    assert pixels.as_bytes(given) is given
    found = pixels.as_bytes(np.array([[-1.0, 0.0], [1.0, -1.0]], np.float32))
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 127], [255, 0]]
    assert pixels.as_bytes(np.full((2, 2), 3.0)).tolist() == [[0, 0], [0, 0]]
