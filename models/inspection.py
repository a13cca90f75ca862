"""What a model's forward pass does besides computing logits, found in a trace.

The step averages what its micro-batches do to moving statistics, and sets the states of Keras'
random generators before each of them. Whatever else a forward pass changes or draws would depend on
the number of replicas, and on where a run was resumed. What it does to its pixels first, and to its
logits last, has to agree with what it gets and with the loss.
"""

import random
import re
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models import internals, own, pixels, ranges
from models.errors import ModelError

_ASSIGNMENT = re.compile("Assign|ResourceScatter|ResourceStridedSliceAssign")
_STATEFUL_RANDOM = re.compile(
    "Random(?!Dataset)|ParameterizedTruncatedNormal|TruncatedNormal|Multinomial|Rng|"
    "Stateful(Random|StandardNormal|TruncatedNormal|Uniform)"
)
_INVARIANCE = (
    "the result would depend on the number of replicas. Replace the layer, or keep its state in "
    "non-trainable weights and its randomness in a keras.random.SeedGenerator"
)
# What may stand between a last activation and the logits: none makes probabilities into logits.
_SEEN_THROUGH = {
    *("Identity", "IdentityN", "Cast", "Reshape", "Squeeze", "ExpandDims", "StopGradient"),
    *("EnsureShape", "Mean"),
}
_PROBABILITIES = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def assigned_variables(model: keras.Model, images: int) -> list[keras.Variable]:
    """The variables that a forward pass of `images` images in training assigns.

    Moving statistics, the states of random generators, and kernels that a layer normalises in place
    (SpectralNormalization), in the model's order; frozen weights are none. Raises ModelError,
    naming the layer, for a forward pass that assigns a variable that Keras does not know, draws
    from a stateful random generator, or all-reduces; that uses trainable variables which are no
    weights of the model; that draws Python's random numbers while it is traced; that assigns
    anything in inference; that begins with a layer made for
    other pixels than it gets; or that returns probabilities.
    """
    training, inference = (_trace(model, images, training) for training in (True, False))
    for trace in (training, inference):
        _check_operations(model, trace)
        _check_end(model, trace)
    for variable, scope in inference.updates:
        raise _refusal(
            model,
            scope or variable.path,
            f"assigns {variable.path}",
            "an evaluation would change the model. Do it where call(.., training) is true",
            where="inference",
        )
    if not keras.backend.is_float_dtype(model.inputs[0].dtype):
        _check_pixels(model, inference)
    assigned = {id(variable) for variable, _ in training.updates}
    return [v for v in model.variables if id(v) in assigned]


class _Trace(NamedTuple):
    """A forward pass as a graph, and what it asked of Keras and tf.distribute meanwhile."""

    graph: Any
    trainable: bool  # whether it uses a trainable variable that is no weight of the model
    updates: list[tuple[keras.Variable, str]]  # with the name scope of each
    all_reduces: list[str]  # name scopes


def _trace(model: keras.Model, images: int, training: bool) -> _Trace:
    updates: list[tuple[keras.Variable, str]] = []

    class Recorder(keras.StatelessScope):
        def add_update(self, update: tuple[keras.Variable, Any]) -> None:
            updates.append((update[0], tf.compat.v1.get_default_graph().get_name_scope()))
            super().add_update(update)

    def forward(image: tf.Tensor, values: list[tf.Tensor]) -> tf.Tensor:
        with Recorder(state_mapping=list(zip(model.variables, values, strict=True))):
            return model(image, training=training)

    state = _python_random_state()
    (image,) = model.inputs
    traced = tf.function(forward, autograph=False)
    try:
        with (
            own.failing(f"The model {model.name}"),
            internals.recorded_all_reduces() as all_reduces,
        ):
            trace = traced.get_concrete_function(
                tf.TensorSpec([images, *image.shape[1:]], image.dtype),
                [tf.TensorSpec(v.shape, v.dtype) for v in model.variables],
            )
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(
            f"The model {model.name} cannot be traced: {internals.reason(error)}. "
            "Layers and variables are made in __init__ or build, not in call."
        ) from error
    if state != _python_random_state():
        raise ModelError(
            f"{model.name} draws from Python's or NumPy's random numbers while it is traced, as "
            "Keras' AugMix does: every replica would get another model. Take that layer out, or "
            "let the input pipeline do it (--augment)."
        )
    # The weights of the model are inputs of this graph: what it reads as a variable is none.
    return _Trace(trace.graph, bool(trace.graph.trainable_variables), updates, all_reduces)


