"""Compare runs: settings, results, curves, and the first step at which they differ, and in what.

samestep-compare RUN_A RUN_B --picture=curves.png

Ends with 0 where all are the same run with the same result, with 1 where anything differs.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from input.foundation.errors import UserError
from input.foundation.settings import check
from input.foundation.text import one_line
from scripts.doorway import enter
from scripts.process import in_new_process
from trainer import comparison
from trainer.comparison import Difference, Row, Run
from trainer.config import Hardware
from trainer.errors import TrainerError
from trainer.receipt import Recomputed

CURVE_ROWS = 12


@dataclass(frozen=True)
class CompareConfig:
    """What to compare."""

    runs: Annotated[
        tuple[str, ...], "Folders of two runs or more; each is compared with the first."
    ] = ()
    picture: Annotated[str, "PNG file to draw the learning curves to."] = ""
    replay: Annotated[
        bool,
        "Compute the steps around the first difference of each run again, from its nearest "
        "checkpoint, and name the first step, and the record, image or weight.",
    ] = False
    model: Annotated[
        str,
        "The model of runs that have one of your own code (file.py:function): to say that --replay "
        "may import it.",
    ] = ""
    data_dir: Annotated[
        str, "Folder of the records for --replay. Unset: where each run was trained from."
    ] = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)
        if len(self.runs) < 2:
            raise TrainerError(
                f"{len(self.runs)} run{'s' * (len(self.runs) != 1)} to compare; name two or more: "
                "samestep-compare RUN_A RUN_B."
            )


def main() -> NoReturn:
    enter(__doc__, compare, CompareConfig, Hardware, argument="runs")


def compare(config: CompareConfig, hardware: Hardware) -> int:
    first, *others = runs = [comparison.load(folder) for folder in config.runs]
    different = comparison.settings(runs)
    _show("settings", runs, different or [("all", ["the same"] * len(runs))])
    _show("results", runs, comparison.results(runs))
    _show("accuracy at epoch", runs, comparison.curves(runs, "validation/accuracy", CURVE_ROWS))
    verdicts = [comparison.verdict(first, run) for run in others]
    for run, verdict in zip(others, verdicts, strict=True):
        print(one_line(f"{first.name} and {run.name}: {verdict.words}"))
        if config.replay and verdict.difference is not None:
            for line in _replayed(config, hardware, first, run, verdict.difference):
                print(one_line(line))
    if config.picture:
        _draw(Path(config.picture), runs, [verdict.difference for verdict in verdicts])
        print(f"curves: {config.picture}")
    return 1 if different or not all(verdict.equal for verdict in verdicts) else 0


def _replayed(
    config: CompareConfig, hardware: Hardware, one: Run, other: Run, difference: Difference
) -> Iterator[str]:
    """What the steps of a difference, computed again, say."""
    window = (difference.after + 1, difference.step)
    found = []
    # Each in a new process: TensorFlow's threads, which are a part of a run's bits, are set once.
    for run in (one, other):
        print(f"computing steps {window[0]} to {window[1]} of {run.name} again", flush=True)
        own = config.model if run.definition.config.model.model == config.model else ""
        work = (_recompute, run.name, hardware, window, own, config.data_dir)
        found.append(in_new_process(*work, say=True))
    for run, recomputed in zip((one, other), found, strict=True):
        for note in recomputed.notes:
            yield f"note: {run.name}: {note}"
    yield from comparison.explain(one, other, *(each.steps for each in found))


def _recompute(
    folder: str, hardware: Hardware, window: tuple[int, int], model: str, data_dir: str
) -> Recomputed:
    """Of trainer.replay, in a process of its own."""
    from trainer.replay import recompute

    try:
        return recompute(Path(folder), hardware, *window, model, data_dir)
    except UserError as error:  # of its kinds, not all come through a pipe
        raise TrainerError(error.message, error.details) from None


def _draw(path: Path, runs: Sequence[Run], differences: Sequence[Difference | None]) -> None:
    from trainer.pictures import curves  # matplotlib takes half a second

    names = [metric for panel in curves.PANELS.values() for metric in panel]
    drawn = {run.name: {name: run.curve(name) for name in names} for run in runs}
    steps = [each.step for each in differences if each is not None]
    mark = None
    if steps:
        epoch = comparison.epoch(runs[0], min(steps))
        mark = curves.Mark(epoch, f"step {min(steps)}, the first that differs")
    curves.draw(path, drawn, mark)


def _show(title: str, runs: Sequence[Run], rows: Sequence[Row]) -> None:
    """A table with a column for each run."""
    table = Table(title, box=box.SIMPLE_HEAD)
    for run in runs:
        table.add_column(Text(one_line(run.name)))
    for name, values in rows:
        table.add_row(name, *(Text(one_line(value)) for value in values))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
