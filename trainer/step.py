"""The arithmetic of one training step and of evaluation, and nothing else.

A step walks through V micro-batches, its virtual replicas. R real replicas process V / R of them
each, one after the other, and everything that is summed over micro-batches goes through
`fixed_point`: the sums, and so the weights, are the same bits for every R.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from trainer import audit, fixed_point, internals, sums
from trainer.averages import Averages
from trainer.fixed_point import STATISTIC_BITS
from trainer.losses import cross_entropy, outcome
from trainer.micro_batch import MICRO_BATCH, MicroBatch

UPDATE = "update"  # name scope of the optimizer: `placement` tells by it whose a kernel is


class History(NamedTuple):
    """One value per step, float64[steps] but for the hashes."""

    loss: tf.Tensor  # mean over the images that count
    images: tf.Tensor  # images that count
    correct: tf.Tensor
    gradient_norm: tf.Tensor  # before clipping
    applied: tf.Tensor  # 1, or 0 for a step that was skipped
    too_large: tf.Tensor  # 1 where it was skipped for finite numbers beyond the exact sum
    loss_scale: tf.Tensor  # that it was computed with; 1 but in float16
    hashes: tf.Tensor  # int64[steps, n] of the step's sum, as Hashing says; 0 where none are due


class Evaluation(NamedTuple):
    """Of the records that this worker evaluates, each once; [draws, replicas here, M] an image."""

    loss: tf.Tensor  # int64[]: sum of cross entropies in fixed point, STATISTIC_BITS
    overflows: tf.Tensor  # int64[]: micro-batches that are not in it: too large, or not finite
    label: tf.Tensor  # int64: true class; -1 for padding and bad records
    predicted: tf.Tensor  # int64: class of the largest logit
    probability: tf.Tensor  # float64: of that class
    above: tf.Tensor  # int64: logits above the one of the true class


class Hashing(NamedTuple):
    """Which steps' sums are hashed, and how finely."""

    due: Callable[[tf.Tensor], tf.Tensor]  # a step's number from 0, int32[] -> bool[]
    by_tensor: bool = False  # a hash for each part of the Layout; else one for the whole sum


class Step(Protocol):
    """Does the steps first_step, first_step + 1, .. with the next micro-batches."""

    def __call__(
        self, iterator: Iterator[Any], first_step: tf.Tensor, steps: tf.Tensor
    ) -> History: ...


class Train(Step, Protocol):
    """A traced training step: a tf.function."""

    def get_concrete_function(
        self, iterator: Iterator[Any], first_step: tf.Tensor, steps: tf.Tensor
    ) -> Any: ...


class Evaluate(Protocol):
    """A traced evaluation: a tf.function."""

    def __call__(self, iterator: Iterator[Any], draws: tf.Tensor) -> Evaluation: ...


