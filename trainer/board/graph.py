"""A model as TensorBoard draws it: a box for each layer, with its operations inside."""

import re
from collections.abc import Iterable
from itertools import chain, count

import keras
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from trainer import internals


def of_model(model: keras.Model, images: int) -> Event:
    """What a model computes of `images` images in an evaluation."""
    (image,) = model.inputs
    spec = tf.TensorSpec([images, *image.shape[1:]], image.dtype, name="image")
    forward = tf.function(lambda image: model(image, training=False), autograph=False)
    traced = forward.get_concrete_function(spec).graph
    graph = traced.as_graph_def(add_shapes=True)
    # What ends a tf.function says nothing: its output, again, and one that waits for all others.
    ends = {traced.outputs[0].op.name} if traced.outputs[0].op.type == "Identity" else set()
    nodes = [node for node in graph.node if node.op != "NoOp" and node.name not in ends]
    names = _names([node.name for node in nodes], internals.layer_names(model), model.name)
    for node in nodes:
        sources = [source for source in node.input if not source.startswith("^")]
        node.name = names[node.name]
        node.input[:] = [f"{names[name]}{end}" for name, end in map(_split, sources)]
    shown = tf.compat.v1.GraphDef(node=nodes, library=graph.library, versions=graph.versions)
    return Event(graph_def=shown.SerializeToString())


def _split(source: str) -> tuple[str, str]:
    """name:1 -> name and :1"""
    name, colon, output = source.partition(":")
    return name, colon + output


def _names(names: Iterable[str], layers: Iterable[str], model: str) -> dict[str, str]:
    """The name of each operation -> one in which layers are called what they are called.

    Keras enters a layer's scope twice, so that in a graph dense is dense_1, and the layer dense_1
    is dense_1_2. A layer that is called again is dense_2, unless another one is. The scope of the
    model, which all have, goes.
    """
    layers, found, taken = set(layers), {"": ""}, set[str]()
    for name in names:
        path = ""
        for part in name.split("/"):
            above, path = found[path], f"{path}/{part}".removeprefix("/")
            if path in found:
                continue
            plain = re.sub(r"_\d+$", "", part)
            if plain == model and path == part:
                found[path] = ""
                continue
            wanted = plain if plain in layers else part
            more = (f"{wanted}_{number}" for number in count(2))
            free = chain([wanted], (each for each in more if each not in layers))
            places = (f"{above}/{each}".removeprefix("/") for each in free)
            found[path] = next(place for place in places if place not in taken)
            taken.add(found[path])
    return found
