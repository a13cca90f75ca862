"""What a model's forward pass in training does besides computing, found in a trace.

The step averages what its micro-batches do to moving statistics, and sets the states of Keras'
random generators before each of them. Whatever else a forward pass changes or draws would depend on
the number of replicas, and on where a run was resumed.
"""

import re
from typing import Any

import keras
import tensorflow as tf

from models import internals
from models.errors import ModelError

_ASSIGNMENT = re.compile("Assign|ResourceScatter|ResourceStridedSliceAssign")
_STATEFUL_RANDOM = re.compile(
    "Random(?!Dataset)|ParameterizedTruncatedNormal|TruncatedNormal|Multinomial|Rng|"
    "Stateful(Random|StandardNormal|TruncatedNormal|Uniform)"
)


def assigned_variables(model: keras.Model, images: int) -> list[keras.Variable]:
    """The variables that a forward pass of `images` images in training assigns.

    Moving statistics, the states of random generators, and kernels that a layer normalises in place
    (SpectralNormalization), in the model's order; frozen weights are none. Raises ModelError,
    naming the layer, for a forward pass that assigns a variable that Keras does not know, draws
    from a stateful random generator, or all-reduces.
    """
    updated: set[int] = set()

    class Recorder(keras.StatelessScope):
        def add_update(self, update: tuple[keras.Variable, Any]) -> None:
            updated.add(id(update[0]))
            super().add_update(update)

    def forward(image: tf.Tensor, values: list[tf.Tensor]) -> None:
        with Recorder(state_mapping=list(zip(model.variables, values, strict=True))):
            model(image, training=True)

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
    return [v for v in model.variables if id(v) in updated]


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
