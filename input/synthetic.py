"""One fixed micro-batch, again and again: the pipeline's elements without its work."""

import numpy as np
import tensorflow as tf

from input.order import Plan
from input.pipeline import element_spec


def train(plan: Plan, image_size: int, num_classes: int, seed: int = 0) -> tf.data.Dataset:
    """Endless micro-batches with pipeline.element_spec: noise, random labels, weight 1."""
    image, label, weight = element_spec(plan, image_size)
    random = np.random.default_rng(seed)
    batch = (
        random.integers(0, 256, image.shape, np.uint8),
        random.integers(0, num_classes, label.shape, np.int32),
        np.ones(weight.shape, np.float32),
    )
    return tf.data.Dataset.from_tensors(batch).repeat()
