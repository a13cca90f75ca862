"""The picture of learning curves is a PNG in which every run is drawn."""

import numpy as np
from PIL import Image

from trainer.pictures import curves

ONE = {
    "train/loss": [(0.5, 2.0), (1.0, 1.0)],
    "validation/loss": [(1.0, 1.2), (2.0, 1.0)],
    "validation/accuracy": [(1.0, 0.5), (2.0, 0.8)],
}
OTHER = {name: [(x, y / 2) for x, y in curve] for name, curve in ONE.items()}
# The first colours of matplotlib, of the first run and of the second.
BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def colors(path) -> set[tuple[int, ...]]:
    image = np.asarray(Image.open(path).convert("RGB"))
    return set(map(tuple, image.reshape(-1, 3).tolist()))


def test_every_run_is_drawn_and_so_is_the_mark(tmp_path):
    alone, both = tmp_path / "alone.png", tmp_path / "both.png"
    curves.draw(alone, {"one": ONE})
    curves.draw(both, {"one": ONE, "other": OTHER}, curves.Mark(1.5, "step 7"))
    assert alone.read_bytes().startswith(b"\x89PNG")
    assert BLUE in colors(alone) and ORANGE not in colors(alone)
    assert {BLUE, ORANGE} <= colors(both)


def test_equal_curves_do_not_hide_each_other(tmp_path):
    curves.draw(tmp_path / "same.png", {"one": ONE, "again": ONE})
    assert {BLUE, ORANGE} <= colors(tmp_path / "same.png")


def test_a_run_without_lines_is_drawn_as_well(tmp_path):
    curves.draw(tmp_path / "none.png", {"none": {}})
    assert (tmp_path / "none.png").stat().st_size > 1000
