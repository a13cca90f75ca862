"""Make the records that training reads from folders of images.

samestep-records write --images=IMAGES --out=DATA
"""

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from input.config import WriteConfig
from scripts.doorway import Command, enter_command


def main() -> NoReturn:
    enter_command(__doc__, {"write": Command(write, (WriteConfig,))})


def write(config: WriteConfig) -> None:
    """Write class folders of images as records, one folder per split."""
    from input import writer

    start = time.monotonic()
    with _meter() as meter:
        manifests = writer.write(config, meter)
    seconds = time.monotonic() - start

    print(f"{'split':<12}{'classes':>9}{'records':>12}{'shards':>8}{'MB':>12}")
    for split, manifest in manifests.items():
        megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
        print(
            f"{split:<12}{len(manifest.classes):>9,}{manifest.records:>12,}"
            f"{len(manifest.shards):>8,}{megabytes:>12,.1f}"
        )
    records = sum(manifest.records for manifest in manifests.values())
    left_out = meter.total - records
    print(
        f"{records:,} records in {seconds:.1f} s ({meter.total / seconds:,.0f} images/s), "
        f"{left_out:,} images left out"
    )
    run_dir = Path("runs") / Path(config.out).resolve().name
    print(
        f"\nNext: samestep-train --data_dir={shlex.quote(config.out)} "
        f"--run_dir={shlex.quote(str(run_dir))}"
    )


class _Meter:
    """Shows how far a write is, and keeps the number of its images."""

    def __init__(self, show: Callable[[int, int], None]):
        self.total = 0
        self._show = show

    def __call__(self, done: int, total: int) -> None:
        self.total = total
        self._show(done, total)


@contextlib.contextmanager
def _meter() -> Iterator[_Meter]:
    """A bar on a terminal, else a line every 10 %; on stderr, the summary has stdout."""
    # Here because the two take 0.1 s, which --help does not have to wait for.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Meter(_print_tenths)
        return
    columns = [TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield _Meter(lambda done, total: bar.update(task, completed=done, total=total))


def _print_tenths(done: int, total: int) -> None:
    if 10 * done // total > 10 * (done - 1) // total:
        print(f"{done:,} of {total:,} images ({100 * done // total} %)", file=sys.stderr)


if __name__ == "__main__":
    main()
