"""Images that were taken for another class, the most confident first."""

from collections.abc import Sequence

import numpy as np

from trainer.findings import Mistake
from trainer.pictures import sheet
from trainer.pictures.pixels import as_bytes
from trainer.pictures.sheet import Line

RIGHT, WRONG = "#005a20", "#d03000"  # differ in lightness too: not everybody sees red and green
EMPTY = "no image was taken for another class"


def draw(images: np.ndarray, mistakes: Sequence[Mistake], classes: Sequence[str]) -> bytes:
    """uint8 or float [n, S, S, 3], as the model saw the n mistakes -> a PNG.

    Below each: its true class, and the predicted one with its probability.
    """
    if not mistakes:
        return sheet.note(EMPTY)
    captions = [
        (
            Line(f"true: {classes[each.label]}", colour=RIGHT),
            Line(
                f"pred: {classes[each.predicted]}",
                end=f", {100 * each.probability:.0f} %",
                colour=WRONG,
            ),
        )
        for each in mistakes
    ]
    return sheet.draw(np.stack([as_bytes(image) for image in images]), captions)
