"""Cross entropy of a micro-batch's logits, how many of them are right, and what each one says."""

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


def class_weight(labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """int32[M] labels or soft ones, float32[classes] -> float32[M]: the weight of each image."""
    if labels.dtype.is_integer:
        labels = tf.one_hot(labels, weights.shape[0])
    return tf.reduce_sum(labels * weights, axis=-1)


def count_correct(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """int64[]: images with a weight whose largest logit is at their (largest soft) label."""
    # int64: TensorFlow compares int32 on the host, which would wait for the GPU's logits.
    target = tf.cast(labels, tf.int64) if labels.dtype.is_integer else tf.argmax(labels, -1)
    right = tf.argmax(logits, axis=-1) == target
    return tf.math.count_nonzero(right & (weights > 0), dtype=tf.int64)


def outcome(
    labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """int32[M] labels -> of each image, [M]: its label, the predicted class, that one's
    probability, and how many other logits are above the label's.

    The label is -1 for an image without a weight. Of equal logits none is above; one that is no
    number is above every other.
    """
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1, keepdims=True)
    return (
        tf.where(weights > 0, labels, -1),
        tf.argmax(logits, axis=-1),
        tf.reduce_max(tf.nn.softmax(logits), axis=-1),
        tf.math.count_nonzero(~(logits <= own), axis=-1),
    )
