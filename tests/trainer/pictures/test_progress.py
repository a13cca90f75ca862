"""A run's curves: every metric that has values, and long ones as means."""

import numpy as np
import pytest

from trainer.pictures import progress


def test_what_has_values_is_drawn_and_can_be_found():
    text = progress.draw({"train/loss": [(1.0, 2.0), (2.0, 1.0)], "validation/loss": [(2.0, 1.5)]})
    assert text.startswith("<svg") and ">loss</text>" in text
    assert ">training</text>" in text and ">validation</text>" in text
    assert "accuracy" not in text
    assert progress.draw({"train/loss": [(1.0, 2.0)]}) == progress.draw(
        {"train/loss": [(1.0, 2.0)]}
    )


@pytest.mark.parametrize("points", [1, 999, 1_000, 12_345])
def test_a_long_curve_is_means_of_neighbours(points):
    curve = [(float(i), float(i % 7)) for i in range(points)]
    epochs, values = progress._thinned(curve)
    assert len(epochs) == len(values) == min(points, progress.MOST)
    assert (np.diff(epochs) > 0).all()
    groups = np.array_split(np.array(curve), len(epochs))
    np.testing.assert_allclose(values, [group[:, 1].mean() for group in groups])


def test_numbers_that_have_no_logarithm_are_drawn():
    assert "<svg" in progress.draw({"train/loss": [(1.0, 0.0), (2.0, -1.0)]})
