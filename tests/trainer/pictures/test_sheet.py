"""A contact sheet has each image at its place, and below it no more than fits."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer.pictures import sheet
from trainer.pictures.sheet import ACROSS, GAP, LARGEST, LINE, Line

RANDOM = np.random.default_rng(0)


def drawn(side: int, *captions) -> np.ndarray:
    images = RANDOM.integers(0, 256, (len(captions), side, side, 3), np.uint8)
    found = np.asarray(Image.open(io.BytesIO(sheet.draw(images, captions))))
    shown = min(LARGEST, round(max(1, 112 / side)) * side)
    width, height = shown + GAP, shown + len(captions[0]) * LINE + GAP
    rows = -(-len(captions) // ACROSS)
    assert found.shape[:2] == (rows * height + GAP, min(ACROSS, len(captions)) * width + GAP)
    return found


@pytest.mark.parametrize("side", [8, 112, 150, 300])
@pytest.mark.parametrize("lines", [0, 1, 3])
def test_a_row_has_eight_images_and_the_lines_of_each(side, lines):
    found = drawn(side, *[(Line("x"),) * lines] * 9)
    below = found[GAP + min(side, LARGEST) :]
    assert (below < 128).any()


def test_a_long_text_is_cut_before_its_end():
    whole, cut = (drawn(112, (Line(text, ", 99 %"),)) for text in ("cat", "c" * 10**5))
    assert (whole[GAP + 112 :] != cut[GAP + 112 :]).any()
    assert (cut[:, GAP + 112 :] == 255).all(), "nothing reaches beyond the image"
    assert (cut[GAP + 112 :, GAP + 80 :] < 128).any(), "the end is there"


def test_a_colour_is_kept():
    found = drawn(112, (Line("cat", colour="#d03000"),))[GAP + 112 :].reshape(-1, 3)
    assert (found == (0xD0, 0x30, 0)).all(axis=1).any()


def test_a_note_is_a_line():
    found = np.asarray(Image.open(io.BytesIO(sheet.note("nothing"))))
    assert (found < 100).any()
