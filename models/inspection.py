"""What a model's forward pass in training does besides computing, found in a trace.

The step adds up what its micro-batches do to moving statistics, and sets the states of Keras'
random generators before each of them. Whatever else a forward pass changes or draws would depend on
the number of replicas, and on where a run was resumed.
"""

import random
import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import internals
from models.errors import ModelError

_ASSIGNMENT = re.compile("Assign|ResourceScatter|ResourceStridedSliceAssign")
_STATEFUL_RANDOM = re.compile(
    "Random(?!Dataset)|ParameterizedTruncatedNormal|TruncatedNormal|Multinomial|Rng|"
    "Stateful(Random|StandardNormal|TruncatedNormal|Uniform)"
)


def assigned_variables(model: keras.Model, images: int) -> list[keras.Variable]:
    """The non-trainable variables that a forward pass of `images` images in training assigns.

    Moving statistics and the states of random generators, in the model's order; frozen weights are
    none. Raises ModelError, naming the layer, for a forward pass that assigns a trainable variable
    or one that Keras does not know, draws from a stateful random generator, or all-reduces; and for
    one that draws Python's random numbers while it is traced.
    """
    updated: set[int] = set()

    class Recorder(keras.StatelessScope):
        def add_update(self, update: tuple[keras.Variable, Any]) -> None:
            updated.add(id(update[0]))
            super().add_update(update)

    def forward(image: tf.Tensor, values: list[tf.Tensor]) -> None:
        with Recorder(state_mapping=list(zip(model.variables, values, strict=True))):
            model(image, training=True)

    state = _python_random_state()
    (image,) = model.inputs
    with internals.recorded_all_reduces() as all_reduces:
        trace = tf.function(forward, autograph=False).get_concrete_function(
            tf.TensorSpec([images, *image.shape[1:]], image.dtype),
            [tf.TensorSpec(v.shape, v.dtype) for v in model.variables],
        )
    for scope in all_reduces:
        raise _refusal(model, scope, "all-reduces over the replicas")
    for operation in internals.operations(trace.graph):
        if _ASSIGNMENT.match(operation.type):
            raise _refusal(model, operation.name, "assigns a tf.Variable, which Keras does not see")
        if _STATEFUL_RANDOM.match(operation.type):
            raise _refusal(model, operation.name, "draws from TensorFlow's own random state")
    if state != _python_random_state():
        raise ModelError(
            f"{model.name} draws from Python's or NumPy's random numbers while it is traced, as "
            "Keras' AugMix does: every replica would get another model. Take that layer out, or "
            "let the input pipeline do it (--augment)."
        )
    assigned = [v for v in model.variables if id(v) in updated]
    for variable in assigned:
        if variable.trainable:
            raise _refusal(model, variable.path, "assigns a trainable variable")
    return assigned


def _python_random_state() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state())  # the position in its numbers included


def _refusal(model: keras.Model, operation: str, what: str) -> ModelError:
    """operation: the name scopes of an operation, or a variable's path."""
    names = {layer.name for layer in internals.all_layers(model)}
    # A scope that is entered again gets a number: dropout_1 of a layer dropout.
    scopes = [s if s in names else re.sub(r"_\d+$", "", s) for s in operation.split("/")]
    layers = [scope for scope in scopes if scope in names - {model.name}]
    return ModelError(
        f"Layer {layers[-1] if layers else operation} of the model {what} in its forward pass: the "
        "result would depend on the number of replicas. Replace the layer, or keep its state in "
        "non-trainable weights and its randomness in a keras.random.SeedGenerator."
    )
