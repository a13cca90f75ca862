"""Records per second of the reader alone, and what the index, the order and a start cost."""

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.config import InputConfig
from input.manifest import Manifest, load_index
from input.randomness import shuffle
from input.reader import RecordReader
from input.records import FOOTER_BYTES
from input.shard import Shard
from scripts.benchmarks.comparison import Benchmark, Comparison, compare, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from scripts.benchmarks.input import MICRO_BATCH_SIZE, drawing
from scripts.benchmarks.records import write_records

RECORD_BYTES = 60_000
RECORDS_PER_ROUND = 4_000


def records_per_second(config: BenchmarkConfig) -> list[Comparison]:
    """Records/s and core of the reader alone, checksums included: random order against others."""
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).bytes(RECORD_BYTES)
        content = b"\xff\xd8\xff" + noise  # what a JPEG starts with: the reader decodes nothing
        reader = RecordReader(write_records(Path(folder), [content] * RECORDS_PER_ROUND))
        positions = np.arange(RECORDS_PER_ROUND)
        orders = {
            "random order": shuffle(positions, len(positions), seed=0, epoch=0),
            "in order": positions,
            "read_block 16": shuffle(positions, len(positions), 0, 0, read_block=16),
        }
        ours = {name: _reading(reader, numbers) for name, numbers in orders.items()}
        graph = drawing(iter(_graph_reader(reader, orders["random order"])), RECORDS_PER_ROUND)
        rates = measure_in_turn(RECORDS_PER_ROUND, config.rounds, ours | {"graph reader": graph})
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


def _graph_reader(reader: RecordReader, numbers: np.ndarray) -> tf.data.Dataset:
    """The same records through TensorFlow's own reader: it seeks to an offset and yields what
    comes, so that each record is a data set of one element."""
    manifest = reader.manifest
    files = tf.constant([str(manifest.folder / shard.file) for shard in manifest.shards])
    shards, offsets, _ = load_index(manifest).locate(numbers)

    def record(shard: tf.Tensor, offset: tf.Tensor) -> tf.data.Dataset:
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
    unresolved = InputConfig(global_batch_size=MICRO_BATCH_SIZE, image_size=28)
    inputs = order.resolve(unresolved, records_size=None)
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
        image = tf.io.encode_jpeg(pixels).numpy()
        reader = RecordReader(write_records(Path(folder), [image] * 1_000))
        plan = order.plan(inputs, reader.records, replicas=1)

        def first_from(step: int) -> Callable[[], float]:
            def seconds() -> float:
                start = time.perf_counter()
                next(iter(pipeline.train(inputs, reader, plan, seed=0, first_step=step)))
                return time.perf_counter() - start

            return seconds

        variants = {"step 10**9": first_from(10**9), "step 0": first_from(0)}
        rates = measure_in_turn(1, config.rounds, variants)
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
    workers, unresolved = 1024, InputConfig(global_batch_size=2**16, micro_batch_size=32)
    inputs = order.resolve(unresolved, records_size=None)
    plan = order.plan(inputs, records=10**10, replicas=workers)
    times = []
    for step in range(20 * config.rounds):
        start = time.perf_counter()
        for draw in range(step * plan.draws_per_step, (step + 1) * plan.draws_per_step):
            at, micro_batch = order.micro_batch(draw, plan, worker=7, worker_count=workers)
            order.training_records(at, micro_batch, plan, seed=0)
        times.append(1000 * (time.perf_counter() - start))
    milliseconds = statistics.median(times)
    return [*costs, OrderCost(plan.records, workers, plan.images_per_step, milliseconds)]


def _synthetic(folder: Path, shards: int, records: int) -> Manifest:
    """A manifest of equal shards without content, each of so many records of 60 KB."""
    folder.mkdir()
    size, checksums = records * RECORD_BYTES, bytes(FOOTER_BYTES * records)
    digest = hashlib.sha256(checksums).hexdigest()
    index, every = folder / "template", []
    index.write_text("".join(f"{i * RECORD_BYTES} {RECORD_BYTES}\n" for i in range(records)))
    for number in range(shards):
        every.append(Shard(f"{number:05d}", records, size, sha256="", checksums=digest))
        os.link(index, folder / every[-1].index_file)
        (folder / every[-1].checksums_file).write_bytes(checksums)
    return Manifest(
        folder=folder,
        classes=("one",),
        records_per_class=(shards * records,),
        shards=tuple(every),
        image_size=None,
    )


READER_BENCHMARKS: dict[str, Benchmark] = {
    "reader": records_per_second,
    "start": start_of_a_run,
    "index": index_and_order,
}
