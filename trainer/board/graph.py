"""A model as TensorBoard draws it: its operations in boxes with the names of its layers."""

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
    graph = forward.get_concrete_function(spec).graph.as_graph_def(add_shapes=True)
    names = _without_numbers([node.name for node in graph.node], internals.layer_names(model))
    for node in graph.node:
        node.name = names[node.name]
        for place, source in enumerate(node.input):  # name, name:1 or ^name
            name = source.removeprefix("^").partition(":")[0]
            node.input[place] = source.replace(name, names[name])
    return Event(graph_def=graph.SerializeToString())


def _without_numbers(names: Iterable[str], layers: Iterable[str]) -> dict[str, str]:
    """Each name -> the same with layers called what they are called.

    Keras enters a layer's scope twice, so that in a graph dense is dense_1, and the layer dense_1
    is dense_1_2. A layer that is called again is dense_2 here, where no layer has that name.
    """
    layers, found, taken = set(layers), {"": ""}, set[str]()
    for name in names:
        path = ""
        for part in name.split("/"):
            above, path = found[path], f"{path}/{part}".removeprefix("/")
            if path in found:
                continue
            plain = re.sub(r"_\d+$", "", part)
            wanted = plain if plain in layers else part
            more = (f"{wanted}_{number}" for number in count(2))
            free = chain([wanted], (name for name in more if name not in layers))
            places = (f"{above}/{name}".removeprefix("/") for name in free)
            found[path] = next(place for place in places if place not in taken)
            taken.add(found[path])
    return found
