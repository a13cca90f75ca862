"""A micro-batch as the model gets it: its first images in rows, each with what it is."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from input.foundation.text import one_line
from trainer.pictures.pixels import as_bytes

MOST = 32  # images
ACROSS = 8  # images in a row
SMALLEST = 96  # pixels of an image's side: smaller ones are shown larger
GAP, LINE = 4, 14  # pixels between images, and of a line of text


def draw(images: np.ndarray, captions: Sequence[str]) -> bytes:
    """uint8 or float [n, S, S, 3] -> a PNG; a caption is cut where its image ends."""
    shown = as_bytes(images[:MOST])
    side = -(-SMALLEST // shown.shape[1]) * shown.shape[1]
    across = min(ACROSS, len(shown))
    rows = -(-len(shown) // across)
    page = Image.new("RGB", (across * (side + GAP), rows * (side + LINE + GAP)), "white")
    for number, (pixels, caption) in enumerate(zip(shown, captions, strict=False)):
        row, column = divmod(number, across)
        tile = Image.new("RGB", (side, side + LINE), "white")
        tile.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST))
        ImageDraw.Draw(tile).text((0, side + 1), one_line(caption), "black")
        page.paste(tile, (column * (side + GAP), row * (side + LINE + GAP)))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
