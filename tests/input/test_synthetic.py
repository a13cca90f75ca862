"""Synthetic micro-batches stand in for the pipeline's."""

import numpy as np
import tensorflow as tf

from input import pipeline, synthetic
from input.order import Plan

PLAN = Plan(
    images_per_step=16,
    images_per_micro_batch=4,
    micro_batches=4,
    replicas=1,
    records=160,
    steps_per_epoch=10,
)


def test_synthetic_elements_are_like_the_pipelines():
    dataset = synthetic.train(PLAN, 12, num_classes=3)
    assert dataset.element_spec == pipeline.element_spec(PLAN, 12)
    (images, labels, weights), again = dataset.take(2).as_numpy_iterator()
    assert len(np.unique(images)) > 200
    assert set(labels) <= {0, 1, 2}
    assert weights.tolist() == [1, 1, 1, 1]
    for one, other in zip((images, labels, weights), again, strict=True):
        assert np.array_equal(one, other)


def test_they_are_endless_and_follow_from_the_seed():
    one, same, other = (
        next(synthetic.train(PLAN, 12, 3, seed).as_numpy_iterator()) for seed in (1, 1, 2)
    )
    assert np.array_equal(one[0], same[0])
    assert not np.array_equal(one[0], other[0])
    dataset = synthetic.train(PLAN, 12, 3)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
