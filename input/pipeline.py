"""The one place of the batch: records -> tf.data of micro-batches.

An element is one micro-batch as the model gets it: image [M, S, S, 3] in uint8 (or float32 for
float pixels), label int32[M] (float32[M, classes] with mixup or CutMix), weight float32[M]. All
shapes are static, and nothing after the pipeline reshapes, slices or re-batches an element.

>>> import numpy as np
>>> from input import arrays, order, pipeline
>>> from input.config import InputConfig
>>> reader = arrays.ArrayReader(np.zeros((100, 28, 28), np.uint8), np.arange(100) % 10)
>>> config = InputConfig(global_batch_size=32, micro_batch_size=16, image_size=28)
>>> plan = order.plan(config, reader.records, replicas=1)
>>> for image, label, weight in pipeline.train(config, reader, plan, seed=0).take(2):  # one step
...     print(image.dtype.name, image.shape, label.shape, weight.numpy().sum())
uint8 (16, 28, 28, 3) (16,) 16.0
uint8 (16, 28, 28, 3) (16,) 16.0

Records are another reader of the same kind:

>>> from input.manifest import Manifest
>>> from input.reader import RecordReader
>>> reader = RecordReader(Manifest.load("data/train"))
>>> plan = order.plan(config, reader.records, replicas=1)
>>> image, label, weight = next(iter(pipeline.train(config, reader, plan, seed=0)))
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from input import augment, heap, mix, order, policy
from input.config import InputConfig
from input.errors import BadRecordError, InputError
from input.images import DRAWS, eval_view, random_crop, raw_pixels, train_view
from input.order import EvaluationPlan, Plan
from input.reader import Block, blank_image
from input.records import Schema

# Micro-batches read and decoded at the same time; map_fn decodes 10 images of each at once.
PARALLEL = max(4, len(os.sched_getaffinity(0)) // 8)
# Micro-batches kept ready: enough to bridge a slow read, few enough that with those in work 256
# images of 224 pixels at a time stay under 1 GB.
READY = 4

# A draw -> records and random of its _Slots.
Contents = Callable[[int], tuple[np.ndarray, np.ndarray]]
# Slots -> what the model sees: [n, S, S, 3].
Views = Callable[["_Slots"], tf.Tensor]


class _Slots(NamedTuple):
    """A micro-batch before decoding; n is M."""

    records: tf.Tensor  # int64[n]: numbers, -1 for padding
    images: tf.Tensor  # as in input.reader.Block, and so are the next three
    sizes: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    random: tf.Tensor  # float32[n, ..] in [0, 1): what is random about each view


class Reader(Protocol):
    """Where images come from: input.reader.RecordReader, input.arrays.ArrayReader."""

    records: int
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None  # None: the bytes of schema
    image_dtype: np.dtype  # of pixels
    schema: Schema
    bad_records: dict[int, BadRecordError]
    failure: BadRecordError | None

    def read(self, numbers: np.ndarray) -> Block: ...

    # Only for bytes: pixels need no decoding.
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
    draws_per_step = plan.draws_per_step * order.local_replicas(plan, workers)

    def contents(draw: int) -> tuple[np.ndarray, np.ndarray]:
        step, micro_batch = order.micro_batch(draw, plan, worker, workers)
        epoch, records = order.training_records(step, micro_batch, plan, seed)
        return records, _training_random(config, seed, epoch, records)

    if (config.color_jitter or config.policy.layers) and reader.image_dtype != np.uint8:
        raise InputError(
            "--color_jitter, --augment=trivial and --augment=rand-.. need pixels of 8 bits; these "
            f"are {reader.image_dtype}. Leave them away."
        )
    draws = tf.data.Dataset.counter(first_step * draws_per_step, dtype=tf.int64)
    views = partial(_training_views, config, reader)
    return _micro_batches(draws, contents, views, reader, plan, config)


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

    def contents(draw: int) -> tuple[np.ndarray, np.ndarray]:
        records = order.evaluation_records(draw, plan, worker, workers)
        return records, np.empty((len(records), 0), np.float32)

    draws = tf.data.Dataset.counter(dtype=tf.int64)
    views = partial(_evaluation_views, config, reader)
    unmixed = replace(config, mixup=0.0, cutmix=0.0)
    return _micro_batches(draws, contents, views, reader, plan, unmixed)


def training_views(
    config: InputConfig, reader: Reader, numbers: np.ndarray, *, seed: int, epoch: int
) -> tf.Tensor:
    """int64[n] record numbers -> [n, S, S, 3]: what training sees of them in an epoch, unmixed."""
    random = _training_random(config, seed, epoch, numbers)
    return _training_views(config, reader, _slots_of(reader, numbers, random))


def evaluation_views(config: InputConfig, reader: Reader, numbers: np.ndarray) -> tf.Tensor:
    """int64[n] record numbers -> [n, S, S, 3]: what evaluation sees of them, to show."""
    no_random = np.empty((len(numbers), 0), np.float32)
    return _evaluation_views(config, reader, _slots_of(reader, numbers, no_random))


def element_spec(
    plan: Plan | EvaluationPlan,
    image_size: int,
    image_dtype: tf.DType = tf.uint8,
    mixed_classes: int | None = None,
) -> tuple[tf.TensorSpec, tf.TensorSpec, tf.TensorSpec]:
    """Shapes and dtypes of one micro-batch: image, label, weight.

    mixed_classes: how many there are, where a label is a share of each.
    """
    m = plan.images_per_micro_batch
    number = tf.TensorSpec([m], tf.int32)
    return (
        tf.TensorSpec([m, image_size, image_size, 3], image_dtype),
        number if mixed_classes is None else tf.TensorSpec([m, mixed_classes], tf.float32),
        tf.TensorSpec([m], tf.float32),
    )


@contextmanager
def naming_bad_records(reader: Reader) -> Iterator[None]:
    """Turns TensorFlow's error about a bad record into the reader's own, which names the record."""
    try:
        yield
    except tf.errors.OpError:
        if reader.failure is not None:
            raise reader.failure from None
        raise


def _slots_of(reader: Reader, numbers: np.ndarray, random: np.ndarray) -> _Slots:
    """The slots of some records, outside of any graph."""
    columns = (numbers, *reader.read(numbers), random)
    # TensorFlow takes bytes as a list, not as an array of objects.
    listed = (column.tolist() if column.dtype == object else column for column in columns)
    return _Slots(*map(tf.constant, listed))


def _draws(config: InputConfig) -> list[int]:
    """Random numbers of each image: for its view, jitter, erasing and operations."""
    layers = config.policy.layers
    return [DRAWS, augment.JITTER_DRAWS, augment.ERASE_DRAWS, layers * policy.DRAWS]


def _training_random(config: InputConfig, seed: int, epoch: int, records: np.ndarray) -> np.ndarray:
    """float32[n, ..]: draws of views, of jitter and erasing, and the Mix of all."""
    count = sum(_draws(config))
    random = order.uniform(seed, epoch, records, count)
    if not config.mixes:
        return random
    drawn = mix.draw(seed, epoch, records, config.mixup, config.cutmix)
    return np.concatenate([random, np.tile(drawn, (len(records), 1))], axis=1)


def _training_views(config: InputConfig, reader: Reader, slots: _Slots) -> tf.Tensor:
    own = slots.random[:, : sum(_draws(config))]
    random, jitter, erasing, operations = tf.split(own, _draws(config), axis=1)
    if config.augment == "none":
        images = _evaluation_views(config, reader, slots)
    else:
        crops = random_crop(random, config.crop_min_area, flip=config.augment != "crop")
        size, (layers, magnitude) = config.image_size, config.policy
        if layers:
            images = _each(
                lambda image, crop, own: policy.apply(
                    train_view(image, size, crop), tf.reshape(own, [layers, -1]), magnitude
                ),
                *(reader, slots, crops, operations),
            )
        else:
            view = lambda image, crop: train_view(image, size, crop)  # noqa: E731
            images = _each(view, reader, slots, crops)
    if config.color_jitter:
        images = augment.color_jitter(images, jitter, config.color_jitter)
    if config.erasing:
        images = augment.erase(images, erasing, config.erasing)
    return images


def _mixed(
    config: InputConfig, reader: Reader, slots: _Slots, images: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images and labels float32[n, classes] of a micro-batch, mixed."""
    labels = tf.one_hot(slots.labels, len(reader.classes))
    drawn = mix.Mix(*tf.unstack(slots.random[0, -mix.COLUMNS :]))
    return mix.mix(images, labels, slots.weights, drawn)


