"""One micro-batch, forward and backward: what it adds to a step. A pure function of the weights.

The step walks through V of them, its virtual replicas; none depends on which device has it, nor on
the others.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer import audit, internals, sums
from trainer.errors import TrainerError
from trainer.loss_scale import LossScale
from trainer.losses import class_weight, count_correct, cross_entropy
from trainer.sums import Layout, Sums, Total

# Name scopes: `placement` tells by them whose a kernel is.
MICRO_BATCH, FORWARD, BACKWARD = "micro_batch", "forward", "backward"
HOST = "host"  # meant to run there


class MicroBatch:
    """The arithmetic of a micro-batch of a model."""

    def __init__(
        self,
        model: keras.Model,
        *,
        statistics: Sequence[keras.Variable],
        images_per_step: int,
        micro_batches: int,
        seed: int,
        label_smoothing: float = 0.0,
        reduction: str = "exact",
        class_weights: Sequence[float] = (),
        loss_scale: LossScale | None = None,
        jit: bool = False,
    ):
        """statistics: the float32 variables that the model assigns in training.

        micro_batches: of a step. reduction: "exact" (fixed point: the same bits on any number of
        replicas) or "fast" (float32). class_weights: one a class, or none: all 1. loss_scale: of
        float16. jit: forward and backward are compiled by XLA. Raises TrainerError for
        statistics of another dtype.
        """
        _check_statistics(statistics)
        self.variables = model.trainable_variables
        self.statistics = statistics
        self.images_per_step = images_per_step
        self.micro_batches = micro_batches
        self.layout = Layout(
            [v.shape for v in self.variables],
            [v.shape for v in statistics],
            micro_batches=micro_batches,
            exact=reduction == "exact" and micro_batches > 1,
        )
        self._model = model
        self._seeds = [v for v in model.non_trainable_variables if internals.is_seed(v)]
        self._seed = seed
        self._label_smoothing = label_smoothing
        self._class_weights = tuple(class_weights)
        self.loss_scale = loss_scale
        # Not the packing and the sums: XLA is free to change how those would round.
        compute = self._forward_and_backward
        self._compute = tf.function(compute, jit_compile=True) if jit else compute

    def sums(self, batch: tuple[Any, Any, Any], step: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Replica context: a micro-batch -> the vector of its Sums, as self.layout packs them.

        batch: image [M, S, S, 3], label int32[M] or soft float32[M, classes], weight float32[M].
        step, number: integers[], the number in 0..V-1 of that step. Leaves all variables as they
        were, but for the states of random generators, which are set before each use.
        """
        with tf.name_scope(MICRO_BATCH):
            return self.layout.pack(self._sums(batch, step, number))

    def alone(self, batch: tuple[Any, Any, Any], step: tf.Tensor, number: tf.Tensor) -> Total:
        """As sums, of a step that has no other micro-batch: what these add up to."""
        with tf.name_scope(MICRO_BATCH):
            return sums.alone(self._sums(batch, step, number))

    def _sums(self, batch: tuple[Any, Any, Any], step: tf.Tensor, number: tf.Tensor) -> Sums:
        image, label, weight = batch
        self._reseed(step, number)
        before = [tf.identity(v.value) for v in self.statistics]
        gradients, loss, correct = self._compute(image, label, weight)
        changes = [v.value - old for v, old in zip(self.statistics, before, strict=True)]
        for v, old in zip(self.statistics, before, strict=True):
            v.assign(old)  # every micro-batch of a step starts from the same statistics
        return Sums(gradients, changes, loss, tf.reduce_sum(weight), correct)

    def _forward_and_backward(
        self, image: tf.Tensor, label: tf.Tensor, weight: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """-> gradients of self.variables, loss, images classified right; as of Sums."""
        with tf.GradientTape() as tape:
            with tf.name_scope(FORWARD):
                logits = audit.call(self._model, image, training=True)
            # Divided by the images of the step, so that the sum over its micro-batches is the mean.
            losses = cross_entropy(label, logits, self._label_smoothing)
            if self._class_weights:
                losses *= class_weight(label, tf.constant(self._class_weights))
            loss = tf.reduce_sum(weight * losses) / self.images_per_step
            objective = loss
            if self._model.losses:  # a regulariser counts once per step: by the images that count
                added = [tf.reduce_sum(tf.cast(each, tf.float32)) for each in self._model.losses]
                objective += tf.add_n(added) * (tf.reduce_sum(weight) / self.images_per_step)
            if self.loss_scale is not None:
                objective *= self.loss_scale.value
        with tf.name_scope(BACKWARD):
            gradients = tape.gradient(
                objective, [v.value for v in self.variables], unconnected_gradients="zero"
            )
            gradients = [tf.convert_to_tensor(g) for g in gradients]
            if self.loss_scale is not None:
                gradients = [g / self.loss_scale.value for g in gradients]  # a power of two: exact
        return gradients, loss, count_correct(label, logits, weight)

    def _reseed(self, step: tf.Tensor, number: tf.Tensor) -> None:
        """Dropout and other random layers draw from (seed, layer, step, micro-batch) only."""
        for layer, state in enumerate(self._seeds):
            # On the host: on a GPU these are 42 kernels a layer, for 16 bytes.
            with tf.name_scope(HOST), tf.device("CPU:0"):
                key = tf.constant([self._seed, layer], state.value.dtype)
                for each in (step, number):
                    folded = tf.cast(each, key.dtype)
                    key = tf.random.experimental.stateless_fold_in(key, folded, alg="philox")
            state.assign(key)


def _check_statistics(statistics: Sequence[keras.Variable]) -> None:
    for v in statistics:
        if v.dtype != "float32":
            raise TrainerError(
                f"Variable {v.path} is {v.dtype}: what a model updates in training is averaged "
                "over the micro-batches of a step, which needs float32. Make it float32, or "
                "trainable."
            )
