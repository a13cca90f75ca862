"""Images per second and core of the input alone: ours, what people write instead, and the limit.

All ways read the same JPEG files' bytes and make views of the same size for training, in turn in
one process. Of each, what it has kept ready is taken before its clock starts.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.config import InputConfig, WriteConfig
from input.conversion import Conversion, convert
from input.errors import InputError
from input.images import DRAWS, Crop, random_crop, train_view
from input.manifest import Manifest, Shard, load_index, save, save_index
from input.reader import RecordReader
from input.records import ENCODED, RAW, encode, frame
from trainer import cluster
from trainer.benchmark import Comparison, compare, race
from trainer.config import BenchmarkConfig

IMAGES_PER_ROUND = 1_280
MICRO_BATCH_SIZE = 32
IN_STOCK = 16  # micro-batches: more than any of the ways keeps ready
# What --short_side=256 stores.
SMALL = Conversion("jpeg", 256, WriteConfig.quality, WriteConfig.max_pixels)
SHARDS = 4
CLASSES = 10
RECORD_BYTES = 60_000
RECORDS_PER_READ_ROUND = 4_000
AUTOTUNE = tf.data.AUTOTUNE
# ImageNet's, in units of 0..255: what the idioms normalise with on the host.
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def images_per_second(config: BenchmarkConfig) -> list[Comparison]:
    """Our pipeline against two idioms and against decoding alone, on a folder of JPEG files."""
    contents = _contents(config.images)
    size, native = config.image_size, "samestep"
    settings = InputConfig(
        global_batch_size=MICRO_BATCH_SIZE, micro_batch_size=MICRO_BATCH_SIZE, image_size=size
    )
    strategy = cluster.strategy(["CPU:0"], cluster.cores())
    with tempfile.TemporaryDirectory() as folder:
        manifests = {
            native: _write(Path(folder, native), contents),
            "short side 256": _write(Path(folder, "small"), contents, SMALL),
            "raw 256": _write(Path(folder, "raw"), contents, SMALL._replace(encoding="raw")),
        }
        manifest = manifests[native]
        plan = order.plan(settings, manifest.records, replicas=1)
        iterators = {
            name: iter(
                strategy.distribute_datasets_from_function(
                    lambda _, own=own: pipeline.train(settings, RecordReader(own), plan, seed=0)
                )
            )
            for name, own in manifests.items()
        } | {
            "plain idiom": _distributed(strategy, _plain(manifest, size)),
            "best idiom": _distributed(strategy, _best(manifest, size)),
            "decoding alone": iter(_decoding_alone(contents, size)),
        }
        ways = {name: _way(iterator) for name, iterator in iterators.items()}
        rates = race(IMAGES_PER_ROUND, config.rounds, ways)
    what = f"{len(contents)} photographs, {size} px"
    rivals = [name for name in ways if name not in manifests]
    stored = [name for name in manifests if name != native]
    return [
        *(compare(what, rates, native, rival) for rival in rivals),
        *(compare(what, rates, name, native) for name in stored),
    ]


def records_per_second(config: BenchmarkConfig) -> list[Comparison]:
    """Records/s and core of the reader alone, checksums included: random order against others."""
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).bytes(RECORD_BYTES)
        content = b"\xff\xd8\xff" + noise  # what a JPEG starts with: the reader decodes nothing
        reader = RecordReader(_write(Path(folder), [content] * RECORDS_PER_READ_ROUND))
        positions = np.arange(RECORDS_PER_READ_ROUND)
        orders = {
            "random order": order.shuffle(positions, len(positions), seed=0, epoch=0),
            "in order": positions,
            "read_block 16": order.shuffle(positions, len(positions), 0, 0, read_block=16),
        }
        ours = {name: _reading(reader, numbers) for name, numbers in orders.items()}
        graph = _way(iter(_graph_reader(reader, orders["random order"])), RECORDS_PER_READ_ROUND)
        rates = race(RECORDS_PER_READ_ROUND, config.rounds, ours | {"graph reader": graph})
        calls = {}
        for name, way in ours.items():
            before = reader.reads
            way()
            calls[name] = reader.reads - before
    first, *others = ours
    return [
        *(
            compare(f"60 KB records, {calls[first]:,}, {calls[other]:,} reads", rates, first, other)
            for other in others
        ),
        compare("60 KB records, a data set for each", rates, first, "graph reader"),
    ]


def _contents(images: str) -> list[bytes]:
    paths = sorted(Path(images).rglob("*.jpg")) if images else []
    if len(paths) < MICRO_BATCH_SIZE:
        raise InputError(
            f"--what=input needs --images=DIR with {MICRO_BATCH_SIZE} or more .jpg files; "
            f"{images or 'nothing'} has {len(paths)}."
        )
    return [path.read_bytes() for path in paths]


def _write(folder: Path, contents: list[bytes], how: Conversion | None = None) -> Manifest:
    """Records of these images, with labels in turn; stored as they are, or converted."""
    folder.mkdir(exist_ok=True)
    raw, shards = how is not None and how.encoding == "raw", []

    def record(content: bytes, label: int) -> bytes:
        if how is None:
            return frame(encode(content, label))
        stored, (width, height), _ = convert(content, how)
        return frame(encode(stored, label, (height, width) if raw else None))

    for number in range(SHARDS):
        file = f"train-{number:05d}.tfrecord"
        own = islice(enumerate(contents), number, None, SHARDS)
        framed = [record(content, i % CLASSES) for i, content in own]
        (folder / file).write_bytes(b"".join(framed))
        lengths = [len(record) for record in framed]
        shards.append(Shard(file, len(framed), sum(lengths), sha256="not needed here"))
        save_index(folder, shards[-1], lengths)
    labels = np.arange(len(contents)) % CLASSES
    per_class = tuple(np.bincount(labels, minlength=CLASSES).tolist())
    classes = tuple(str(i) for i in range(CLASSES))
    schema = RAW if raw else ENCODED
    manifest = Manifest(folder, classes, per_class, tuple(shards), image_size=None, schema=schema)
    save(manifest)
    return manifest


def _distributed(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> Iterator:
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

    def parsed(record):
        features = tf.io.parse_single_example(record, keys)
        return features[ENCODED.image_key], features[ENCODED.label_key]

    return serialized.map(parsed, num_parallel_calls=AUTOTUNE)


def _batched(views: tf.data.Dataset) -> tf.data.Dataset:
    # Not AUTOTUNE: a buffer that grows each time it is found empty works on in the others' turns,
    # and sells its stock in its own.
    return views.batch(MICRO_BATCH_SIZE, drop_remainder=True).prefetch(2)


def _plain(manifest: Manifest, size: int) -> tf.data.Dataset:
    """Decode all of the image, resize it to 8/7 of the size, cut a random square, mirror."""

    def view(image, label):
        pixels = tf.image.resize(tf.io.decode_jpeg(image, channels=3), [size * 8 // 7] * 2)
        pixels = tf.image.random_crop(pixels, [size, size, 3])
        return tf.image.random_flip_left_right(pixels) / 255.0, label

    return _batched(_records(manifest).map(view, num_parallel_calls=AUTOTUNE))


def _best(manifest: Manifest, size: int) -> tf.data.Dataset:
    """Decode only a random part, as Inception's preprocessing does; normalise on the host."""

    def view(image, label):
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
    draws = order.uniform(seed=0, epoch=0, numbers=np.arange(len(contents)), count=DRAWS)
    crops = random_crop(tf.constant(draws), InputConfig.crop_min_area, flip=True)

    def views(images, *crop):
        return tf.map_fn(
            lambda one: train_view(one[0], size, Crop(*one[1:])),
            (images, *crop),
            fn_output_signature=tf.uint8,
        )

    images = tf.data.Dataset.from_tensor_slices((contents, *crops)).repeat()
    batches = images.batch(MICRO_BATCH_SIZE, drop_remainder=True)
    views = tf.autograph.experimental.do_not_convert(views)
    return batches.map(views, num_parallel_calls=cluster.cores()).prefetch(2)


