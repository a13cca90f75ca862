"""Measure samestep on this machine: loop, exact sum and input, against what else people use.

samestep-benchmark --what=loop
samestep-benchmark --images=PHOTOS --markdown=docs/benchmarks.md
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from input.foundation.text import counted
from scripts.benchmarks.config import ON_CPU, ON_PHOTOGRAPHS, BenchmarkConfig
from scripts.doorway import enter
from scripts.process import in_new_process
from scripts.quiet import quiet_tensorflow


def main() -> NoReturn:
    enter(__doc__, benchmark, BenchmarkConfig)


def benchmark(config: BenchmarkConfig) -> None:
    names = list(ON_CPU) if config.what == "all" else [config.what]
    if config.what == "all" and not config.images:
        names = [name for name in names if name not in ON_PHOTOGRAPHS]
        print(
            "--what=input and gil are left out: they need --images=DIR with photographs",
            file=sys.stderr,
        )
    quiet_tensorflow()  # the rows' own modules load it
    # Each in a new process: what another one leaves on the heap halves the rate of raw images.
    found = {name: in_new_process(_measure, name, config) for name in names}

    where = dict(_where())
    print(*(f"{name}: {value}" for name, value in where.items()), sep="\n")
    print(f"medians of {counted(config.rounds, 'paired round')}")
    console = Console(width=None if sys.stdout.isatty() else 120)
    for columns, rows in _tables(found.values()):
        table = Table(*columns)
        for row in rows:
            table.add_row(*row.cells())
        console.print(table)
    if config.json:
        results = {name: [asdict(row) for row in rows] for name, rows in found.items()}
        Path(config.json).write_text(json.dumps(where | results, indent=1))
    if config.markdown:
        Path(config.markdown).write_text(_markdown(config, where, found))


def _measure(name: str, config: BenchmarkConfig) -> list[Any]:
    """One benchmark's rows."""
    from scripts.benchmarks.batching import BATCHING_BENCHMARKS
    from scripts.benchmarks.gil import GIL_BENCHMARKS
    from scripts.benchmarks.input import INPUT_BENCHMARKS
    from scripts.benchmarks.monitoring import MONITORING_BENCHMARKS
    from scripts.benchmarks.reader import READER_BENCHMARKS
    from scripts.benchmarks.receipt import RECEIPT_BENCHMARKS
    from scripts.benchmarks.step import STEP_BENCHMARKS
    from trainer.workers import strategy

    if name in ON_CPU:
        # Two logical CPUs for every benchmark: they cannot be added once TensorFlow runs.
        strategy.make_strategy(["CPU:0", "CPU:1"], strategy.cores())
    benchmarks = (
        STEP_BENCHMARKS
        | BATCHING_BENCHMARKS
        | INPUT_BENCHMARKS
        | GIL_BENCHMARKS
        | READER_BENCHMARKS
        | RECEIPT_BENCHMARKS
        | MONITORING_BENCHMARKS
    )
    return benchmarks[name](config)


def _where() -> Iterator[tuple[str, str]]:
    """The machine, the versions and the commit."""
    from trainer.workers.strategy import processor

    yield "machine", f"{len(os.sched_getaffinity(0))} cores of {processor()}"
    yield (
        "versions",
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, "
        f"Keras {version('keras')}",
    )
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    yield "commit", commit or "unknown: not a git checkout"


def _tables(found: Iterable[list[Any]]) -> Iterator[tuple[Sequence[str], list[Any]]]:
    """Rows with the same columns, as they come: one table each."""
    rows = [row for rows in found for row in rows]
    for columns, same in groupby(rows, key=lambda row: row.columns):
        yield columns, list(same)


def _markdown(config: BenchmarkConfig, where: dict[str, str], found: dict[str, list[Any]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `samestep-benchmark --markdown=docs/benchmarks.md`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in where.items()]
    lines += [
        f"- {counted(config.rounds, 'paired round')}, each benchmark in a process of its own; "
        "medians, with the lowest and the highest ratio of a round",
    ]
    for columns, rows in _tables(found.values()):
        lines += ["", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
        lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
