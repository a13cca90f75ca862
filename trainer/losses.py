"""Cross entropy of a micro-batch's logits, and how many of them are right."""

import tensorflow as tf

from trainer import internals


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """int32[M] labels, or soft labels float32[M, classes], float32[M, classes] logits -> [M].

    Smoothing as in Szegedy et al. 2016 (arXiv:1512.00567, sec. 7): the target is (1 - s) on the
    label plus s / classes everywhere.
    """
    if labels.dtype.is_integer and internals.is_deterministic():
        # The op below has no deterministic kernel on GPUs; what TensorFlow puts in its place under
        # op determinism gathers by the labels, which the audit refuses.
        labels = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if labels.dtype.is_integer:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    else:  # TensorFlow's own function for this reshapes the labels
        losses = -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)
    if label_smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * uniform
    return losses


def count_correct(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """int64[]: images with a weight whose largest logit is at their (largest soft) label."""
    # int64: TensorFlow compares int32 on the host, which would wait for the GPU's logits.
    target = tf.cast(labels, tf.int64) if labels.dtype.is_integer else tf.argmax(labels, -1)
    right = tf.argmax(logits, axis=-1) == target
    return tf.math.count_nonzero(right & (weights > 0), dtype=tf.int64)
