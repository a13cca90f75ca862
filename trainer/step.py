"""The arithmetic of one training step and of evaluation, and nothing else.

A step walks through V micro-batches, its virtual replicas. R real replicas process V / R of them
each, one after the other, and everything that is summed over micro-batches goes through
`fixed_point`: the sums, and so the weights, are the same bits for every R.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from trainer import fixed_point, internals
from trainer.fixed_point import GRADIENT_BITS, STATISTIC_BITS
from trainer.losses import count_correct, cross_entropy


class Sums(NamedTuple):
    """What one or more micro-batches add to a step: float32, or int64 fixed point."""

    gradients: list[tf.Tensor]
    statistics: list[tf.Tensor]  # changes of the moving statistics
    loss: tf.Tensor  # sum(weight * cross entropy) / images of a whole step
    weight: tf.Tensor  # images that count
    correct: tf.Tensor  # of those, classified right
    overflows: tf.Tensor  # tensors that fixed point cannot hold: NaN, infinite or too large


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
    images_per_step: int,
    micro_batches: int,
    seed: int,
    label_smoothing: float = 0.0,
    clip_norm: float = 0.0,
    reduction: str = "exact",
) -> Train:
    """Returns train(iterator, first_step, steps) -> History, a tf.function that is traced once.

    schedule: step -> learning rate.
    iterator: a distributed iterator over (image [M, S, S, 3], label int32[M] or soft
    float32[M, classes], weight float32[M]), drawn `micro_batches` / replicas times a step.
    first_step, steps: int64 tensors.
    reduction: "exact" (fixed point: the same bits on any number of replicas) or "fast" (float32).
    """
    variables = model.trainable_variables
    seeds = [v for v in model.non_trainable_variables if internals.is_seed(v)]
    statistics = [v for v in model.non_trainable_variables if not internals.is_seed(v)]
    _check_statistics(statistics)
    draws = micro_batches // strategy.num_replicas_in_sync
    exact = reduction == "exact" and micro_batches > 1

    with strategy.scope():
        optimizer.build(variables)
        dtype = tf.int64 if exact else tf.float32
        accumulators = (
            Sums(
                gradients=[_accumulator(v.shape, dtype) for v in variables],
                statistics=[_accumulator(v.shape, dtype) for v in statistics],
                loss=_accumulator((), dtype),
                weight=_accumulator((), dtype),
                correct=_accumulator((), tf.int64),
                overflows=_accumulator((), tf.int64),
            )
            if draws > 1
            else None
        )
    internals.use_reduced_gradients(optimizer)

    def reseed(step, micro_batch):
        """Dropout and other random layers draw from (seed, layer, step, micro-batch) only."""
        for layer, state in enumerate(seeds):
            key = tf.constant([seed, layer], state.value.dtype)
            for number in (step, micro_batch):
                key = tf.random.experimental.stateless_fold_in(key, number, alg="philox")
            state.assign(key)

    def micro_batch_sums(batch, step, micro_batch) -> Sums:
        image, label, weight = batch
        reseed(step, micro_batch)
        before = [tf.identity(v.value) for v in statistics]
        with tf.GradientTape() as tape:
            logits = model(image, training=True)
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
        sums = Sums(
            [tf.convert_to_tensor(g) for g in gradients],
            changes,
            loss,
            tf.reduce_sum(weight),
            count_correct(label, logits, weight),
            tf.constant(0, tf.int64),
        )
        return encode(sums) if exact else sums

    def encode(sums: Sums) -> Sums:
        overflows = fixed_point.count_overflows(sums.gradients, GRADIENT_BITS, micro_batches)
        overflows += fixed_point.count_overflows(
            [*sums.statistics, sums.loss, sums.weight], STATISTIC_BITS, micro_batches
        )
        return Sums(
            [fixed_point.encode(g, GRADIENT_BITS) for g in sums.gradients],
            [fixed_point.encode(s, STATISTIC_BITS) for s in sums.statistics],
            fixed_point.encode(sums.loss, STATISTIC_BITS),
            fixed_point.encode(sums.weight, STATISTIC_BITS),
            sums.correct,
            overflows,
        )

    def decode(sums: Sums) -> Sums:
        return sums._replace(
            gradients=[fixed_point.decode(g, GRADIENT_BITS) for g in sums.gradients],
            statistics=[fixed_point.decode(s, STATISTIC_BITS) for s in sums.statistics],
            loss=fixed_point.decode(sums.loss, STATISTIC_BITS),
            weight=fixed_point.decode(sums.weight, STATISTIC_BITS),
        )

    def accumulate(batch, step, draw):
        """Replica context: the draw-th micro-batch of this replica, added to its accumulators."""
        sums = micro_batch_sums(batch, step, global_micro_batch(draw))
        for total, part in zip(tf.nest.flatten(accumulators), tf.nest.flatten(sums), strict=True):
            total.assign_add(part)

    def global_micro_batch(draw):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.cast(replica, tf.int64) * draws + draw

    def take_accumulators() -> Sums:
        taken = tf.nest.map_structure(lambda a: tf.identity(a.read_value()), accumulators)
        for total in tf.nest.flatten(accumulators):
            total.assign(tf.zeros_like(total))
        return taken

    def reduce(sums: Sums):
        """Replica context: this replica's sums -> the step's gradients, statistics, metrics."""
        flat = tf.distribute.get_replica_context().all_reduce("SUM", tf.nest.flatten(sums))
        sums = tf.nest.pack_sequence_as(sums, flat)
        if exact:
            sums = decode(sums)
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
            reduced = strategy.run(lambda: reduce(take_accumulators()))
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
        logits = model(image, training=False)
        losses = weight * cross_entropy(label, logits)
        loss = tf.reduce_sum(losses)
        return (
            fixed_point.encode(loss, STATISTIC_BITS),
            fixed_point.count_overflows([loss], STATISTIC_BITS, 1),
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


def _accumulator(shape, dtype) -> tf.Variable:
    """A variable that each replica adds to on its own."""
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _check_statistics(statistics: list[keras.Variable]) -> None:
    for v in statistics:
        if v.dtype != "float32":
            raise TypeError(
                f"Variable {v.path} is {v.dtype}: what a model updates in training is averaged "
                "over the micro-batches of a step, which needs float32. Make it float32, or "
                "trainable."
            )
