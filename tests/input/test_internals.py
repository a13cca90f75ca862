"""TensorFlow's errors in the words of a user."""

import pytest
import tensorflow as tf

from input import internals


def test_the_reason_is_the_operations_own_line():
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.io.decode_png(tf.constant(b"\x89PNG\r\n\x1a\n"))
    assert "{{" in caught.value.message
    assert internals.reason(caught.value) == "Invalid PNG. Failed to initialize decoder"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "{{function_node __wrapped__F}} {{node a/b}} No memory [Op:F] name: \n stack",
            "No memory",
        ),
        ("{{function_node F}} It is wrong. [Op:F]", "It is wrong"),
        ("Another version's words\n\tstack", "Another version's words"),
        ("", ""),
    ],
)
def test_names_of_nodes_are_left_out(message, reason):
    assert internals.reason(tf.errors.InternalError(None, None, message)) == reason
