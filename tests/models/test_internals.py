"""Keras' private API: a test fails where models.internals no longer gets what it relies on."""

import keras
import pytest

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
