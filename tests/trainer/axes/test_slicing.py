"""Where a slice or a gather leaves the batch."""

import pytest
import tensorflow as tf

from tests.trainer.axes.test_rules import M, of_images, places, refusal
from trainer.axes.place import FIRST, Place

KEPT = {
    "a part of each image": (lambda x: x[:, 1:4], FIRST),
    "all images, said in full": (lambda x: x[0:M, 2], FIRST),
    "the last dimension reversed": (lambda x: x[..., ::-1], FIRST),
    "behind new dimensions": (lambda x: x[None, :, None, 3], Place(1)),
    "behind dots and new dimensions": (lambda x: x[None, ..., None, 1], Place(1)),
    "one moment, time first": (lambda x: tf.transpose(x, [1, 0, 2])[-1], FIRST),
    "every second moment, time first": (lambda x: tf.transpose(x, [1, 0, 2])[::2], Place(1)),
    "slice": (lambda x: tf.slice(x, [0, 2, 0], [M, 3, 2]), FIRST),
    "gather": (lambda x: tf.gather(x, [3, 1], axis=1), FIRST),
    "gather with more dimensions": (
        lambda x: tf.gather(tf.transpose(x, [1, 2, 0]), [[1], [0]], axis=1),
        Place(3),
    ),
    "gather of each image its own": (
        lambda x: tf.gather(x, [[0, 1], [2, 3], [4, 5], [1, 0]], axis=1, batch_dims=1),
        FIRST,
    ),
    "a table of pixels": (
        lambda x: tf.gather(tf.random.stateless_normal([99, 3], [1, 2]), tf.cast(abs(x), tf.int32)),
        FIRST,
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_where_it_leaves_the_batch(name):
    call, place = KEPT[name]
    assert places(call) == [place]
    of_images(call, place)


REFUSED = {
    "the first ones": (lambda x: x[:2], "changes its size (2, 4)"),
    "all but the first": (lambda x: x[1:], "takes a part of it"),
    "every second one": (lambda x: x[::2], "takes a part of it"),
    "one of them": (lambda x: x[1], "takes one image out of it"),
    "behind dots": (lambda x: tf.transpose(x)[..., :3], "changes its size (3, 4)"),
    "reversed": (lambda x: x[::-1], "reverses it"),
    "slice": (lambda x: tf.slice(x, [1, 0, 0], [3, 6, 2]), "changes its size (3, 4)"),
    "gather": (lambda x: tf.gather(x, [3, 2, 1, 0]), "gathers images out of it"),
    "gather where the images say": (
        lambda x: tf.gather(x, tf.cast(abs(x[..., 0]) / 99, tf.int32), axis=1),
        "mixes its images",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_to_the_batch(name):
    call, words = REFUSED[name]
    assert refusal(call) == words


def test_a_start_that_is_known_only_when_it_runs_is_refused():
    start = tf.Variable(0)
    words = "cannot be shown to leave it alone: its slice is known only when it runs"
    assert refusal(lambda x: x[start:]) == words
    assert places(lambda x: x[:, start : start + 2]) == [FIRST]
