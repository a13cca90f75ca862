"""Where a reshape, a transposition or a stack leaves the batch."""

import pytest
import tensorflow as tf

from tests.trainer.axes.test_rules import M, of_images, places, refusal
from trainer.axes.place import FIRST, Place

KEPT = {
    "flatten": (lambda x: tf.reshape(x, [M, -1]), FIRST),
    "flatten, as Keras does": (lambda x: tf.reshape(x, [tf.shape(x)[0], 12]), FIRST),
    "rows": (lambda x: tf.reshape(x, [-1, 2]), Place(0, 6)),
    "all in one": (lambda x: tf.reshape(x, [1, -1]), Place(1, 12)),
    "rows and back": (lambda x: tf.reshape(tf.reshape(x, [-1, 2]), [M, 3, 4]), FIRST),
    "a dimension in front": (lambda x: tf.reshape(x, [1, M, 12]), Place(1)),
    "permute": (lambda x: tf.transpose(x, [0, 2, 1]), FIRST),
    "time first": (lambda x: tf.transpose(x, [1, 0, 2]), Place(1)),
    "time first, reshaped": (
        lambda x: tf.reshape(tf.transpose(x, [1, 0, 2]), [3, 2, M, 2]),
        Place(2),
    ),
    "expand_dims": (lambda x: tf.expand_dims(x, -1), FIRST),
    "expand_dims in front": (lambda x: tf.expand_dims(x, 0), Place(1)),
    "squeeze": (lambda x: tf.squeeze(x[:, None, :, None], [1, -2]), FIRST),
    "squeeze all": (lambda x: tf.squeeze(x[None, :, :, None]), FIRST),
    "stack": (lambda x: tf.stack([x, 2 * x], 1), FIRST),
    "stack in front": (lambda x: tf.stack([x, 2 * x]), Place(1)),
    "unstack": (lambda x: tf.unstack(x, axis=2)[1], FIRST),
    "unstack, time first": (lambda x: tf.unstack(tf.transpose(x, [1, 0, 2]))[2], FIRST),
}


@pytest.mark.parametrize("name", KEPT)
def test_where_it_leaves_the_batch(name):
    call, place = KEPT[name]
    assert places(call) == [place]
    of_images(call, place)


REFUSED = {
    "halves": (lambda x: tf.reshape(x, [2, 12, 2]), "reshapes it from (4, 6, 2) to (2, 12, 2)"),
    "not a number of rows": (
        lambda x: tf.reshape(x, [6, 8]),
        "reshapes it from (4, 6, 2) to (6, 8)",
    ),
    "time into images": (
        lambda x: tf.reshape(tf.transpose(x, [1, 0, 2]), [M, 6, 2]),
        "reshapes it from (6, 4, 2) to (4, 6, 2)",
    ),
    "unstack": (lambda x: tf.unstack(x), "splits it"),
    "list": (
        lambda x: tf.TensorArray(tf.float32, M).unstack(x).read(0),
        "splits it",
    ),
    "batch_to_space": (
        lambda x: tf.batch_to_space(x[..., None], [2, 2], [[0, 0], [0, 0]]),
        "makes images of several",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_to_the_batch(name):
    call, words = REFUSED[name]
    assert refusal(call) == words


def test_the_only_image_has_no_dimension_after_a_squeeze():
    assert refusal(tf.squeeze, shape=(1, 6, 2)) == "takes its dimension away"


def test_an_order_that_is_known_only_when_it_runs_is_refused():
    order = tf.Variable([0, 2, 1])
    words = "cannot be shown to leave it alone: its input 1 is known only when it runs"
    assert refusal(lambda x: tf.transpose(x, order)) == words


def test_a_shape_that_is_known_only_when_it_runs_is_refused():
    sizes = tf.Variable([4, 12])
    words = "cannot be shown to leave it alone: its shape is known only when it runs"
    assert refusal(lambda x: tf.reshape(x, sizes)) == words


def test_a_walk_through_time_reads_and_writes_lists():
    def call(x):
        steps = tf.TensorArray(tf.float32, 6).unstack(tf.transpose(x, [1, 0, 2]))
        written = tf.TensorArray(tf.float32, 2, element_shape=[M, 2])
        return written.write(0, steps.read(3)).write(1, steps.read(5)).stack()

    assert places(call) == [Place(1)]
    of_images(call, Place(1))
