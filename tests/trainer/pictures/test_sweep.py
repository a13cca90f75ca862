"""Every run is in the picture, at its place."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer.pictures import sweep
from trainer.pictures.sweep import Point, Series, draw

RUNS = [Point("64", 0.98, 900.0), Point("64", 0.97, 910.0), Point("512", 0.9, 1000.0)]


def pixels(axis: str, series: list[Series]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(draw(axis, series))).convert("RGB"), np.int16)


def test_numbers_are_at_their_place_and_words_side_by_side():
    assert sweep._places(["64", "256"]) == {"64": 64.0, "256": 256.0}
    assert sweep._places(["cnn", "resnet18"]) == {"cnn": 0.0, "resnet18": 1.0}
    assert sweep._places(["0", "1"]) == {"0": 0.0, "1": 1.0}  # 0 has no logarithm


def test_a_line_goes_through_the_means():
    points = [(2.0, 5.0), (1.0, 3.0), (2.0, 7.0)]
    assert list(sweep._means(points)) == [(1.0, 3.0), (2.0, 6.0)]


def test_each_run_changes_the_picture():
    base = pixels("global_batch_size", [Series("", RUNS)])
    for i, run in enumerate(RUNS):
        for change in ({"accuracy": 0.95}, {"images_per_second": 800.0}):
            others = [*RUNS[:i], run._replace(**change), *RUNS[i + 1 :]]
            assert (pixels("global_batch_size", [Series("", others)]) != base).any()
    assert (pixels("seed", [Series("", RUNS)]) != base).any()


@pytest.mark.parametrize("values", [["cnn", "resnet18"], ["0.1", "0.3"], ["64"]])
def test_anything_that_is_varied_can_be_drawn(values):
    series = [
        Series(f"seed {seed}", [Point(value, 0.5, 100.0 + seed) for value in values])
        for seed in range(2)
    ]
    height, width, _ = pixels("x", series).shape
    assert (height, width) == (480, 1200)


def test_the_same_runs_give_the_same_bytes():
    assert draw("x", [Series("", RUNS)]) == draw("x", [Series("", RUNS)])
