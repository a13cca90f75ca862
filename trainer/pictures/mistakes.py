"""A contact sheet of images that were taken for another class, the most confident first."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from input.foundation.text import one_line
from trainer.findings import Mistake
from trainer.pictures.pixels import as_bytes

ACROSS = 8  # images in a row
SMALLEST, LARGEST = 112, 224  # pixels of an image's side: smaller and larger ones are resized
GAP, LINE = 8, 17  # pixels between images, and of a line of text
EMPTY = "no image was taken for another class"


def draw(images: np.ndarray, mistakes: Sequence[Mistake], classes: Sequence[str]) -> bytes:
    """uint8 or float [n, S, S, 3], as the model saw the n mistakes -> a PNG.

    Below each: its true class, and the predicted one with its probability.
    """
    across = min(ACROSS, max(len(mistakes), 1))
    tiles = [_tile(image) for image in images] or [Image.new("RGB", (2 * LARGEST, GAP), "white")]
    width, height = tiles[0].width + GAP, tiles[0].height + 2 * LINE + GAP
    rows = -(-len(tiles) // across)
    sheet = Image.new("RGB", (across * width + GAP, rows * height + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    for number, tile in enumerate(tiles):
        row, column = divmod(number, across)
        left, top = GAP + column * width, GAP + row * height
        sheet.paste(tile, (left, top))
        if not mistakes:
            pen.text((left, top), EMPTY, "black", font)
            continue
        mistake, below = mistakes[number], top + tile.height
        true, predicted = (classes[each] for each in (mistake.label, mistake.predicted))
        # Colours that differ in lightness too: not everybody sees red and green.
        right = _cut(f"true: {one_line(true)}", "", width, font)
        pen.text((left, below + 1), right, "#005a20", font)
        share = f", {100 * mistake.probability:.0f} %"
        wrong = _cut(f"pred: {one_line(predicted)}", share, width, font)
        pen.text((left, below + LINE), wrong, "#d03000", font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _tile(pixels: np.ndarray) -> Image.Image:
    image, side = Image.fromarray(as_bytes(pixels)), pixels.shape[0]
    if side > LARGEST:
        return image.resize((LARGEST, LARGEST), Image.Resampling.BICUBIC)
    times = max(1, round(SMALLEST / side))  # whole pixels, as sharp as they are
    return image.resize((times * side, times * side), Image.Resampling.NEAREST)


def _cut(text: str, end: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, shortened until it fits before its end."""
    most = width // 3  # no letter is narrower than 3 pixels
    shown = text if len(text) <= most else f"{text[:most]}.."
    while len(shown) > 1 and font.getlength(shown + end) > width - GAP:
        shown = shown.removesuffix("..")[:-1] + ".."
    return shown + end


def _font() -> ImageFont.FreeTypeFont:
    """matplotlib's, which has more than Pillow's Latin letters."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), 12, layout_engine=ImageFont.Layout.BASIC)