def build_train(
    strategy: tf.distribute.Strategy,
    micro_batch: MicroBatch,
    optimizer: keras.optimizers.Optimizer,
    schedule: Callable[[tf.Tensor], tf.Tensor],
    *,
    clip_norm: float = 0.0,
    averages: Averages | None = None,
    rate_scales: Sequence[float] = (),
    hashing: Hashing | None = None,
) -> Train:
    """Returns train(iterator, first_step, steps) -> History, a tf.function that is traced once.

    schedule: step -> learning rate.
    iterator: a distributed iterator over micro-batches, drawn micro-batches / replicas times a
    step.
    first_step, steps: int64 tensors. averages: what each step that is applied updates.
    rate_scales: what multiplies the learning rate of each variable; none: all 1.
    hashing: None: no sums are hashed.
    """
    loss_scale = micro_batch.loss_scale
    variables, statistics = micro_batch.variables, micro_batch.statistics
    layout, micro_batches = micro_batch.layout, micro_batch.micro_batches
    draws = micro_batches // strategy.num_replicas_in_sync
    with strategy.scope():
        optimizer.build(variables)
        accumulator: Any = sums.accumulator(layout) if draws > 1 else None
    internals.use_reduced_gradients(optimizer)
    hashes = 0 if hashing is None else layout.parts if hashing.by_tensor else 1
    scaled = [(v, s) for v, s in zip(variables, rate_scales, strict=False) if s != 1.0]

    def accumulate(batch, step, draw):
        """Replica context: the draw-th micro-batch of this replica, added to its accumulator."""
        vector = micro_batch.sums(batch, step, global_micro_batch(draw))
        with tf.name_scope(MICRO_BATCH):
            accumulator.assign_add(vector)

    def global_micro_batch(draw):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.convert_to_tensor(replica) * draws + draw

    def clear():
        accumulator.assign(tf.zeros([layout.size], layout.dtype))

    def reduce(vector, step):
        """Replica context: this replica's sums -> the step's gradients, statistics, metrics."""
        vector = tf.distribute.get_replica_context().all_reduce("SUM", vector)
        total = layout.unpack(vector)
        return finish(total, layout.gradients(total.gradients), hashed(lambda: vector, step))

    def hashed(make_vector, step):
        """Replica context: the hashes of a step's sum, as float64 of their bits, for its row."""
        found = tf.zeros([hashes], tf.int64)
        if hashing is not None and hashing.due(step):
            found = layout.hashes(make_vector(), hashing.by_tensor)
        return tf.bitcast(found, tf.float64)

    def finish(total, gradients, hashes_of_sum):
        # Padded and bad slots have weight 0: the mean is over the images that are there. The factor
        # is exactly 1 for a full batch, and NaN (a skipped step) for a batch without any image.
        correction = micro_batch.images_per_step / total.weight
        norm = correction * tf.linalg.global_norm(gradients)
        applied = total.fits & tf.math.is_finite(norm) & tf.math.is_finite(total.loss)
        scale = correction
        if clip_norm:
            scale *= clip_norm / tf.maximum(norm, clip_norm)
        gradients = [g * scale for g in gradients]
        too_large = total.finite & ~total.fits
        scaled_by = tf.constant(1.0) if loss_scale is None else tf.identity(loss_scale.value)
        row = (total.loss * correction, total.weight, total.correct, norm, applied, too_large)
        row = tf.stack([tf.cast(x, tf.float64) for x in (*row, scaled_by)])
        row = tf.concat([row, hashes_of_sum], axis=0)
        if loss_scale is not None:
            empty = total.fits & (total.weight == 0.0)
            loss_scale.update(applied, too_large | empty)
        return gradients, total.statistics, row, applied

    def apply(gradients, changes, step):
        # First, as in the forward pass: a kernel that a layer normalises in place is both.
        for v, change in zip(statistics, changes, strict=True):
            v.assign_add(change / micro_batches)
        # Set once: Keras would evaluate a schedule anew for every variable.
        with tf.name_scope(UPDATE):
            optimizer.learning_rate.assign(schedule(step))
            optimizer.apply(gradients, variables)

    def slow_down(before):
        """Cross-replica context: each change times its scale, whatever optimizer has made it.

        All of them, and their decay, change a weight in proportion to the learning rate.
        """
        for (v, scale), old in zip(scaled, before, strict=True):
            strategy.extended.update(
                v.value,
                lambda local, old, scale=scale: local.assign(old + scale * (local - old)),
                args=(old,),
            )

    def one_step(iterator, step):
        zero = tf.constant(0)
        if micro_batches == 1:

            def whole(batch):
                total = micro_batch.alone(batch, step, zero)
                return finish(total, total.gradients, hashed(lambda: layout.vector(total), step))

            reduced = strategy.run(whole, args=(next(iterator),))
        elif draws == 1:
            reduced = strategy.run(
                lambda batch: reduce(micro_batch.sums(batch, step, global_micro_batch(zero)), step),
                args=(next(iterator),),
            )
        else:
            strategy.run(clear)
            for draw in tf.range(draws):
                strategy.run(accumulate, args=(next(iterator), step, draw))
            reduced = strategy.run(lambda: reduce(accumulator.read_value(), step))
        gradients, changes, row, applied = reduced
        # The condition stands outside the replicas: an optimizer's update calls merge_call, which
        # TensorFlow does not allow inside a replica's tf.cond.
        if strategy.experimental_local_results(applied)[0]:
            before = strategy.run(lambda: [tf.identity(v.value) for v, _ in scaled])
            strategy.run(apply, args=(gradients, changes, step))
            slow_down(before)
            if averages is not None:
                strategy.run(averages.update, args=(step,))
        return strategy.experimental_local_results(row)[0]

    @tf.function
    def train(iterator, first_step, steps):
        # TensorFlow keeps int32 in host memory. It would keep int64 on the GPU, and every round of
        # a loop would wait for the GPU to say whether there is another one.
        first_step, steps = tf.cast(first_step, tf.int32), tf.cast(steps, tf.int32)
        numbers = len(History._fields) - 1
        rows = tf.TensorArray(tf.float64, steps, element_shape=[numbers + hashes])
        for i in tf.range(steps):
            rows = rows.write(i, one_step(iterator, first_step + i))
        table = rows.stack()
        own = tf.bitcast(table[:, numbers:], tf.int64)
        return History._make([*tf.unstack(table[:, :numbers], axis=1), own])

    return train


def build_evaluate(strategy: tf.distribute.Strategy, model: keras.Model) -> Evaluate:
    """Returns evaluate(iterator, draws) -> Evaluation, a tf.function that is traced once.

    draws: int64 tensor, micro-batches per replica that hold every record once, padding included.
    """

    def micro_batch(image, label, weight):
        logits = audit.call(model, image, training=False)
        loss = tf.reduce_sum(weight * cross_entropy(label, logits))
        fits = fixed_point.check(loss, STATISTIC_BITS, addends=1).fits
        encoded = fixed_point.encode(loss, 2.0**STATISTIC_BITS)
        # float64 holds each of them exactly: one row, and one kernel to keep it.
        row = [tf.cast(each, tf.float64) for each in outcome(label, logits, weight)]
        return tf.stack([encoded, tf.cast(~fits, tf.int64)]), tf.stack(row)

    @tf.function
    def evaluate(iterator, draws):
        draws = tf.cast(draws, tf.int32)  # as in train
        sums = tf.zeros([2], tf.int64)
        rows = tf.TensorArray(tf.float64, draws)
        for draw in tf.range(draws):
            parts = strategy.run(micro_batch, args=next(iterator))
            own_sums, own_rows = map(strategy.experimental_local_results, parts)
            sums += tf.add_n(own_sums)
            rows = rows.write(draw, tf.stack(own_rows))
        found = rows.stack()
        label, predicted, above = (tf.cast(found[:, :, i], tf.int64) for i in (0, 1, 3))
        return Evaluation(sums[0], sums[1], label, predicted, found[:, :, 2], above)

    return evaluate


def build_predict(
    strategy: tf.distribute.Strategy, model: keras.Model
) -> Callable[[Iterator[Any]], tf.Tensor]:
    """Returns predict(iterator) -> float32[replicas here, M, classes], a tf.function: the
    probabilities of the next micro-batches, as in an evaluation."""

    def micro_batch(image, label, weight):
        return tf.nn.softmax(audit.call(model, image, training=False))

    @tf.function
    def predict(iterator):
        found = strategy.run(micro_batch, args=next(iterator))
        return tf.stack(strategy.experimental_local_results(found))

    return predict
