"""Images per second of the input alone: ours, what people write instead, and the limit.

All variants read the same JPEG files' bytes and make training views of the same size, in turn in
one process. The micro-batches that a variant has prefetched are taken before its clock starts.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.config import ResolvedInput
from input.errors import InputError
from input.manifest import Manifest
from input.native import library
from input.prepare.config import WriteConfig
from input.prepare.conversion import Conversion
from input.randomness import uniform
from input.reader import RecordReader
from input.records import ENCODED
from input.views.crop import Crop, random_crop, train_view
from input.views.window import UNIFORMS
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
PAUSE_SECONDS = 1.0  # in which the variant before fills what it keeps ready


def images_per_second(config: BenchmarkConfig) -> list[Comparison]:
    """Our pipeline against two idioms and against decoding alone, on a folder of JPEG files."""
    contents = contents_of(config.images)
    strategy = make_strategy(["CPU:0"], cores())
    with tempfile.TemporaryDirectory() as folder:
        manifests = {
            "JPEG": write_records(Path(folder, "whole"), contents),
            "JPEG of 256": write_records(Path(folder, "small"), contents, SMALL),
            "raw of 256": write_records(
                Path(folder, "raw"), contents, SMALL._replace(encoding="raw")
            ),
        }
        iterators = {}
        for decoder in ("native", "tensorflow") if library.available() else ("tensorflow",):
            inputs = inputs_of(config, decoder)
            for stored, manifest in manifests.items():
                plan = order.plan(inputs, manifest.records, replicas=1)
                iterators[f"{stored}, {decoder}"] = iter(
                    strategy.distribute_datasets_from_function(
                        lambda _, own=manifest, inputs=inputs, plan=plan: pipeline.train(
                            inputs, RecordReader(own), plan, seed=0
                        )
                    )
                )
        ours, size, manifest = list(iterators), config.image_size, manifests["JPEG"]
        iterators |= {
            "plain idiom": _distributed(strategy, _plain(manifest, size)),
            "Model Garden's idiom": _distributed(strategy, _inception(manifest, size)),
            "decoding alone": iter(_decoding_alone(contents, size)),
        }
        processor: dict[str, list[float]] = {name: [] for name in iterators}
        variants = {
            name: drawing(iterator, processor=processor[name])
            for name, iterator in iterators.items()
        }
        wall = measure_in_turn(IMAGES_PER_ROUND, config.rounds, variants)
    # The first round warms up.
    cpu = {name: [IMAGES_PER_ROUND / each for each in own[1:]] for name, own in processor.items()}
    rivals = [name for name in variants if name not in ours]
    found = []
    for clock, rates in (("wall", wall), ("processor", cpu)):
        what = f"{len(contents)} photographs, {size} px, uint8, {clock}"
        found += [compare(what, rates, ours[0], rival) for rival in rivals]
        found += [compare(what, rates, name, ours[0]) for name in ours[1:]]
    return found


def inputs_of(config: BenchmarkConfig, decoder: Literal["native", "tensorflow"]) -> ResolvedInput:
    """A run of small micro-batches."""
    return ResolvedInput(
        global_batch_size=MICRO_BATCH_SIZE,
        micro_batch_size=MICRO_BATCH_SIZE,
        image_size=config.image_size,
        decoder=decoder,
    )


def contents_of(images: str) -> list[bytes]:
    """The JPEG files of a folder. Raises InputError where they are too few."""
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
        return tf.cast(tf.image.random_flip_left_right(pixels), tf.uint8), label

    return _batched(_records(manifest).map(view, num_parallel_calls=AUTOTUNE))


def _inception(manifest: Manifest, size: int) -> tf.data.Dataset:
    """Decode only a random part, as Inception's preprocessing and Model Garden do."""

    def view(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(image),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(order.MIN_AREA, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], axis=0)
        pixels = tf.io.decode_and_crop_jpeg(image, window, channels=3)
        pixels = tf.image.random_flip_left_right(tf.image.resize(pixels, [size, size]))
        return tf.cast(pixels, tf.uint8), label

    return _batched(_records(manifest).map(view, num_parallel_calls=AUTOTUNE))


def _decoding_alone(contents: list[bytes], size: int) -> tf.data.Dataset:
    """Our views of bytes that are in memory, with crops drawn before: nothing is read."""
    draws = uniform(seed=0, epoch=0, indices=np.arange(len(contents)), count=UNIFORMS)
    crops = random_crop(tf.constant(draws), order.MIN_AREA, flip=True)

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


def drawing(
    iterator: Iterator[Any],
    images: int = IMAGES_PER_ROUND,
    processor: list[float] | None = None,
) -> Callable[[], float]:
    """Wall seconds of so many images; `processor` gets the seconds of all threads."""

    def seconds() -> float:
        time.sleep(PAUSE_SECONDS)
        for _ in range(IN_STOCK):
            next(iterator)
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(images // MICRO_BATCH_SIZE):
            next(iterator)
        if processor is not None:
            processor.append(time.process_time() - cpu)
        return time.perf_counter() - start

    return seconds


INPUT_BENCHMARKS: dict[str, Benchmark] = {"input": images_per_second}
