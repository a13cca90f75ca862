"""Images in rows, each with what it is."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from input.foundation.text import one_line

MOST = 32  # images
COLUMNS = 8
LEAST = 96  # pixels of an image's side: smaller ones are shown larger
GAP, LINE = 4, 14  # pixels between images, and of a line of text


def sheet(images: np.ndarray, captions: Sequence[str]) -> Image.Image:
    """[n, S, S, 3] of any dtype -> at most MOST of them; each caption is cut where its image ends.

    Bytes as they are; of other numbers the smallest is black and the largest white.
    """
    shown = _bytes(images[:MOST])
    factor = -(-LEAST // shown.shape[1])
    side = factor * shown.shape[1]
    rows = -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (side + GAP), rows * (side + LINE + GAP)), "white")
    for number, (pixels, caption) in enumerate(zip(shown, captions, strict=False)):
        row, column = divmod(number, COLUMNS)
        tile = Image.new("RGB", (side, side + LINE), "white")
        tile.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST))
        ImageDraw.Draw(tile).text((0, side + 1), one_line(caption), "black")
        page.paste(tile, (column * (side + GAP), row * (side + LINE + GAP)))
    return page


def _bytes(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    low, high = images.min(), images.max()
    return ((images - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
