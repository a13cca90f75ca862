"""The dynamic loss scale of float16, whose smallest gradients would be 0 without it."""

import keras
import tensorflow as tf

START = 2.0**15
GROW_AFTER = 2000  # steps in a row that were applied (Micikevicius et al. 2018, arXiv:1710.03740)
LOWEST, HIGHEST = 2.0**-14, 2.0**24  # below is no gradient that could be saved; no float16 above


class LossScale:
    """What a loss is multiplied with before its gradients are computed, and they divided by.

    Always a power of two, so that both are exact. Make it in the strategy's scope.
    """

    def __init__(self) -> None:
        self.layer = keras.layers.Layer(name="loss_scale")  # which a checkpoint can hold
        self._scale = self._variable("scale", START)
        self._applied = self._variable("applied_since", 0.0)

    def _variable(self, name: str, start: float) -> keras.Variable:
        variable = self.layer.add_weight(
            shape=(),
            name=name,
            initializer=keras.initializers.Constant(start),
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        setattr(self.layer, name, variable)  # a checkpoint holds a layer's attributes only
        return variable

    @property
    def value(self) -> tf.Tensor:
        """float32[]"""
        return self._scale.value

    def update(self, applied: tf.Tensor, too_large: tf.Tensor) -> None:
        """Replica context, after a step: halved where its gradients were not finite.

        applied, too_large: bool[], of a step. After GROW_AFTER applied ones in a row it doubles.
        """
        since = tf.where(applied, self._applied.value + 1.0, 0.0)
        grows = since >= GROW_AFTER
        factor = tf.where(applied | too_large, tf.where(grows, 2.0, 1.0), 0.5)
        self._scale.assign(tf.clip_by_value(self.value * factor, LOWEST, HIGHEST))
        self._applied.assign(tf.where(grows, 0.0, since))