def _python_random_state() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state())  # the position in its numbers included


def _check_operations(model: keras.Model, trace: _Trace) -> None:
    for scope in trace.all_reduces:
        raise _refusal(model, scope, "all-reduces over the replicas", _INVARIANCE)
    weights = {id(variable) for variable in model.variables}
    for variable, scope in trace.updates:
        if id(variable) not in weights:
            what = f"assigns {variable.path}, which is no weight of the model"
            if variable.name == "seed_generator_state":
                what = "draws from keras.random without a seed"
            raise _refusal(model, scope, what, _INVARIANCE)
    for operation in internals.operations(trace.graph):
        if _ASSIGNMENT.match(operation.type):
            what = "assigns a tf.Variable, which Keras does not see"
            raise _refusal(model, operation.name, what, _INVARIANCE)
        if _STATEFUL_RANDOM.match(operation.type):
            raise _refusal(
                model, operation.name, "draws from TensorFlow's own random state", _INVARIANCE
            )
        if operation.type == "ReadVariableOp" and trace.trainable:
            raise _refusal(
                model,
                operation.name,
                "reads a trainable variable that is no weight of the model",
                "it would never be trained. Make it with self.add_weight in the layer's build",
            )


def _check_end(model: keras.Model, trace: _Trace) -> None:
    operation = trace.graph.outputs[0].op
    while True:
        if operation.type in _PROBABILITIES:
            layer = _layer(model, operation.name)
            raise ModelError(
                f"The model ends in a {_PROBABILITIES[operation.type]}, in "
                f"{f'layer {layer}' if layer else operation.name}, and the loss applies its own. "
                "Return the logits: leave the last activation out."
            )
        body = internals.body(operation)
        if body is not None:
            operation = body.outputs[0].op
        elif operation.type in _SEEN_THROUGH:
            operation = operation.inputs[0].op
        else:
            return


def _check_pixels(model: keras.Model, trace: _Trace) -> None:
    for found in ranges.used(trace.graph.inputs[0]):
        if found.makes_sense:
            continue
        assert found.operation is not None  # 0..255 is neither
        layer = _layer(model, found.operation.name)
        raise ModelError(
            f"{f'Layer {layer}' if layer else found.operation.name} makes "
            f"{found.low:.3g}..{found.high:.3g} of its pixels, and the model gets "
            f"{pixels.shown(model)}: "
            f"{'they are all nearly the same' if found.is_narrow else 'far too large'}. Take the "
            "layer out, or set --pixels to what it is made for (raw: 0..255)."
        )


def _refusal(
    model: keras.Model, operation: str, what: str, why: str, where: str = "its forward pass"
) -> ModelError:
    """operation: the name scopes of an operation, or a variable's path."""
    layer = _layer(model, operation) or operation
    return ModelError(f"Layer {layer} of the model {what} in {where}: {why}.")


def _layer(model: keras.Model, operation: str) -> str | None:
    """The innermost layer among an operation's name scopes."""
    names = {layer.name for layer in internals.all_layers(model)}
    # A scope that is entered again gets a number: dropout_1 of a layer dropout.
    scopes = [s if s in names else re.sub(r"_\d+$", "", s) for s in operation.split("/")]
    layers = [scope for scope in scopes if scope in names - {model.name}]
    return layers[-1] if layers else None
