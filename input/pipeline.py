"""The one place of the batch: records -> tf.data of micro-batches.

An element is one micro-batch as the model gets it: image [M, S, S, 3] in uint8 (or float32 for
float pixels), label int32[M] (float32[M, classes] with mixup or CutMix), weight float32[M]. All
shapes are static, and nothing after the pipeline reshapes, slices or re-batches an element.

>>> import numpy as np
>>> from input import arrays, order, pipeline
>>> from input.config import ResolvedInput
>>> reader = arrays.ArrayReader(np.zeros((100, 28, 28), np.uint8), np.arange(100) % 10)
>>> config = ResolvedInput(global_batch_size=32, micro_batch_size=16, image_size=28)
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import tensorflow as tf

from input import heap, order, undecodable
from input.config import ResolvedInput
from input.errors import InputError
from input.native import library
from input.native.reader import ViewReader, Windows, fits
from input.order import EvaluationPlan, Plan
from input.reader import Reader
from input.views import micro_batch
from input.views.micro_batch import Slots
from input.witness import Witness

# Micro-batches read and decoded at the same time; map_fn decodes 10 images of each at once.
PARALLEL = max(4, len(os.sched_getaffinity(0)) // 8)
# Threads that the native decoder gives to each of them.
THREADS = max(1, len(os.sched_getaffinity(0)) // PARALLEL)
# Micro-batches kept ready: for a slow read; with those in work 256 images of 224 pixels take 1 GB.
READY = 4

# A draw -> record indices and uniforms of its Slots.
Contents = Callable[[int], tuple[np.ndarray, np.ndarray]]
# Slots -> what the model sees: [n, S, S, 3].
Views = Callable[[Slots], tf.Tensor]


def train(
    config: ResolvedInput,
    reader: Reader,
    plan: Plan,
    *,
    seed: int,
    first_step: int = 0,
    worker: int = 0,
    worker_count: int = 1,
    witness: Witness | None = None,
) -> tf.data.Dataset:
    """Micro-batches of one worker from first_step on, as its replicas draw them; endless.

    Every pixel follows from (seed, epoch, record index). Starting at step 10**9 costs what
    starting at step 0 does. witness: gets to see them.
    """
    draws = plan.draws_per_step * order.local_replicas(plan, worker_count)

    place = partial(order.micro_batch, plan=plan, worker=worker, worker_count=worker_count)
    return _training(config, reader, plan, seed, place, first_step * draws, witness, draws)


def beginnings(
    config: ResolvedInput, reader: Reader, plan: Plan, *, seed: int, first_epoch: int, most: int
) -> tf.data.Dataset:
    """The first micro-batch of each epoch from one on, of at most so many."""

    def place(number: int) -> tuple[int, int]:
        return (first_epoch + number) * plan.steps_per_epoch, 0

    return _training(config, reader, plan, seed, place, most=most)


def compared(
    config: ResolvedInput,
    reader: Reader,
    plan: Plan,
    *,
    seed: int,
    first_step: int,
    every_steps: int,
    worker_count: int = 1,
) -> tf.data.Dataset:
    """One micro-batch of every `every_steps`-th step from first_step on, once for each replica.

    The same one on all workers: order.compared_micro_batch.
    """

    def place(number: int) -> tuple[int, int]:
        step = first_step + number * every_steps
        return step, order.compared_micro_batch(step, plan, seed)

    replicas = order.local_replicas(plan, worker_count)
    batches = _training(config, reader, plan, seed, place)
    return batches.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(replicas))


def evaluate(
    config: ResolvedInput,
    reader: Reader,
    plan: EvaluationPlan,
    *,
    worker: int = 0,
    worker_count: int = 1,
) -> tf.data.Dataset:
    """Every record once, in order, padded with weight 0 to whole micro-batches on every replica.

    Endless: plan.draws draws per replica are one evaluation, so that one iterator serves a whole
    run (making and dropping iterators costs seconds).
    """

    def contents(draw: int) -> tuple[np.ndarray, np.ndarray]:
        records = order.evaluation_records(draw, plan, worker, worker_count)
        return records, micro_batch.evaluation_uniforms(records)

    draws = tf.data.Dataset.counter(dtype=tf.int64)
    views = partial(micro_batch.evaluation_views, config)
    windows = partial(micro_batch.evaluation_windows, config)
    unmixed = replace(config, mixup=0.0, cutmix=0.0)
    return _micro_batches(draws, contents, views, windows, reader, plan, unmixed)


def element_spec(
    plan: Plan | EvaluationPlan,
    image_size: int,
    image_dtype: tf.DType = tf.uint8,
    soft_classes: int | None = None,
) -> tuple[tf.TensorSpec, tf.TensorSpec, tf.TensorSpec]:
    """Shapes and dtypes of one micro-batch: image, label, weight.

    soft_classes: how many classes there are, where labels are soft; None for hard labels.
    """
    m = plan.images_per_micro_batch
    number = tf.TensorSpec([m], tf.int32)
    return (
        tf.TensorSpec([m, image_size, image_size, 3], image_dtype),
        number if soft_classes is None else tf.TensorSpec([m, soft_classes], tf.float32),
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


def _training(
    config: ResolvedInput,
    reader: Reader,
    plan: Plan,
    seed: int,
    place: Callable[[int], tuple[int, int]],
    first: int = 0,
    witness: Witness | None = None,
    draws: int = 1,
    most: int = -1,
) -> tf.data.Dataset:
    """Micro-batches for training, from the first-th on. place: number -> (step, micro-batch).

    draws: how many of them are of the same step, for the witness. most: no more are read; -1: all.
    """

    def contents(number: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, records = order.training_records(*(at := place(number)), plan, seed)
        if witness is not None:
            witness.note_records(at, records)
        numbers = order.view_numbers(at[1], records, plan)
        return records, micro_batch.training_uniforms(config, seed, epoch, numbers)

    if (config.color_jitter or config.policy.layers) and reader.image_dtype != np.uint8:
        raise InputError(
            "--color_jitter, --augment=trivial and --augment=rand-.. need pixels of 8 bits; these "
            f"are {reader.image_dtype}. Leave them out."
        )
    numbers = tf.data.Dataset.counter(first, dtype=tf.int64).take(most)
    views = partial(micro_batch.training_views, config)
    windows = partial(micro_batch.training_windows, config)
    watch = partial(witness.watch, place=place, first=first, draws=draws) if witness else None
    return _micro_batches(numbers, contents, views, windows, reader, plan, config, watch)


def _micro_batches(
    draws: tf.data.Dataset,
    contents: Contents,
    views_of: Callable[[Reader | ViewReader, Slots], tf.Tensor],
    windows: Windows,
    records: Reader,
    plan: Plan | EvaluationPlan,
    config: ResolvedInput,
    watch: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
) -> tf.data.Dataset:
    heap.keep_freed_pages()
    reader: Reader | ViewReader = records
    if config.decoder == library.NATIVE and fits(records):
        reader = ViewReader(records, config.image_size, antialias=config.antialias, threads=THREADS)
    views = partial(views_of, reader)
    decode = partial(_decode, config, views, reader, plan)
    # AutoGraph has nothing to convert here, and would double the time to the first batch, by 1 s.
    as_written = tf.autograph.experimental.do_not_convert
    read = as_written(partial(_read, contents, windows, reader, plan))
    undecoded = draws.map(read, num_parallel_calls=PARALLEL)
    if reader.image_shape is None:

        def decode_or_repair(slots: Slots) -> tf.data.Dataset:
            """tf.data has no try: an element that fails is dropped, and a repaired one replaces it.

            A dataset of its own costs 0.2 ms a micro-batch more than a plain map.
            """
            # Not from_tensors(slots): TensorFlow calls that stateful; see _read. A range is exempt.
            once = tf.data.Dataset.range(1)
            decoded = once.map(lambda _: decode(slots))
            repaired = once.map(lambda _: decode(undecodable.left_out(views, reader, slots)))
            return decoded.ignore_errors().concatenate(repaired).take(1)

        batches = undecoded.interleave(
            as_written(decode_or_repair), cycle_length=PARALLEL, num_parallel_calls=PARALLEL
        )
    else:
        batches = undecoded.map(as_written(decode), num_parallel_calls=PARALLEL)
    if watch is not None:
        batches = watch(batches)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # nothing is left to tune; 6 to 10 % of the work at 28 pixels
    return batches.prefetch(READY).with_options(options)


def _read(
    contents: Contents,
    windows: Windows,
    reader: Reader | ViewReader,
    plan: Plan | EvaluationPlan,
    draw: tf.Tensor,
) -> Slots:
    uniforms_per_slot = contents(0)[1].shape[1]

    def slots(draw: np.ndarray) -> Slots:
        records, uniforms = contents(int(draw))
        if isinstance(reader, ViewReader):
            block = reader.read(records, uniforms, windows)
        else:
            block = reader.read(records)
        return Slots(records, *block, uniforms)

    raw = tf.string if reader.image_shape is None else tf.as_dtype(reader.image_dtype)
    dtypes = Slots(tf.int64, raw, tf.int32, tf.int32, tf.float32, tf.float32)
    shapes = Slots([], reader.image_shape or [], [2], [], [], [uniforms_per_slot])
    # Under op determinism one stateful operation makes the whole input serial. Nothing is lost
    # without it: a micro-batch is read once, and a bad record read twice counts once.
    columns = tf.numpy_function(slots, [draw], dtypes, stateful=False)
    for column, shape in zip(columns, shapes, strict=True):
        column.set_shape([plan.images_per_micro_batch, *shape])
    return Slots(*columns)


def _decode(
    config: ResolvedInput,
    views: Views,
    reader: Reader | ViewReader,
    plan: Plan | EvaluationPlan,
    slots: Slots,
) -> tuple[tf.Tensor, ...]:
    images, labels = views(slots), slots.labels
    classes = len(reader.classes) if config.soft_labels else None
    spec = element_spec(plan, config.image_size, tf.as_dtype(reader.image_dtype), classes)
    if config.soft_labels:
        images, labels = micro_batch.mixed(images, slots, len(reader.classes))
    columns = zip((images, labels, slots.weights), spec, strict=True)
    return tuple(tf.ensure_shape(column, each.shape) for column, each in columns)
