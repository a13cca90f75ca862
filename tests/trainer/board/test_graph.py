"""The graph of a model: every layer a box of its name, every edge there."""

import keras
import pytest
from keras import layers
from tensorboard.compat.proto.graph_pb2 import GraphDef

from models.build import build_model
from models.config import ModelConfig
from trainer import internals
from trainer.board import graph


def drawn(model: keras.Model) -> GraphDef:
    found = GraphDef.FromString(graph.of_model(model, images=4).graph_def)
    names = [node.name for node in found.node]
    assert len(set(names)) == len(names)
    sources = {source.partition(":")[0] for node in found.node for source in node.input}
    assert sources <= set(names)
    return found


@pytest.mark.parametrize(("name", "size"), [("cnn", 28), ("vit_ti16", 32)])
def test_layers_have_their_names(name, size):
    model = build_model(ModelConfig(name), input_shape=(size, size, 3), num_classes=3)
    found = drawn(model)
    boxes = {node.name.split("/")[0] for node in found.node}
    computing = {layer.name for layer in model.layers if layer.weights}
    assert computing <= boxes
    assert {"image", "pixels"} <= boxes
    assert not any(box.endswith("_1") for box in boxes - internals.layer_names(model))


def test_names_that_look_like_others_numbers():
    """dense_1 is a layer, and what Keras calls dense in a graph; dense is called twice."""
    image = keras.Input((4, 4, 3), name="image")
    dense, other = layers.Dense(3, name="dense"), layers.Dense(3, name="dense_1")
    model = keras.Model(image, dense(other(dense(image))), name="dense_2")
    found = drawn(model)
    operations = {}
    for node in found.node:
        operations.setdefault(node.name.split("/")[0], set()).add(node.op)
    assert "BiasAdd" in operations["dense"] or "AddV2" in operations["dense"]
    assert "dense_1" in operations
    assert len([box for box in operations if box.startswith("dense")]) == 3
