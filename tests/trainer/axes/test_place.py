"""What a traced graph says of its tensors before it runs."""

import pytest
import tensorflow as tf

from trainer.axes.place import BatchError, Place, axes_input, constant_input, only, same, size_of


def operation(call, shape=(4, None, 2)):
    """The last operation that call(x) makes."""
    graph = tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    return graph.outputs[0].op.inputs[0].op


def test_sizes_that_are_known():
    (tensor,) = operation(tf.abs).inputs
    assert (size_of(tensor, 0), size_of(tensor, 2)) == (4, 2)
    with pytest.raises(BatchError, match="its shape is known only when it runs"):
        size_of(tensor, 1)


def test_a_tensor_of_any_rank_has_no_sizes():
    (tensor,) = operation(tf.abs, shape=None).inputs
    with pytest.raises(BatchError, match="its shape is known only when it runs"):
        size_of(tensor, 0)


def test_axes_are_counted_from_the_front():
    reverse = operation(lambda x: tf.reverse(x, [-1, 0]))
    assert axes_input(reverse, 1, reverse.inputs[0]) == {0, 2}
    mean = operation(lambda x: tf.reduce_mean(x, -2))
    assert axes_input(mean, 1, mean.inputs[0]) == {1}


def test_elements_that_are_not_known_are_none():
    start = tf.Variable(1)
    cut = operation(lambda x: tf.strided_slice(x, [0, start], [4, 3], [1, 1]))
    assert list(constant_input(cut, 1)) == [0, None]


def test_the_batch_is_in_one_place():
    assert only({0: Place(1)}, 0) == Place(1)
    with pytest.raises(BatchError, match="something else than images"):
        only({0: Place(), 1: Place()}, 0)
    assert same([Place(2), Place(2)]) == Place(2)
    with pytest.raises(BatchError, match="mixes its images"):
        same([Place(), Place(1)])
