"""LARS, which Keras lacks: a rate of its own for every layer."""

from typing import Any

import keras
from keras import ops

# You et al. 2017 (arXiv:1708.03888): what a step changes of a layer's weights, at a rate of 1.
TRUST = 0.001


class Lars(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling (arXiv:1708.03888, algorithm 1), with momentum.

    For a weight w with gradient g, decay d and velocity v:
        t = trust |w| / (|g| + d |w|);  v = momentum v + rate t (g + d w);  w -= v
    or, with Nesterov's momentum, w -= momentum v + rate t (g + d w). Weights that are excluded from
    decay (biases, norms) have t = 1 and d = 0, as in MLPerf's reference; so has one that is 0, or
    whose gradient is, but for its decay.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        trust: float = TRUST,
        name: str = "lars",
    ):
        # Not given to Keras, which would decay the weights outside of the norms.
        super().__init__(learning_rate=learning_rate, name=name)
        self.momentum = momentum
        self.nesterov = nesterov
        self.decay = weight_decay
        self.trust = trust

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        rate = ops.cast(learning_rate, variable.dtype)
        velocity = self.velocities[self._get_variable_index(variable)]
        if self._use_weight_decay(variable):
            weight_norm, norm = _norm(variable), _norm(gradient)
            scale = self.trust * weight_norm / (norm + self.decay * weight_norm)
            scale = ops.where(ops.logical_and(weight_norm > 0, norm > 0), scale, 1.0)
            gradient = scale * (gradient + self.decay * variable)
        change = rate * gradient
        self.assign(velocity, self.momentum * velocity + change)
        self.assign_sub(variable, self.momentum * velocity + change if self.nesterov else velocity)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.decay,
            "trust": self.trust,
        }


def _norm(x: Any) -> Any:
    """The Euclidean norm of all numbers; Keras' own takes no more than two axes."""
    return ops.sqrt(ops.sum(ops.square(x)))