def _evaluation_views(config: InputConfig, reader: Reader, slots: _Slots) -> tf.Tensor:
    size, crop = config.image_size, config.eval_crop
    return _each(lambda image: eval_view(image, size, crop), reader, slots)


def _each(view: Callable[..., tf.Tensor], reader: Reader, slots: _Slots, *others) -> tf.Tensor:
    """view(image, ..) of every slot -> [n, S, S, 3]."""

    def one_view(one):
        image, size, *rest = one
        if reader.schema.raw_dtype is not None:
            image = raw_pixels(image, size, reader.schema)
        return view(image, *rest)

    # 15 us an image of overhead; a dataset of images (unbatch, map, batch) costs 50 to 80 more.
    columns = (slots.images, slots.sizes, *others)
    return tf.map_fn(one_view, columns, fn_output_signature=tf.as_dtype(reader.image_dtype))


def _micro_batches(
    draws: tf.data.Dataset,
    contents: Contents,
    views: Views,
    reader: Reader,
    plan: Plan | EvaluationPlan,
    config: InputConfig,
) -> tf.data.Dataset:
    heap.keep_freed_pages()
    decode = partial(_decode, config, views, reader, plan)
    # As written: converting the functions to graph code first would double the start, by 1 s.
    as_written = tf.autograph.experimental.do_not_convert
    read = as_written(partial(_read, contents, reader, plan))
    undecoded = draws.map(read, num_parallel_calls=PARALLEL)
    if reader.image_shape is None:

        def decode_or_repair(slots):
            """tf.data has no try: an element that fails is dropped, and the second way takes over.

            A dataset of its own costs 0.2 ms a micro-batch more than a plain map.
            """
            once = tf.data.Dataset.from_tensors(slots)
            repaired = once.map(partial(_without_undecodable, views, reader)).map(decode)
            return once.map(decode).ignore_errors().concatenate(repaired).take(1)

        batches = undecoded.interleave(
            as_written(decode_or_repair), cycle_length=PARALLEL, num_parallel_calls=PARALLEL
        )
    else:
        batches = undecoded.map(as_written(decode), num_parallel_calls=PARALLEL)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # nothing is left to tune; 6 to 10 % of the work at 28 pixels
    return batches.prefetch(READY).with_options(options)


