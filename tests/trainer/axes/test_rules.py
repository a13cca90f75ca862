"""Where operations leave the batch: every rule against what the operation really does to images."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.axes import rules
from trainer.axes.place import FIRST, BatchError, MovedError, Place

M = 4


def traced(call, shape=(M, 6, 2)):
    """The graph of call(x), and the name of x in it."""
    function = tf.function(call, autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    return graph, graph.inputs[0].name


def places(call, shape=(M, 6, 2), start=FIRST):
    """Where the batch is in what call(x) returns, from `start` in x; None where nowhere."""
    graph, name = traced(call, shape)
    known = {name: start}
    for operation in graph.get_operations():
        names = enumerate(tensor.name for tensor in operation.inputs)
        incoming = {i: known[name] for i, name in names if name in known}
        if incoming:
            found = rules.follow(operation, incoming)
            known |= {operation.outputs[i].name: place for i, place in found.items()}
    return [known.get(tensor.name) for tensor in graph.outputs]


def refusal(call, **kwargs) -> str:
    with pytest.raises(BatchError) as caught:
        places(call, **kwargs)
    return str(caught.value)


def of_images(call, place: Place, shape=(M, 6, 2)) -> None:
    """Each image alone decides what is at its place in the result: change it, and only that is new.

    This is what a Place means; it is computed, not looked up.
    """
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    before = np.asarray(call(tf.constant(x)))
    for i in range(shape[0]):
        changed = x.copy()
        changed[i] = -1 - changed[i]
        new = (np.asarray(call(tf.constant(changed))) != before).any(
            axis=tuple(a for a in range(before.ndim) if a != place.axis)
        )
        step = slice(i, None, M) if place.strided else slice(i * place.rows, (i + 1) * place.rows)
        assert new[step].any()
        new[step] = False
        assert not new.any()


KEPT = {
    "elementwise": (lambda x: tf.nn.relu(x - 100) + 2 * x, FIRST),
    "broadcast to more dimensions": (lambda x: x + tf.zeros([3, 1, 1, 1]), Place(1)),
    "where": (lambda x: tf.where(x > 3, x, -x), FIRST),
    "concat": (lambda x: tf.concat([x, x], -1), FIRST),
    "reverse": (lambda x: tf.reverse(x, [1, -1]), FIRST),
    "roll": (lambda x: tf.roll(x, [1, 2], [1, 2]), FIRST),
    "reverse to lengths": (lambda x: tf.reverse_sequence(x, [2, 4, 6, 1], 1, 0), FIRST),
    "cumsum": (lambda x: tf.cumsum(x, 1), FIRST),
    "split": (lambda x: tf.split(x, 3, axis=1)[1], FIRST),
    "split by sizes": (lambda x: tf.split(x, [1, 5], axis=1)[1], FIRST),
    "softmax": (lambda x: tf.nn.softmax(x / 50), FIRST),
    "top": (lambda x: tf.math.top_k(x, 1).values, FIRST),
    "mean": (lambda x: tf.reduce_mean(x, [1]), FIRST),
    "mean, dimensions kept": (lambda x: tf.reduce_mean(x, [-1], keepdims=True), FIRST),
    "largest": (lambda x: tf.argmax(x, -2), FIRST),
    "mean of what stands in front": (
        lambda x: tf.reduce_mean(tf.transpose(x, [1, 0, 2]), 0),
        FIRST,
    ),
    "pad": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 0]]), FIRST),
    "tile": (lambda x: tf.tile(x, [1, 2, 2]), FIRST),
    "broadcast_to": (lambda x: tf.broadcast_to(x, [3, M, 6, 2]), Place(1)),
    "matmul": (lambda x: tf.matmul(tf.reshape(x, [M, 12]), tf.ones([12, 3])), FIRST),
    "matmul of rows": (
        lambda x: tf.matmul(tf.reshape(x, [M * 6, 2]), tf.ones([2, 3])),
        Place(0, 6),
    ),
    "batch matmul": (lambda x: tf.matmul(x, tf.ones([2, 3])), FIRST),
    "matmul, transposed": (
        lambda x: tf.matmul(tf.ones([3, 12]), tf.reshape(x, [M, 12]), transpose_b=True),
        Place(1),
    ),
    "image by image": (lambda x: tf.matmul(x, x, transpose_b=True), FIRST),
    "einsum": (lambda x: tf.einsum("btc,cd->dbt", x, tf.ones([2, 3])), Place(1)),
    "einsum with dots": (lambda x: tf.einsum("...tc,cd->...td", x, tf.ones([2, 3])), FIRST),
}


@pytest.mark.parametrize("name", KEPT)
def test_where_an_operation_leaves_the_batch(name):
    call, place = KEPT[name]
    assert places(call) == [place]
    of_images(call, place)


REFUSED = {
    "concat": (lambda x: tf.concat([x, x], 0), "joins it with something"),
    "reverse": (lambda x: tf.reverse(x, [1, 0]), "reverses it"),
    "roll": (lambda x: tf.roll(x, 1, 0), "rolls it"),
    "reverse to lengths": (lambda x: tf.reverse_sequence(x, [3] * 6, 0, 1), "reverses it"),
    "cumsum": (lambda x: tf.cumsum(x, 0), "mixes its images"),
    "split": (lambda x: tf.split(x, 2), "splits it"),
    "split by sizes": (lambda x: tf.split(x, [1, 3]), "splits it"),
    "softmax": (lambda x: tf.nn.softmax(tf.transpose(x)), "mixes its images"),
    "pad": (lambda x: tf.pad(x, [[1, 0], [0, 0], [0, 0]]), "changes its size (4, 5)"),
    "tile": (lambda x: tf.tile(x, [2, 1, 1]), "changes its size (4, 8)"),
    "images with each other": (lambda x: x[..., :1] + tf.transpose(x[..., 1:]), "mixes its images"),
    "matmul over the batch": (
        lambda x: tf.matmul(tf.ones([3, M]), tf.reshape(x, [M, 12])),
        "sums over it",
    ),
    "products of all pairs": (
        lambda x: tf.matmul(tf.reshape(x, [M, 12]), tf.reshape(x, [M, 12]), transpose_b=True),
        "mixes its images",
    ),
    "einsum": (lambda x: tf.einsum("btc->tc", x), "sums over it"),
    "shuffle": (tf.random.shuffle, "cannot be shown to leave it alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_operation_does_to_the_batch(name):
    call, words = REFUSED[name]
    assert refusal(call) == words


def test_axes_that_are_known_only_when_it_runs_are_refused():
    axis = tf.Variable([1])
    words = "cannot be shown to leave it alone: its input 1 is known only when it runs"
    assert refusal(lambda x: tf.reverse(x, axis)) == words


def test_a_statistic_of_the_batch_is_no_batch():
    assert places(lambda x: tf.reduce_mean(x, 0)) == [None]
    assert places(lambda x: x - tf.reduce_mean(x, [0, 1])) == [FIRST]
    assert places(tf.shape) == [None]


IMAGES = (M, 8, 8, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: tf.nn.conv2d(x, tf.ones([3, 3, 3, 2]), 1, "SAME"),
        lambda x: tf.nn.conv2d(x, tf.ones([3, 3, 3, 2]), 1, "SAME", dilations=2),
        lambda x: tf.nn.conv2d_transpose(x, tf.ones([3, 3, 2, 3]), [M, 16, 16, 2], 2),
        lambda x: tf.nn.depthwise_conv2d(x, tf.ones([3, 3, 3, 2]), [1, 1, 1, 1], "SAME"),
        lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
        lambda x: tf.image.resize(x, [4, 4]),
        lambda x: tf.nn.space_to_depth(x, 2),
    ],
)
def test_what_works_on_images_keeps_the_batch_and_takes_it_from_no_other_dimension(call):
    assert places(call, IMAGES) == [FIRST]
    of_images(call, FIRST, IMAGES)
    with pytest.raises(MovedError):
        places(call, IMAGES, start=Place(1))


def test_a_convolution_with_holes_that_tensorflow_takes_apart():
    kernel = tf.ones([3, 3, 3, 2])

    def call(x):
        x = tf.space_to_batch(x, [2, 2], [[2, 2], [2, 2]])
        return tf.nn.conv2d(x, kernel, 1, "VALID")

    assert places(call, IMAGES) == [Place(0, 4, strided=True)]
    of_images(call, Place(0, 4, strided=True), IMAGES)
    whole = lambda x: tf.batch_to_space(call(x), [2, 2], [[0, 0], [0, 0]])  # noqa: E731
    assert places(whole, IMAGES) == [FIRST]
    of_images(whole, FIRST, IMAGES)


def test_images_as_the_filter_are_refused():
    call = lambda x: tf.nn.conv2d(tf.ones([1, 8, 8, 8]), x, 1, "SAME")  # noqa: E731
    assert refusal(call, shape=IMAGES) == "takes it for something else than images"


def test_in_rows_only_dense_layers_read_images():
    rows = Place(0, 6)
    dense = lambda x: tf.nn.relu(tf.matmul(x, tf.ones([2, 3])) + 1)  # noqa: E731
    assert places(dense, (M * 6, 2), start=rows) == [rows]
    with pytest.raises(MovedError):
        places(tf.nn.softmax, (M * 6, 2), start=rows)


@pytest.mark.parametrize(("time_major", "batch", "time"), [(False, 0, 1), (True, 1, 0)])
def test_cudnn_reads_the_batch_first_or_time(time_major, batch, time):
    """Keras' LSTM and GRU on GPUs; the operation has no kernel here, but a graph."""

    def call(x):
        return tf.raw_ops.CudnnRNNV3(
            input=x,
            input_h=tf.zeros([1, 5, 2]),
            input_c=tf.zeros([1, 5, 2]),
            params=tf.zeros([100]),
            sequence_lengths=[5] * 5,
            rnn_mode="lstm",
            time_major=time_major,
        ).output

    assert places(call, (5, 5, 2), start=Place(batch)) == [Place(batch)]
    assert refusal(call, shape=(5, 5, 2), start=Place(time)) == "takes it for time"


def test_a_layer_reads_the_first_dimension():
    graph, _ = traced(lambda x: tf.matmul(x, tf.ones([2, 3])))
    (product,) = (op for op in graph.get_operations() if op.type in rules.PRODUCTS)
    rules.check_layer(product, {0: FIRST})
    with pytest.raises(MovedError):
        rules.check_layer(product, {0: Place(1)})
