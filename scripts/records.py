"""Make the records that training reads, from images or from others' TFRecords, and check them.

samestep-records write --images=IMAGES --out=DATA
samestep-records index TFRECORDS --out=DATA
samestep-records verify DATA
samestep-records show DATA --sheet=SHEET.png
"""

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

from input.foundation.text import counted, one_line
from input.manifest import Manifest, find_splits
from input.prepare.config import IndexConfig, ShowConfig, VerifyConfig, WriteConfig
from input.splits import SPLITS, TEST, TRAIN, VALIDATION
from scripts.doorway import Command, enter_command
from scripts.interruption import cleaning_up
from scripts.quiet import quiet_tensorflow


def main() -> NoReturn:
    commands = {
        "write": Command(write, (WriteConfig,), argument="images"),
        "index": Command(index, (IndexConfig,), argument="dir"),
        "verify": Command(verify, (VerifyConfig,), argument="dir"),
        "show": Command(show, (ShowConfig,), argument="dir"),
    }
    enter_command(__doc__, commands)


def write(config: WriteConfig) -> None:
    """Write images as records, one folder per split."""
    from input.prepare import writer

    start = time.monotonic()
    with _meter() as meter, cleaning_up():
        manifests = writer.write(config, meter)
    seconds = time.monotonic() - start

    _print_table(manifests)
    records = sum(manifest.records for manifest in manifests.values())
    left_out = meter.total - records
    print(
        f"{counted(records, 'record')} in {seconds:.1f} s ({meter.total / seconds:,.0f} images/s), "
        f"{counted(left_out, 'image')} left out"
    )
    _print_next(config.out, list(manifests))


def index(config: IndexConfig) -> None:
    """Index TFRecords that others wrote, where they lie, so that they can be trained on.

    Where records are indexed, but without checksums, as samestep 0.1 did, these are added.
    """
    from input.prepare import index as indexing

    with _meter("bytes") as meter, cleaning_up():
        manifests = indexing.index(config, meter)
    _print_table(manifests)
    _print_next(config.out or config.dir, list(manifests))


def verify(config: VerifyConfig) -> int:
    """Check every byte, image and label of records, and find duplicate images."""
    find_splits(Path(config.dir))
    quiet_tensorflow()
    from input.prepare import verify

    with _meter("records") as meter:
        found = verify.verify(config, meter)
    for line in found.lines():
        print(one_line(line))
    print(found.summary())
    return 1 if found.problems else 0


def show(config: ShowConfig) -> None:
    """Show records: numbers of each class, sizes, and a sheet of images as training sees them."""
    for _, folder in find_splits(Path(config.dir)):
        Manifest.load(folder)
    quiet_tensorflow()
    from input.prepare import show

    descriptions = show.describe(config)
    _print_table({each.split: each.manifest for each in descriptions})
    for each in descriptions:
        sampled = counted(each.sampled, "record")
        print(f"\n{each.split}: of {sampled}, smallest, median and largest")
        for name, numbers in (
            ("bytes", each.bytes),
            ("width", each.widths),
            ("height", each.heights),
        ):
            print(f"  {name:<8}" + "".join(f"{number:>12,}" for number in numbers))
        print("  records of each class")
        manifest = each.manifest
        for name, count in zip(manifest.classes, manifest.records_per_class, strict=True):
            print(f"  {count:>12,}  {one_line(name)}")
    if config.sheet or config.html:
        rows = list(show.rows(config))
        if len(descriptions[0].manifest.classes) > show.CLASSES:
            print(f"\nOn the sheet: the first {show.CLASSES} classes")
        if config.sheet:
            show.sheet(rows, config.per_class).save(config.sheet, "PNG")
        if config.html:
            Path(config.html).write_text(show.page(descriptions, rows), encoding="utf-8")


def _print_table(manifests: dict[str, Manifest]) -> None:
    print(f"{'split':<12}{'classes':>9}{'records':>12}{'shards':>8}{'MB':>12}")
    for split, manifest in manifests.items():
        megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
        print(
            f"{split:<12}{len(manifest.classes):>9,}{manifest.records:>12,}"
            f"{len(manifest.shards):>8,}{megabytes:>12,.1f}"
        )


def _print_next(data_dir: str, written: list[str]) -> None:
    """What to type next. written: the splits of this call; others may be there."""
    splits = [split for split in SPLITS if split in written or (Path(data_dir) / split).is_dir()]
    if TRAIN not in splits:
        print(f"\nThere is no split {TRAIN}: samestep-evaluate --split={splits[0]} takes it.")
        return
    run_dir = Path("runs") / Path(data_dir).resolve().name
    validation = ""
    if VALIDATION not in splits:
        print(
            f"\nThere is no split {VALIDATION}, which training evaluates on. Instead it can use "
            f"a part of {TRAIN} (--validation_share=0.1)"
            f"{f' or {TEST} (--validation_split={TEST})' if TEST in splits else ''}."
        )
        validation = " --validation_share=0.1"
    print(
        f"\nNext: samestep-train --data_dir={shlex.quote(data_dir)} "
        f"--run_dir={shlex.quote(str(run_dir))}{validation}"
    )


class _Meter:
    """Shows the progress, and keeps the total."""

    def __init__(self, show: Callable[[int, int], None]):
        self.total = 0
        self._show = show

    def __call__(self, done: int, total: int) -> None:
        self.total = total
        self._show(done, total)


@contextlib.contextmanager
def _meter(what: str = "images") -> Iterator[_Meter]:
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
        yield _Meter(partial(_print_tenths, what))
        return
    columns = [TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield _Meter(lambda done, total: bar.update(task, completed=done, total=total))


def _print_tenths(what: str, done: int, total: int) -> None:
    if 10 * done // total > 10 * (done - 1) // total:
        print(f"{done:,} of {total:,} {what} ({100 * done // total} %)", file=sys.stderr)


if __name__ == "__main__":
    main()
