"""How long a reading thread holds Python's lock, and what more threads give."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal
from unittest.mock import patch

from input import order
from input.foundation.text import counted
from input.manifest import Manifest
from input.native import library
from input.native.reader import ViewReader
from input.reader import RecordReader
from input.views import micro_batch
from scripts.benchmarks.comparison import Benchmark, Comparison, compare, measure_in_turn
from scripts.benchmarks.config import BenchmarkConfig
from scripts.benchmarks.input import SMALL, contents_of, inputs_of
from scripts.benchmarks.records import write_records
from trainer.workers.strategy import cores

IMAGES = 256  # of a micro-batch: what a run has by default on one device
THREADED_IMAGES = 2_048


@dataclass(frozen=True)
class Held:
    """How long a reading thread keeps others from running Python."""

    columns: ClassVar = ("records", "decoder", "GIL held, us an image")

    records: str
    decoder: str
    microseconds: float  # median of the rounds

    def cells(self) -> tuple[str, ...]:
        return self.records, self.decoder, f"{self.microseconds:.1f}"


def gil_held(config: BenchmarkConfig) -> list[Held | Comparison]:
    """Time of a read outside of pread and of the native library, which release the GIL.

    And what 2 and 4 reading threads do to the rate of one.
    """
    contents = contents_of(config.images)
    held: list[Held] = []
    scaled: list[Comparison] = []
    with tempfile.TemporaryDirectory() as folder:
        manifests = {
            "JPEG": write_records(Path(folder, "whole"), contents),
            "raw of 256": write_records(
                Path(folder, "raw"), contents, SMALL._replace(encoding="raw")
            ),
        }
        for name, manifest in manifests.items():
            held.append(Held(name, "tensorflow", _held(manifest, config, "tensorflow")))
            if library.available():
                held.append(Held(name, "native", _held(manifest, config, "native")))
                read = _reading(manifest, config, "native")
                variants = {
                    counted(threads, "thread"): _by_threads(read, threads) for threads in (1, 2, 4)
                }
                rates = measure_in_turn(THREADED_IMAGES, config.rounds, variants)
                what = f"{name}, native, {cores()} cores"
                scaled += [compare(what, rates, each, "1 thread") for each in list(rates)[1:]]
    return [*held, *scaled]


def _reading(
    manifest: Manifest, config: BenchmarkConfig, decoder: Literal["native", "tensorflow"]
) -> Callable[[int], int]:
    """Reads a micro-batch, as the pipeline does: its number -> how many images it has."""
    images = min(IMAGES, manifest.records)
    inputs = replace(inputs_of(config, decoder), global_batch_size=images, micro_batch_size=images)
    plan, reader = order.plan(inputs, manifest.records, replicas=1), RecordReader(manifest)
    if decoder == "native":
        view = ViewReader(reader, inputs.image_size, antialias=False, threads=1)
        windows = partial(micro_batch.training_windows, inputs)

    def read(number: int) -> int:
        epoch, records = order.training_records(number, 0, plan, 0)
        uniforms = micro_batch.training_uniforms(inputs, 0, epoch, records)
        if decoder == "native":
            return len(view.read(records, uniforms, windows).labels)
        return len(reader.read(records).labels)

    return read


def _held(
    manifest: Manifest, config: BenchmarkConfig, decoder: Literal["native", "tensorflow"]
) -> float:
    """Microseconds an image that a read takes outside of what releases the GIL."""
    released = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                released[0] += time.perf_counter() - start

        return call

    found = []
    functions = library.load() if library.available() else None
    native = functions and SimpleNamespace(
        samestep_records=timed(functions.samestep_records),
        samestep_views=timed(functions.samestep_views),
    )
    with patch("os.pread", timed(os.pread)), patch.object(library, "load", lambda: native):
        read = _reading(manifest, config, decoder)
        for number in range(config.rounds + 1):
            released[0], start = 0.0, time.perf_counter()
            images = read(number)
            found.append((time.perf_counter() - start - released[0]) / images)
    return 1e6 * statistics.median(found[1:])


def _by_threads(read: Callable[[int], int], threads: int) -> Callable[[], float]:
    def seconds() -> float:
        calls = THREADED_IMAGES // IMAGES
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(calls)))
        return time.perf_counter() - start

    return seconds


GIL_BENCHMARKS: dict[str, Benchmark] = {"gil": gil_held}
