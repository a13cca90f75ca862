"""The picture of a confusion matrix: what stands in its cells; any classes can be drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from trainer import findings
from trainer.findings import Findings
from trainer.pictures import confusion


def some(classes: int, count: int = 2000, missing: int | None = None) -> Findings:
    """Three images of four right, the others mostly taken for the next class."""
    random = np.random.default_rng(classes)
    label = random.integers(0, classes, count)
    other = np.where(random.random(count) < 0.8, label + 1, random.integers(0, classes, count))
    predicted = np.where(random.random(count) < 0.75, label, other % classes)
    kept = label != missing
    columns = (np.arange(count), label, predicted, random.random(count))
    names = tuple(f"class {i}" for i in range(classes))
    return findings.joined(
        names, *findings.of_images(len(names), *(each[kept] for each in columns))
    )


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("classes", [2, 10, 26, 100, 101, 1000])
def test_any_number_of_classes_is_drawn(classes):
    png = confusion.draw(some(classes), "validation")
    drawn = pixels(png)
    assert min(drawn.shape[:2]) > 500 and max(drawn.shape[:2]) < 2500
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20
    assert confusion.draw(some(classes), "validation") == png


def test_names_that_matplotlib_or_its_font_would_stumble_over_are_drawn():
    found = some(4)
    odd = Findings(("$a", "\\frac{$}{", "猫\n犬", "x" * 500), found.pairs, found.mistakes)
    assert len(confusion.draw(odd, "$title_$")) > 1000


@pytest.mark.parametrize("classes", [3, 300])
def test_an_evaluation_of_nothing_is_drawn(classes):
    assert len(confusion.draw(some(classes, count=0), "validation")) > 1000


def test_cells_are_shares_of_their_row():
    found = some(7, missing=3)
    cells = confusion._cells(found, range(7), block=1)
    matrix = found.confusion
    assert np.isnan(cells[3]).all()
    seen = np.arange(7) != 3
    expected = matrix[seen] / matrix[seen].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cells[seen], expected, rtol=1e-12)
    np.testing.assert_array_equal(
        confusion._cells(found, [1, 4], block=1), cells[np.ix_([1, 4], [1, 4])]
    )


def test_a_cell_of_many_classes_is_the_largest_of_its_block():
    found = some(10)
    each = confusion._cells(found, range(10), block=1)
    cells = confusion._cells(found, [], block=4)
    padded = np.pad(each, (0, 2))
    np.testing.assert_array_equal(cells, padded.reshape(3, 4, 3, 4).max(axis=(1, 3)))


def test_the_most_confused_classes_are_those_of_the_largest_shares():
    pairs = [[0, 0, 50], [0, 5, 50], [1, 2, 9], [1, 1, 91], [3, 3, 2], [3, 4, 2], [6, 6, 1000]]
    found = Findings(tuple("abcdefg"), np.array(pairs), ())
    assert confusion.most_confused(found, 4) == [0, 3, 4, 5]
    assert confusion.most_confused(found, 6) == [0, 1, 2, 3, 4, 5]
    right = Findings(tuple("abc"), np.array([[0, 0, 5], [2, 2, 1]]), ())
    assert confusion.most_confused(right, 2) == [0, 1]