def _read(
    contents: Contents, reader: Reader, plan: Plan | EvaluationPlan, draw: tf.Tensor
) -> _Slots:
    columns_of_random = contents(0)[1].shape[1]

    def slots(draw: np.ndarray) -> _Slots:
        records, random = contents(int(draw))
        return _Slots(records, *reader.read(records), random)

    raw = tf.string if reader.image_shape is None else tf.as_dtype(reader.image_dtype)
    dtypes = _Slots(tf.int64, raw, tf.int32, tf.int32, tf.float32, tf.float32)
    shapes = _Slots([], reader.image_shape or [], [2], [], [], [columns_of_random])
    columns = tf.numpy_function(slots, [draw], dtypes)
    for column, shape in zip(columns, shapes, strict=True):
        column.set_shape([plan.images_per_micro_batch, *shape])
    return _Slots(*columns)


def _decode(
    config: InputConfig,
    views: Views,
    reader: Reader,
    plan: Plan | EvaluationPlan,
    slots: _Slots,
) -> tuple[tf.Tensor, ...]:
    images, labels = views(slots), slots.labels
    classes = len(reader.classes) if config.mixes else None
    spec = element_spec(plan, config.image_size, tf.as_dtype(reader.image_dtype), classes)
    if config.mixes:
        images, labels = _mixed(config, reader, slots, images)
    columns = zip((images, labels, slots.weights), spec, strict=True)
    return tuple(tf.ensure_shape(column, each.shape) for column, each in columns)


def _without_undecodable(views: Views, reader: Reader, slots: _Slots) -> _Slots:
    """Slots that could not be decoded -> the same without the images that are why.

    Whatever else went wrong goes wrong again when these are decoded, and stops the run.
    """

    def take_out(*columns: np.ndarray) -> _Slots:
        left = _Slots(*(column.copy() for column in columns))
        blank, size = blank_image(reader.schema)
        for slot in np.flatnonzero(left.weights):
            one = slice(slot, slot + 1)
            try:
                with tf.device("CPU:0"):  # as in tf.data; JPEG and PNG are decoded nowhere else
                    views(_Slots(*(tf.constant(column[one]) for column in left)))
            except tf.errors.InvalidArgumentError as error:
                said = re.sub(r"^{{.*?}} |\.? \[Op:.*", "", error.message.partition("\n")[0])
                reader.reject(int(left.records[slot]), f"the image cannot be decoded: {said}")
                left.images[slot], left.sizes[slot] = blank, size
                left.labels[slot], left.weights[slot] = 0, 0.0
        return left

    columns = tf.numpy_function(take_out, slots, [column.dtype for column in slots])
    for column, before in zip(columns, slots, strict=True):
        column.set_shape(before.shape)
    return _Slots(*columns)
