"""Images per second and core of the input alone: ours, what people write instead, and the limit.

All variants read the same JPEG files' bytes and make training views of the same size, in turn in
one process. The micro-batches that a variant has prefetched are taken before its clock starts.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.config import InputConfig, ResolvedInput
from input.errors import InputError
from input.manifest import Manifest
from input.prepare.config import WriteConfig
from input.prepare.conversion import Conversion
from input.randomness import uniform
from input.reader import RecordReader
from input.records import ENCODED
from input.views.crop import UNIFORMS, Crop, random_crop, train_view
from scripts.benchmarks.comparison import Benchmark, Comparison, compare, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from scripts.benchmarks.records import SHARDS, write_records
from trainer.workers.strategy import cores, make_strategy

IMAGES_PER_ROUND = 1_280
MICRO_BATCH_SIZE = 32
IN_STOCK = 16  # micro-batches: more than any of the variants keeps ready
# What --short_side=256 stores.
SMALL = Conversion("jpeg", 256, WriteConfig.quality, WriteConfig.max_pixels)
AUTOTUNE = tf.data.AUTOTUNE
# ImageNet's, in units of 0..255: what the idioms normalise with on the host.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def images_per_second(config: BenchmarkConfig) -> list[Comparison]:
    """Our pipeline against two idioms and against decoding alone, on a folder of JPEG files."""
    contents = _contents(config.images)
    size, native = config.image_size, "samestep"
    inputs = ResolvedInput(
        global_batch_size=MICRO_BATCH_SIZE, micro_batch_size=MICRO_BATCH_SIZE, image_size=size
    )
    strategy = make_strategy(["CPU:0"], cores())
    with tempfile.TemporaryDirectory() as folder:
        manifests = {
            native: write_records(Path(folder, native), contents),
            "short side 256": write_records(Path(folder, "small"), contents, SMALL),
            "raw 256": write_records(Path(folder, "raw"), contents, SMALL._replace(encoding="raw")),
        }
        manifest = manifests[native]
        plan = order.plan(inputs, manifest.records, replicas=1)
        iterators = {
            name: iter(
                strategy.distribute_datasets_from_function(
                    lambda _, own=own: pipeline.train(inputs, RecordReader(own), plan, seed=0)
                )
            )
            for name, own in manifests.items()
        } | {
            "plain idiom": _distributed(strategy, _plain(manifest, size)),
            "best idiom": _distributed(strategy, _best(manifest, size)),
            "decoding alone": iter(_decoding_alone(contents, size)),
        }
        variants = {name: drawing(iterator) for name, iterator in iterators.items()}
        rates = measure_in_turn(IMAGES_PER_ROUND, config.rounds, variants)
    what = f"{len(contents)} photographs, {size} px"
    rivals = [name for name in variants if name not in manifests]
    stored = [name for name in manifests if name != native]
    return [
        *(compare(what, rates, native, rival) for rival in rivals),
        *(compare(what, rates, name, native) for name in stored),
    ]


def _contents(images: str) -> list[bytes]:
    paths = sorted(Path(images).rglob("*.jpg")) if images else []
    if len(paths) < MICRO_BATCH_SIZE:
        raise InputError(
            f"--what=input needs --images=DIR with {MICRO_BATCH_SIZE} or more .jpg files; "
            f"{images or 'nothing'} has {len(paths)}."
        )
    return [path.read_bytes() for path in paths]


def _distributed(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> Iterator[Any]:
    return iter(strategy.experimental_distribute_dataset(dataset))


def _records(manifest: Manifest) -> tf.data.Dataset:
    """(JPEG bytes, label) as the idioms read them."""
    keys = {
        ENCODED.image_key: tf.io.FixedLenFeature([], tf.string),
        ENCODED.label_key: tf.io.FixedLenFeature([], tf.int64),
    }
    files = [str(manifest.folder / shard.file) for shard in manifest.shards]
    serialized = (
        tf.data.Dataset.from_tensor_slices(files)
        .shuffle(SHARDS)
        .repeat()
        .interleave(tf.data.TFRecordDataset, cycle_length=SHARDS, num_parallel_calls=AUTOTUNE)
        .shuffle(1000)
    )

    def parsed(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = tf.io.parse_single_example(record, keys)
        return features[ENCODED.image_key], features[ENCODED.label_key]

    return serialized.map(parsed, num_parallel_calls=AUTOTUNE)


def _batched(views: tf.data.Dataset) -> tf.data.Dataset:
    # Not AUTOTUNE: a buffer that grows each time it is found empty is filled during the others'
    # turns, and emptied during its own.
    return views.batch(MICRO_BATCH_SIZE, drop_remainder=True).prefetch(2)


def _plain(manifest: Manifest, size: int) -> tf.data.Dataset:
    """Decode all of the image, resize it to 8/7 of the size, cut a random square, mirror."""

    def view(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.image.resize(tf.io.decode_jpeg(image, channels=3), [size * 8 // 7] * 2)
        pixels = tf.image.random_crop(pixels, [size, size, 3])
        return tf.image.random_flip_left_right(pixels) / 255.0, label

    return _batched(_records(manifest).map(view, num_parallel_calls=AUTOTUNE))


def _best(manifest: Manifest, size: int) -> tf.data.Dataset:
    """Decode only a random part, as Inception's preprocessing does; normalise on the host."""

    def view(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(image),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(InputConfig.crop_min_area, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], axis=0)
        pixels = tf.io.decode_and_crop_jpeg(image, window, channels=3)
        pixels = tf.image.random_flip_left_right(tf.image.resize(pixels, [size, size]))
        return (pixels - MEAN) / DEVIATION, label

    return _batched(_records(manifest).map(view, num_parallel_calls=AUTOTUNE))


def _decoding_alone(contents: list[bytes], size: int) -> tf.data.Dataset:
    """Our views of bytes that are in memory, with crops drawn before: nothing is read."""
    draws = uniform(seed=0, epoch=0, indices=np.arange(len(contents)), count=UNIFORMS)
    crops = random_crop(tf.constant(draws), InputConfig.crop_min_area, flip=True)

    def views(images: tf.Tensor, *crop: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda one: train_view(one[0], size, Crop(*one[1:])),
            (images, *crop),
            fn_output_signature=tf.uint8,
        )

    images = tf.data.Dataset.from_tensor_slices((contents, *crops)).repeat()
    batches = images.batch(MICRO_BATCH_SIZE, drop_remainder=True)
    views = tf.autograph.experimental.do_not_convert(views)
    return batches.map(views, num_parallel_calls=cores()).prefetch(2)


def drawing(iterator: Iterator[Any], images: int = IMAGES_PER_ROUND) -> Callable[[], float]:
    def seconds() -> float:
        for _ in range(IN_STOCK):
            next(iterator)
        # Processor time of all threads: every variant keeps all cores busy, and on a shared
        # machine the wall time of the same work differs by a factor of 3.
        start = time.process_time()
        for _ in range(images // MICRO_BATCH_SIZE):
            next(iterator)
        return time.process_time() - start

    return seconds


INPUT_BENCHMARKS: dict[str, Benchmark] = {"input": images_per_second}
