"""Keras' private API: a test fails where models.internals no longer gets what it relies on."""

import keras
import pytest
import tensorflow as tf

from models import internals


def number(layer: keras.layers.Layer) -> int:
    """conv2d -> 0, conv2d_3 -> 3."""
    return int(layer.name.rpartition("_")[2]) if "_" in layer.name else 0


def new_dense() -> keras.layers.Layer:
    return keras.layers.Dense(1)


def test_names_are_those_of_a_new_process_and_go_on_afterwards():
    before = number(new_dense())
    for _ in range(2):
        with internals.fresh_names():
            assert [new_dense().name for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    assert number(new_dense()) == before + 1


def test_names_go_on_after_an_error():
    before = number(new_dense())
    with pytest.raises(ZeroDivisionError), internals.fresh_names():
        new_dense()
        raise ZeroDivisionError
    assert number(new_dense()) == before + 1


def test_counters_that_are_elsewhere_are_noticed(monkeypatch):
    monkeypatch.setattr(internals, "_COUNTERS", "elsewhere")
    with (
        pytest.raises(RuntimeError, match=rf"Keras {keras.__version__} does not count names in"),
        internals.fresh_names(),
    ):
        pass


def test_why_keras_refuses_a_layer_is_one_line():
    """Keras prints the reason in bold, and its own call around it."""
    with pytest.raises(ValueError, match=r"calling MaxPooling2D\.call\(\)") as caught:
        keras.layers.MaxPooling2D(2)(keras.Input((1, 1, 3)))
    assert internals.reason(caught.value) == (
        "Computed output size would be zero or negative. Received: `inputs.shape=[None 1 1 3]`, "
        "`pool_size=[2 2]`, `strides=(2, 2)`, `padding=valid`"
    )


def test_another_text_is_the_reason_as_a_whole():
    assert internals.reason(ValueError("no bold\n  in it.")) == "no bold in it"


@pytest.mark.parametrize("clear", [keras.utils.clear_session, keras.backend.clear_session])
def test_a_cleared_session_is_put_back(strategies, clear):
    with strategies[2].scope():
        keras.config.set_dtype_policy("mixed_bfloat16")
        before = internals.session()
        assert not internals.put_back(before)
        clear()
        # What it is for: the strategy and the policy are gone.
        assert not tf.distribute.has_strategy()
        assert keras.config.dtype_policy().name == "float32"
        assert internals.put_back(before)
        assert tf.distribute.get_strategy() is strategies[2]
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        keras.config.set_dtype_policy("float32")
        mirrored = keras.Variable(1.0)
    assert isinstance(mirrored.value, tf.distribute.DistributedValues)
    assert not tf.distribute.has_strategy()


def test_the_body_of_a_called_function():
    relu = tf.function(lambda x: tf.nn.relu(x), autograph=False)
    graph = (
        tf.function(lambda x: relu(x) + 1, autograph=False)
        .get_concrete_function(tf.TensorSpec([2]))
        .graph
    )
    bodies = [internals.body(operation) for operation in graph.get_operations()]
    (inner,) = [body for body in bodies if body is not None]
    assert "Relu" in {operation.type for operation in inner.get_operations()}
