"""A micro-batch as the model gets it: its first images, each with what it is."""

from collections.abc import Sequence

import numpy as np

from trainer.pictures import sheet
from trainer.pictures.pixels import as_bytes

MOST = 32  # images


def draw(images: np.ndarray, captions: Sequence[str]) -> bytes:
    """uint8 or float [n, S, S, 3] -> a PNG; a caption is cut where its image ends."""
    return sheet.draw(as_bytes(images[:MOST]), [(sheet.Line(text),) for text in captions[:MOST]])