def _way(iterator: Iterator, images: int = IMAGES_PER_ROUND) -> Callable[[], float]:
    def seconds() -> float:
        for _ in range(IN_STOCK):
            next(iterator)
        # Of the processor, all threads together: every way keeps all cores busy, and a machine
        # that others use too makes seconds on the wall differ by a factor of 3.
        start = time.process_time()
        for _ in range(images // MICRO_BATCH_SIZE):
            next(iterator)
        return time.process_time() - start

    return seconds


def _graph_reader(reader: RecordReader, numbers: np.ndarray) -> tf.data.Dataset:
    """The same records through TensorFlow's own reader: it seeks to an offset and yields what
    comes, so that each record is a data set of one element."""
    manifest = reader.manifest
    files = tf.constant([str(manifest.folder / shard.file) for shard in manifest.shards])
    shards, offsets, _ = load_index(manifest).locate(numbers)

    def record(shard, offset):
        dataset = tf.raw_ops.TFRecordDatasetV2(
            filenames=[files[shard]],
            compression_type="",
            buffer_size=2 * RECORD_BYTES,
            byte_offsets=[offset],
        )
        spec = tf.TensorSpec([], tf.string)
        return tf.data.experimental.from_variant(dataset, spec).take(1)

    places = tf.data.Dataset.from_tensor_slices((shards, offsets)).repeat()
    records = places.interleave(record, cycle_length=1)
    return records.batch(MICRO_BATCH_SIZE, drop_remainder=True)


def _reading(reader: RecordReader, numbers: np.ndarray) -> Callable[[], float]:
    def seconds() -> float:  # of the processor: one core's worth
        start = time.process_time()
        for block in np.array_split(numbers, len(numbers) // MICRO_BATCH_SIZE):
            reader.read(block)
        return time.process_time() - start

    return seconds


def start_of_a_run(config: BenchmarkConfig) -> list[Comparison]:
    """The first micro-batch of a run that is resumed at step 10**9 against one that is new."""
    settings = InputConfig(global_batch_size=MICRO_BATCH_SIZE, image_size=28)
    settings = order.resolve(settings, records_size=None, replicas=1)
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
        image = tf.io.encode_jpeg(pixels).numpy()
        reader = RecordReader(_write(Path(folder), [image] * 1_000))
        plan = order.plan(settings, reader.records, replicas=1)

        def first_from(step: int) -> Callable[[], float]:
            def seconds() -> float:
                start = time.perf_counter()
                next(iter(pipeline.train(settings, reader, plan, seed=0, first_step=step)))
                return time.perf_counter() - start

            return seconds

        ways = {"step 10**9": first_from(10**9), "step 0": first_from(0)}
        rates = race(1, config.rounds, ways)
    return [compare("starts of a pipeline", rates, "step 10**9", "step 0")]


@dataclass(frozen=True)
class IndexCost:
    """What the index of so many records costs."""

    columns: ClassVar = ("records", "bytes a record in memory", "seconds to load")

    records: int
    bytes_per_record: float
    load_seconds: float

    def cells(self) -> tuple[str, ...]:
        return f"{self.records:,}", f"{self.bytes_per_record:.1f}", f"{self.load_seconds:.3f}"


@dataclass(frozen=True)
class OrderCost:
    """What one worker of many computes to know the records of its next step."""

    columns: ClassVar = ("records", "workers", "images a step", "ms a step for a worker")

    records: int
    workers: int
    images_per_step: int
    milliseconds: float

    def cells(self) -> tuple[str, ...]:
        counts = (self.records, self.workers, self.images_per_step)
        return *(f"{count:,}" for count in counts), f"{self.milliseconds:.2f}"


def index_and_order(config: BenchmarkConfig) -> list[IndexCost | OrderCost]:
    """Memory and time of the index for 10**4, 10**6 and 10**8 records; the order at 10**10."""
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for shards, records in ((1, 10**4), (1, 10**6), (100, 10**6)):
            manifest = _synthetic(Path(folder) / f"{shards}-{records}", shards, records)
            start = time.perf_counter()
            index = load_index(manifest)
            seconds = time.perf_counter() - start
            arrays = (index.offsets, index.lengths, index.first_record)
            size = sum(array.nbytes for array in arrays)
            costs.append(IndexCost(manifest.records, size / manifest.records, seconds))
    workers, settings = 1024, InputConfig(global_batch_size=2**16, micro_batch_size=32)
    plan = order.plan(settings, records=10**10, replicas=workers)
    times = []
    for step in range(20 * config.rounds):
        start = time.perf_counter()
        for draw in range(step * plan.draws_per_step, (step + 1) * plan.draws_per_step):
            at, micro_batch = order.micro_batch(draw, plan, worker=7, workers=workers)
            order.training_records(at, micro_batch, plan, seed=0)
        times.append(1000 * (time.perf_counter() - start))
    milliseconds = statistics.median(times)
    return [*costs, OrderCost(plan.records, workers, plan.images_per_step, milliseconds)]


def _synthetic(folder: Path, shards: int, records: int) -> Manifest:
    """A manifest of equal shards without content, each of so many records of 60 KB."""
    folder.mkdir()
    size = records * RECORD_BYTES
    template = Shard("template", records, size, sha256="")
    save_index(folder, template, [RECORD_BYTES] * records)
    every = [Shard(f"{i:05d}", records, size, sha256="") for i in range(shards)]
    for shard in every:
        os.link(folder / template.index_file, folder / shard.index_file)
    return Manifest(folder, ("one",), (shards * records,), tuple(every), image_size=None)


INPUT_BENCHMARKS = {
    "input": images_per_second,
    "reader": records_per_second,
    "start": start_of_a_run,
    "index": index_and_order,
}
