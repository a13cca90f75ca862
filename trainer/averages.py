"""Exponential moving averages of a model's weights and moving statistics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf


class Averages:
    """One average for each of a model's variables; make it in the strategy's scope.

    After step n, from 0, an average is d average + (1 - d) weight, with d the smaller of the decay
    and (1 + n) / (10 + n): a short run's averages would else be its initial weights.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable], decay: float
    ):
        self._strategy = strategy
        self._decay = decay
        self._variables = variables
        self.layer = keras.layers.Layer(name="averages")  # which a checkpoint can hold
        self._copies = [self._copy(f"average_{i}", v) for i, v in enumerate(variables)]

    def _copy(self, name: str, v: keras.Variable) -> keras.Variable:
        copy = self.layer.add_weight(
            shape=v.shape,
            name=name,
            initializer="zeros",
            trainable=False,
            dtype=v.dtype,
            autocast=False,
        )
        setattr(self.layer, name, copy)  # a checkpoint holds a layer's attributes, not its weights
        return copy

    def start(self) -> None:
        """Makes the averages the present weights, before a run's first step."""
        for copy, v in zip(self._copies, self._variables, strict=True):
            copy.assign(v)

    def update(self, step: tf.Tensor) -> None:
        """Replica context, after the update of a step: integer[], from 0."""
        done = tf.cast(step, tf.float32)
        rest = 1.0 - tf.minimum(self._decay, (1.0 + done) / (10.0 + done))
        for copy, v in zip(self._copies, self._variables, strict=True):
            copy.assign_add((v.value - copy.value) * tf.cast(rest, copy.dtype))

    def replace_weights(self) -> None:
        """The model has the averages as its weights from here on."""
        for copy, v in zip(self._copies, self._variables, strict=True):
            v.assign(copy)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages as its weights, and its own again at the end."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @tf.function
    def _exchange(self) -> None:
        def exchange() -> None:
            for copy, v in zip(self._copies, self._variables, strict=True):
                own, average = tf.identity(v.value), tf.identity(copy.value)
                with tf.control_dependencies([own, average]):
                    v.assign(average)
                    copy.assign(own)

        self._strategy.run(exchange)
