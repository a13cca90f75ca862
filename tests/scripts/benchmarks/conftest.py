"""What the benchmarks' tests share."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photographs(tmp_path) -> str:
    """A folder of 40 small JPEG files."""
    random = np.random.default_rng(0)
    for i in range(40):
        pixels = random.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    return str(tmp_path)
