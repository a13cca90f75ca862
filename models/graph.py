"""What a model computes, whatever its parts are called."""

import hashlib

import keras
import tensorflow as tf
from google.protobuf.message import Message

# Attributes that are names, which differ from trace to trace.
_NAMES = ("shared_name", "container", "_class", "debug_name")


def digest(model: keras.Model, images: int) -> str:
    """SHA-256 of what a model computes of `images` images in training.

    Of the operations in their order, with types, attributes, inputs and shapes; names, and so the
    names of layers, do not count.
    """
    inputs = model.inputs[0]
    spec = tf.TensorSpec([images, *inputs.shape[1:]], inputs.dtype)
    graph = tf.function(lambda image: model(image, training=True)).get_concrete_function(spec).graph
    content = hashlib.sha256()
    _add(graph, content)
    return content.hexdigest()


def _add(graph: tf.Graph, content: "hashlib._Hash") -> None:
    number: dict[str, int] = {}
    for operation in graph.get_operations():
        number[operation.name] = len(number)
        inputs = [(number.get(each.op.name), each.value_index) for each in operation.inputs]
        shapes = [(each.dtype.name, str(each.shape)) for each in operation.outputs]
        attributes = [
            (name, _plain(value))
            for name, value in sorted(operation.node_def.attr.items())
            if name not in _NAMES
        ]
        content.update(repr((operation.type, inputs, shapes, attributes)).encode())


def _plain(value: Message) -> bytes | str:
    """An attribute without the names of functions, which a counter is part of."""
    kind = value.WhichOneof("value")
    return kind if kind == "func" else value.SerializeToString(deterministic=True)
