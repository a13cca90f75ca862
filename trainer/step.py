"""The arithmetic of one training step and of evaluation, and nothing else.

A step walks through V micro-batches, its virtual replicas. R real replicas process V / R of them
each, one after the other, and everything that is summed over micro-batches goes through
`fixed_point`: the sums, and so the weights, are the same bits for every R.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from trainer import audit, fixed_point, internals
from trainer.errors import TrainerError
from trainer.fixed_point import STATISTIC_BITS
from trainer.losses import count_correct, cross_entropy
from trainer.sums import Layout, Sums


class History(NamedTuple):
    """One value per step, float64[steps]."""

    loss: tf.Tensor  # mean over the images that count
    images: tf.Tensor  # images that count
    correct: tf.Tensor
    gradient_norm: tf.Tensor  # before clipping
    applied: tf.Tensor  # 1, or 0 for a step that was skipped: non-finite or overflow


class Evaluation(NamedTuple):
    """Over every record once."""

    loss: tf.Tensor  # float64: mean cross entropy
    images: tf.Tensor  # int64
    correct: tf.Tensor  # int64


class Train(Protocol):
    """A traced training step: a tf.function."""

    def __call__(
        self, iterator: Iterator[Any], first_step: tf.Tensor, steps: tf.Tensor
    ) -> History: ...

    def get_concrete_function(
        self, iterator: Iterator[Any], first_step: tf.Tensor, steps: tf.Tensor
    ) -> Any: ...


class Evaluate(Protocol):
    """A traced evaluation: a tf.function."""

    def __call__(self, iterator: Iterator[Any], draws: tf.Tensor) -> Evaluation: ...


def build_train(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    schedule: Callable[[tf.Tensor], tf.Tensor],
    *,
    statistics: Sequence[keras.Variable],
    images_per_step: int,
    micro_batches: int,
    seed: int,
    label_smoothing: float = 0.0,
    clip_norm: float = 0.0,
    reduction: str = "exact",
) -> Train:
    """Returns train(iterator, first_step, steps) -> History, a tf.function that is traced once.

    schedule: step -> learning rate.
    statistics: the float32 variables that the model assigns in training, such as moving averages.
    iterator: a distributed iterator over (image [M, S, S, 3], label int32[M] or soft
    float32[M, classes], weight float32[M]), drawn `micro_batches` / replicas times a step.
    first_step, steps: int64 tensors.
    reduction: "exact" (fixed point: the same bits on any number of replicas) or "fast" (float32).
    """
    variables = model.trainable_variables
    seeds = [v for v in model.non_trainable_variables if internals.is_seed(v)]
    _check_statistics(statistics)
    draws = micro_batches // strategy.num_replicas_in_sync
    layout = Layout(
        [v.shape for v in variables],
        [v.shape for v in statistics],
        micro_batches=micro_batches,
        exact=reduction == "exact" and micro_batches > 1,
    )
    with strategy.scope():
        optimizer.build(variables)
        accumulator: Any = _accumulator(layout) if draws > 1 else None
    internals.use_reduced_gradients(optimizer)

    def reseed(step, micro_batch):
        """Dropout and other random layers draw from (seed, layer, step, micro-batch) only."""
        for layer, state in enumerate(seeds):
            key = tf.constant([seed, layer], state.value.dtype)
            for number in (step, micro_batch):
                key = tf.random.experimental.stateless_fold_in(key, number, alg="philox")
            state.assign(key)

    def micro_batch_sums(batch, step, micro_batch):
        """Replica context: a micro-batch -> its vector of sums."""
        image, label, weight = batch
        reseed(step, micro_batch)
        before = [tf.identity(v.value) for v in statistics]
        with tf.GradientTape() as tape:
            logits = audit.call(model, image, training=True)
            # Divided by the images of the step, so that the sum over its micro-batches is the mean.
            losses = cross_entropy(label, logits, label_smoothing)
            loss = tf.reduce_sum(weight * losses) / images_per_step
            objective = loss
            if model.losses:  # a regulariser counts once per step, so 1/V per micro-batch
                objective += tf.add_n(model.losses) / micro_batches
        gradients = tape.gradient(
            objective, [v.value for v in variables], unconnected_gradients="zero"
        )
        changes = [v.value - old for v, old in zip(statistics, before, strict=True)]
        for v, old in zip(statistics, before, strict=True):
            v.assign(old)  # every micro-batch of a step starts from the same statistics
        return layout.pack(
            Sums(
                gradients=[tf.convert_to_tensor(g) for g in gradients],
                statistics=changes,
                loss=loss,
                weight=tf.reduce_sum(weight),
                correct=count_correct(label, logits, weight),
                overflows=tf.constant(0, tf.int64),
            )
        )

    def accumulate(batch, step, draw):
        """Replica context: the draw-th micro-batch of this replica, added to its accumulator."""
        accumulator.assign_add(micro_batch_sums(batch, step, global_micro_batch(draw)))

    def global_micro_batch(draw):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.cast(replica, tf.int64) * draws + draw

    def take_accumulator():
        taken = tf.identity(accumulator.read_value())
        accumulator.assign(tf.zeros_like(taken))
        return taken

    def reduce(vector):
        """Replica context: this replica's sums -> the step's gradients, statistics, metrics."""
        sums = layout.unpack(tf.distribute.get_replica_context().all_reduce("SUM", vector))
        # Padded and bad slots have weight 0: the mean is over the images that are there. The factor
        # is exactly 1 for a full batch, and NaN (a skipped step) for a batch without any image.
        correction = images_per_step / sums.weight
        norm = correction * tf.linalg.global_norm(sums.gradients)
        applied = (sums.overflows == 0) & tf.math.is_finite(norm) & tf.math.is_finite(sums.loss)
        for change in sums.statistics:
            applied &= tf.reduce_all(tf.math.is_finite(change))
        scale = correction
        if clip_norm:
            scale *= clip_norm / tf.maximum(norm, clip_norm)
        gradients = [g * scale for g in sums.gradients]
        row = (sums.loss * correction, sums.weight, sums.correct, norm, applied)
        row = tf.stack([tf.cast(x, tf.float64) for x in row])
        return gradients, sums.statistics, row, applied

    def apply(gradients, changes, step):
        # Set once: Keras would evaluate a schedule anew for every variable.
        optimizer.learning_rate.assign(schedule(step))
        optimizer.apply(gradients, variables)
        for v, change in zip(statistics, changes, strict=True):
            v.assign_add(change / micro_batches)

    def one_step(iterator, step):
        if draws == 1:
            zero = tf.constant(0, tf.int64)
            reduced = strategy.run(
                lambda batch: reduce(micro_batch_sums(batch, step, global_micro_batch(zero))),
                args=(next(iterator),),
            )
        else:
            for draw in tf.range(tf.constant(draws, tf.int64)):
                strategy.run(accumulate, args=(next(iterator), step, draw))
            reduced = strategy.run(lambda: reduce(take_accumulator()))
        gradients, changes, row, applied = reduced
        # The condition stands outside the replicas: an optimizer's update calls merge_call, which
        # TensorFlow does not allow inside a replica's tf.cond.
        if strategy.experimental_local_results(applied)[0]:
            strategy.run(apply, args=(gradients, changes, step))
        return strategy.experimental_local_results(row)[0]

    @tf.function
    def train(iterator, first_step, steps):
        rows = tf.TensorArray(tf.float64, size=tf.cast(steps, tf.int32), element_shape=[5])
        for i in tf.range(steps):
            rows = rows.write(tf.cast(i, tf.int32), one_step(iterator, first_step + i))
        return History(*tf.unstack(rows.stack(), axis=1))

    return train


def build_evaluate(strategy: tf.distribute.Strategy, model: keras.Model) -> Evaluate:
    """Returns evaluate(iterator, draws) -> Evaluation, a tf.function that is traced once.

    draws: int64 tensor, micro-batches per replica that hold every record once, padding included.
    """

    def micro_batch(image, label, weight):
        logits = audit.call(model, image, training=False)
        losses = weight * cross_entropy(label, logits)
        loss = tf.reduce_sum(losses)
        scaled = fixed_point.scale(loss, STATISTIC_BITS)
        return (
            fixed_point.encode(scaled),
            fixed_point.overflows(scaled, addends=1),
            tf.math.count_nonzero(weight, dtype=tf.int64),
            count_correct(label, logits, weight),
        )

    @tf.function
    def evaluate(iterator, draws):
        totals = [tf.constant(0, tf.int64)] * 4
        for _ in tf.range(draws):
            parts = strategy.run(micro_batch, args=(next(iterator)))
            parts = [strategy.reduce("SUM", part, axis=None) for part in parts]
            totals = [total + part for total, part in zip(totals, parts, strict=True)]
        loss, overflows, images, correct = totals
        mean = tf.cast(loss, tf.float64) * 2.0**-STATISTIC_BITS / tf.cast(images, tf.float64)
        return Evaluation(
            tf.where(overflows == 0, mean, tf.constant(float("nan"), tf.float64)), images, correct
        )

    return evaluate


def _accumulator(layout: Layout) -> tf.Variable:
    """A vector that each replica adds to on its own."""
    return tf.Variable(
        tf.zeros([layout.size], layout.dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _check_statistics(statistics: Sequence[keras.Variable]) -> None:
    for v in statistics:
        if v.dtype != "float32":
            raise TrainerError(
                f"Variable {v.path} is {v.dtype}: what a model updates in training is averaged "
                "over the micro-batches of a step, which needs float32. Make it float32, or "
                "trainable."
            )
