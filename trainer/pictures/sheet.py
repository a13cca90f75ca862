"""A contact sheet: images of one size in rows, each with lines of text below it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from input.foundation.text import one_line

ACROSS = 8  # images in a row
SMALLEST, LARGEST = 112, 224  # pixels of an image's side: smaller and larger ones are resized
GAP, LINE = 8, 17  # pixels between images, and of a line of text


class Line(NamedTuple):
    """Of text below an image; cut where the image ends."""

    text: str
    end: str = ""  # that is never cut
    colour: str = "black"


def draw(images: np.ndarray, captions: Sequence[Sequence[Line]]) -> bytes:
    """uint8[n, S, S, 3], n at least 1, and the lines of each, as many of all -> a PNG."""
    tiles = [_tile(image) for image in images]
    below = tiles[0].height
    width, height = tiles[0].width + GAP, below + len(captions[0]) * LINE + GAP
    across = min(ACROSS, len(tiles))
    rows = -(-len(tiles) // across)
    sheet = Image.new("RGB", (across * width + GAP, rows * height + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(number, across)
        left, top = GAP + column * width, GAP + row * height
        sheet.paste(tile, (left, top))
        for place, line in enumerate(caption):
            shown = _cut(one_line(line.text), line.end, tile.width, font)
            pen.text((left, top + below + 1 + place * LINE), shown, line.colour, font)
    return png(sheet)


def note(text: str) -> bytes:
    """One line where there are no images."""
    page = Image.new("RGB", (2 * LARGEST, 3 * GAP + LINE), "white")
    ImageDraw.Draw(page).text((GAP, GAP), text, "black", _font())
    return png(page)


def png(page: Image.Image) -> bytes:
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _tile(pixels: np.ndarray) -> Image.Image:
    image, side = Image.fromarray(pixels), pixels.shape[0]
    if side > LARGEST:
        return image.resize((LARGEST, LARGEST), Image.Resampling.BICUBIC)
    times = max(1, round(SMALLEST / side))  # whole pixels, as sharp as they are
    return image.resize((times * side, times * side), Image.Resampling.NEAREST)


def _cut(text: str, end: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, shortened until it fits before its end."""
    most = width // 3  # no letter is narrower than 3 pixels
    shown = text if len(text) <= most else f"{text[:most]}.."
    while len(shown) > 1 and font.getlength(shown + end) > width:
        shown = shown.removesuffix("..")[:-1] + ".."
    return shown + end


def _font() -> ImageFont.FreeTypeFont:
    """matplotlib's, which has more than Pillow's Latin letters."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), 12, layout_engine=ImageFont.Layout.BASIC)
