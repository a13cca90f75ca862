"""What TensorFlow does not promise and the input relies on. Written for TensorFlow 2.21."""

import re

import tensorflow as tf


def reason(error: tf.errors.OpError) -> str:
    """Why an operation failed, in one line, without TensorFlow's own names around it.

    2.21 writes {{function_node f}} {{node n}} REASON [Op:Name] and a stack below it. Where another
    version writes otherwise, more of that is shown.
    """
    first_line = error.message.partition("\n")[0]
    return re.sub(r"{{[^{}]*}} ?|\.? \[Op:.*", "", first_line)
