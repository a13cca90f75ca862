"""The one place of the batch: records -> tf.data of micro-batches.

An element is one micro-batch as the model gets it: image [M, S, S, 3] in uint8 (or float32 for
float arrays), label int32[M], weight float32[M]. All shapes are static, and nothing after the
pipeline reshapes, slices or re-batches an element.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import tensorflow as tf

from input import order
from input.config import InputConfig
from input.errors import BadRecordError
from input.images import eval_view, train_view
from input.order import EvaluationPlan, Plan
from input.reader import Block

# Micro-batches decoded at the same time, and kept ready: enough to bridge a slow read, few enough
# that 256 images of 224 pixels at a time stay under 1 GB.
PREFETCH = 4


class Reader(Protocol):
    """Where images come from: input.reader.RecordReader, input.arrays.ArrayReader."""

    records: int
    classes: tuple[str, ...]
    bad_records: dict[int, BadRecordError]
    failure: BadRecordError | None

    def read(self, numbers: np.ndarray) -> Block: ...

    def reject(self, number: int, reason: str) -> None: ...


def train(
    config: InputConfig,
    reader: Reader,
    plan: Plan,
    *,
    seed: int,
    first_step: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Endless micro-batches of one worker from first_step on, in the order its replicas draw them.

    Every pixel follows from (seed, epoch, record number). Starting at step 10**9 costs what
    starting at step 0 does.
    """
    draws_per_step = plan.draws_per_step * plan.replicas // workers

    def number(draw: int) -> tuple[np.ndarray, np.ndarray]:
        step, micro_batch = order.micro_batch(draw, plan, worker, workers)
        epoch, numbers = order.training_records(step, micro_batch, plan, seed)
        # Seeds of augmentation are not the permutation's keys: another stream of the same seed.
        return numbers, order.fold_in(~seed, epoch, numbers)

    def view(image, image_seed):
        if config.augment == "none":
            return eval_view(image, config.image_size, config.eval_crop)
        return train_view(
            image,
            config.image_size,
            image_seed,
            config.crop_min_area,
            flip=config.augment == "standard",
        )

    draws = tf.data.Dataset.counter(first_step * draws_per_step, dtype=tf.int64)
    return _micro_batches(draws, number, reader, view, plan, config.image_size)


def evaluate(
    config: InputConfig,
    reader: Reader,
    plan: EvaluationPlan,
    *,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Every record once, in order, padded with weight 0 to whole micro-batches on every replica.

    Endless: plan.draws draws per replica are one evaluation, so that one iterator serves a whole
    run (making and dropping iterators costs seconds).
    """

    def number(draw: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = order.evaluation_records(draw, plan, worker, workers)
        return numbers, np.zeros(len(numbers), np.uint64)

    def view(image, _):
        return eval_view(image, config.image_size, config.eval_crop)

    draws = tf.data.Dataset.counter(dtype=tf.int64)
    return _micro_batches(draws, number, reader, view, plan, config.image_size)


def element_spec(
    plan: Plan | EvaluationPlan, image_size: int, image_dtype: tf.DType = tf.uint8
) -> tuple[tf.TensorSpec, tf.TensorSpec, tf.TensorSpec]:
    """Shapes and dtypes of one micro-batch: image, label, weight."""
    m = plan.images_per_micro_batch
    return (
        tf.TensorSpec([m, image_size, image_size, 3], image_dtype),
        tf.TensorSpec([m], tf.int32),
        tf.TensorSpec([m], tf.float32),
    )


@contextmanager
def naming_bad_records(reader: Reader) -> Iterator[None]:
    """Turns TensorFlow's error about a failed read into the reader's own, which names the record."""
    try:
        yield
    except tf.errors.OpError:
        if reader.failure is not None:
            raise reader.failure from None
        raise


def _micro_batches(
    draws: tf.data.Dataset,
    number: Callable[[int], tuple[np.ndarray, np.ndarray]],
    reader: Reader,
    view: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    plan: Plan | EvaluationPlan,
    image_size: int,
) -> tf.data.Dataset:
    """draws: counts; number: draw -> record numbers int64[M] and 64-bit seeds of their views."""
    pixels = getattr(reader, "pixels", None)
    if pixels is None:
        raw = tf.TensorSpec([plan.images_per_micro_batch], tf.string)
    else:
        raw = tf.TensorSpec([plan.images_per_micro_batch, *pixels.shape[1:3], 3], pixels.dtype)
    image_dtype = tf.uint8 if pixels is None else raw.dtype
    spec = element_spec(plan, image_size, image_dtype)

    def read(draw):
        def block(draw):
            numbers, seeds = number(int(draw))
            images, labels, weights = reader.read(numbers)
            return numbers, images, labels, weights, seeds.view(np.int32).reshape(-1, 2)

        dtypes = (tf.int64, raw.dtype, tf.int32, tf.float32, tf.int32)
        numbers, images, labels, weights, seeds = tf.numpy_function(block, [draw], dtypes)
        numbers.set_shape(spec[1].shape)
        images.set_shape(raw.shape)
        labels.set_shape(spec[1].shape)
        weights.set_shape(spec[2].shape)
        seeds.set_shape([plan.images_per_micro_batch, 2])
        return numbers, images, labels, weights, seeds

    def view_or_nothing(slot):
        image, weight, seed = slot
        return tf.cond(
            weight > 0,
            lambda: view(image, seed),
            lambda: tf.zeros(spec[0].shape[1:], image_dtype),
        )

    def decode(numbers, images, labels, weights, seeds):
        views = tf.map_fn(
            view_or_nothing,
            (images, weights, seeds),
            fn_output_signature=tf.TensorSpec(spec[0].shape[1:], image_dtype),
        )
        return tf.ensure_shape(views, spec[0].shape), labels, weights

    def salvage(numbers, images, labels, weights, seeds):
        """A micro-batch in which an image cannot be decoded: finds it and takes it out."""

        def one_by_one(numbers, images, weights, seeds):
            weights = weights.copy()
            views = np.zeros(spec[0].shape, image_dtype.as_numpy_dtype)
            for slot in np.flatnonzero(weights):
                try:
                    views[slot] = view(tf.constant(images[slot]), tf.constant(seeds[slot]))
                except tf.errors.OpError as error:
                    reason = error.message.partition("\n")[0].partition("} ")[2] or error.message
                    reader.reject(int(numbers[slot]), f"the image cannot be decoded: {reason}")
                    weights[slot] = 0.0
            return views, weights

        views, weights = tf.numpy_function(
            one_by_one, [numbers, images, weights, seeds], (image_dtype, tf.float32)
        )
        views.set_shape(spec[0].shape)
        weights.set_shape(spec[2].shape)
        return views, labels, weights

    def decode_or_salvage(*block):
        """tf.data has no try: an element that fails is dropped, and the second way takes over.

        A dataset of its own per micro-batch costs no more than noise next to a plain map.
        """
        once = tf.data.Dataset.from_tensors(block)
        return once.map(decode).ignore_errors().concatenate(once.map(salvage)).take(1)

    options = tf.data.Options()
    options.deterministic = True
    return (
        draws.map(read, num_parallel_calls=2)
        .interleave(decode_or_salvage, cycle_length=PREFETCH, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(PREFETCH)
        .with_options(options)
    )
