"""Messages with exact content; that TensorBoard shows them is tested in test_show."""

import numpy as np
import pytest
from tensorboard.util.tensor_util import make_ndarray

from trainer.board import summaries


def tensor(summary) -> np.ndarray:
    return make_ndarray(summary.value[0].tensor)


def test_a_histogram_counts_every_finite_element():
    values = np.random.default_rng(0).normal(size=(100, 30)).astype(np.float32)
    rows = tensor(summaries.histogram("w", values))
    assert rows.shape == (summaries.BUCKETS, 3)
    assert rows[:, 2].sum() == 3000
    assert (rows[0, 0], rows[-1, 1]) == (values.min(), values.max())
    np.testing.assert_array_equal(rows[1:, 0], rows[:-1, 1])
    values[3, 4], values[5, 6] = np.nan, np.inf
    assert tensor(summaries.histogram("w", values))[:, 2].sum() == 2998


@pytest.mark.parametrize("values", [np.zeros(5), np.full(3, np.nan), np.zeros(0), np.float32(2)])
def test_a_histogram_of_hardly_anything(values):
    rows = tensor(summaries.histogram("w", np.asarray(values)))
    assert rows.shape == (summaries.BUCKETS, 3)
    assert rows[:, 2].sum() == np.isfinite(values).sum()


def test_a_curve_has_the_counts_of_each_threshold():
    rng = np.random.default_rng(0)
    scores, labels = rng.uniform(size=500), rng.integers(0, 2, 500)
    thresholds = np.arange(257) / 256
    positives, negatives = (
        np.array([(scores[labels == label] >= t).sum() for t in thresholds]) for label in (1, 0)
    )
    true, false, rejected, missed, precision, recall = tensor(
        summaries.pr_curve("pr", positives, negatives)
    )
    for place, threshold in enumerate(thresholds):
        taken = scores >= threshold
        assert true[place] == (taken & (labels == 1)).sum()
        assert false[place] == (taken & (labels == 0)).sum()
        assert rejected[place] == (~taken & (labels == 0)).sum()
        assert missed[place] == (~taken & (labels == 1)).sum()
        if taken.any():
            assert precision[place] == np.float32((labels[taken] == 1).mean())
        assert recall[place] == np.float32(true[place] / (labels == 1).sum())
