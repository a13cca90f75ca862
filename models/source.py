"""What a model of the user's is made of: the file of its code, and the graph that it computes."""

import hashlib
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import keras
import tensorflow as tf
from google.protobuf.message import Message

from models.own import IN_FILE

# Attributes that are names, which differ from trace to trace.
_NAMES = ("shared_name", "container", "_class", "debug_name")


def is_code(name: str) -> bool:
    """Whether a --model is code of the user's, which runs when it is imported."""
    return ":" in name and not name.startswith("keras:")


def find(name: str) -> Path | None:
    """The file of a model function, as an import would find it; nothing is run."""
    place = name.rpartition(":")[0]
    if re.fullmatch(IN_FILE, name):
        return Path(place).resolve()
    search, origin = [str(Path.cwd()), *sys.path], None
    for part in place.split("."):
        spec = PathFinder.find_spec(part, search)
        if spec is None:
            return None
        search, origin = list(spec.submodule_search_locations or []), spec.origin
    return Path(origin) if origin else None


def digest(name: str) -> str:
    """SHA-256 of the file of a model function; empty where there is none that can be read."""
    path = find(name)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def short(digest: str) -> str:
    """As a line shows it."""
    return digest[:16] or "unknown"


def graph_digest(model: keras.Model, images: int) -> str:
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
