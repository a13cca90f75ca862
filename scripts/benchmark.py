"""Measure what samestep's loop and exact sum cost, and how Keras fit compares, on this machine.

samestep-benchmark --what=loop
"""

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import BenchmarkConfig


def main() -> NoReturn:
    enter(__doc__, benchmark, BenchmarkConfig)


def benchmark(what: BenchmarkConfig) -> None:
    quiet_tensorflow()
    import keras
    import tensorflow as tf

    from trainer import cluster
    from trainer.benchmark import BENCHMARKS

    # Two logical CPUs for every benchmark: they cannot be added once TensorFlow runs.
    cluster.strategy(["CPU:0", "CPU:1"], cluster.cores())
    names = list(BENCHMARKS) if what.what == "all" else [what.what]
    found = [BENCHMARKS[name](what.rounds) for name in names]

    table = Table("", "first", "images/s", "second", "images/s", "ratio", "smallest", "largest")
    for row in found:
        table.add_row(
            row.what,
            row.first,
            f"{row.first_rate:,.0f}",
            row.second,
            f"{row.second_rate:,.0f}",
            f"{row.ratio:.2f}",
            f"{min(row.ratios):.2f}",
            f"{max(row.ratios):.2f}",
        )
    machine = f"{os.cpu_count()} x {_processor()}, Python {platform.python_version()}"
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    print(f"{machine}, {versions}; medians of {what.rounds} paired runs")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if what.json:
        content = {
            "machine": machine,
            "versions": versions,
            "comparisons": [asdict(row) for row in found],
        }
        Path(what.json).write_text(json.dumps(content, indent=1))


def _processor() -> str:
    """The CPU's product name, on Linux."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
