"""Train one run for each of several settings, one after the other: a table and a picture.

samestep-sweep --out=SWEEP --data_dir=DATA --model=cnn --global_batch_size=64,128,256

Takes every flag of samestep-train; each number, choice, --model and --augment may be a list with
commas, and several lists give all their combinations. The same command again goes on where it was
stopped: runs that are finished are kept. A run that fails is named, and the others are made.
"""

import itertools
import math
import os
import re
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, get_type_hints

from absl.flags import FlagValues

from input.foundation import durable
from input.foundation.settings import REQUIRED, check, settings
from scripts import flags
from scripts.demo import module_command, show
from scripts.doorway import enter
from trainer import metrics
from trainer import run_dir as run_dirs
from trainer.config import Config, Hardware
from trainer.errors import PreemptedError, TrainerError
from trainer.launch import guard
from trainer.pictures.sweep import Point, Series, draw

WORDS = ("model", "augment")  # texts that may be lists; in others a comma may be a part of one
TABLE, PICTURE = "sweep.md", "sweep.png"
Values = dict[str, str]  # setting -> its value, as it was typed


@dataclass(frozen=True)
class SweepConfig:
    """Where the runs go."""

    out: Annotated[str, "Folder for the runs, sweep.md and sweep.png.", REQUIRED] = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)


class Variant(NamedTuple):
    """One run of a sweep."""

    values: Values  # of what is varied
    flags: list[str]  # of samestep-train, but for --run_dir
    config: Config

    @property
    def name(self) -> str:
        """global_batch_size=64,seed=1: also its folder's."""
        pairs = (f"{name}={value}" for name, value in self.values.items())
        return re.sub(r"[^\w.,=+:-]", "_", ",".join(pairs))


class Outcome(NamedTuple):
    """What a finished run has reached, by its folder."""

    values: Values
    global_batch_size: int
    learning_rate: float  # the peak, as it was resolved
    accuracy: float  # of validation, after the last epoch; of the averages where there are some
    images_per_second: float  # the median of the lines of metrics.jsonl
    seconds: float  # of its steps, without start, evaluations and checkpoints


def main() -> NoReturn:
    lists, sys.argv = separate(sys.argv)
    enter(__doc__, partial(sweep, lists, sys.argv[1:]), SweepConfig, Config, Hardware)


def separate(argv: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """A command line with lists -> the lists by setting, and the command line with their firsts."""
    lists, firsts = {}, []
    for argument in argv:
        found = re.fullmatch(r"--?(\w+)=(.*)", argument, re.DOTALL)
        if found and found[1] in VARIED and "," in found[2]:
            lists[found[1]] = found[2].split(",")
            argument = f"--{found[1]}={lists[found[1]][0]}"
        firsts.append(argument)
    return lists, firsts


def sweep(
    lists: dict[str, list[str]],
    argv: Sequence[str],
    own: SweepConfig,
    config: Config,
    hardware: Hardware,
) -> None:
    """config and hardware: of the first run. Raises UserError, PreemptedError."""
    if config.run.run_dir:
        raise TrainerError("--run_dir is of one run: set --out, below which each gets its own.")
    todo = list(variants(lists, argv))
    guard.stand()
    print(f"{len(todo)} runs: {', '.join(variant.name for variant in todo)}", flush=True)
    perform(Path(own.out), todo)


def variants(lists: dict[str, list[str]], argv: Sequence[str]) -> Iterator[Variant]:
    """All combinations, each checked as samestep-train would. Raises UserError, FlagError."""
    if not lists:
        raise TrainerError(
            "Nothing is varied: give a list, as in --global_batch_size=64,128,256, for a number, "
            f"a choice, --{' or --'.join(WORDS)}."
        )
    for name, listed in lists.items():
        if len(set(listed)) < len(listed):
            raise TrainerError(f"--{name}={','.join(listed)} has a value twice. Leave one out.")
    for chosen in itertools.product(*lists.values()):
        values = dict(zip(lists, chosen, strict=True))
        set_last = [f"--{name}={value}" for name, value in values.items()]
        parsed = FlagValues()
        for config_type in (SweepConfig, Config, Hardware):
            flags.define(config_type, parsed)
        flags.parse(["samestep-sweep", *argv, *set_last], parsed)
        given = [*flags.given(Config, parsed), *flags.given(Hardware, parsed)]
        yield Variant(values, given, flags.read(Config, parsed))


def perform(out: Path, todo: Sequence[Variant]) -> None:
    """Makes the runs that are not finished; table and picture grow with each.

    Raises TrainerError where some have failed, PreemptedError where one was stopped.
    """
    outcomes, failed = [], []
    durable.make(out)
    for variant in todo:
        folder = out / variant.name
        if finished(folder, variant.config):
            print(f"{variant.name}: kept, it is finished", flush=True)
        elif problem := _train([*variant.flags, f"--run_dir={folder}"]):
            failed.append(f"{variant.name}: {problem}")
            print(f"{variant.name} has failed", flush=True)
            continue
        outcomes.append(outcome(folder, variant.values))
        write(out, outcomes)
    if outcomes:
        _show(outcomes)
        print(f"{out / TABLE}, {out / PICTURE}")
    if failed:
        raise TrainerError(f"{len(failed)} of {len(todo)} runs have failed.", failed)


def finished(folder: Path, config: Config) -> bool:
    """Whether a folder holds this very run, up to its last epoch. Raises TrainerError."""
    first = run_dirs.find(folder)
    if first is None or run_dirs.differences(
        first, run_dirs.fill_in(config, first.config), data={}, whose="the run"
    ):
        return False  # samestep-train says what differs
    return any(line["epoch"] == config.run.epochs for line in _evaluations(folder))


def outcome(folder: Path, values: Values) -> Outcome:
    """Of a run that is finished, perhaps early: --stop_after."""
    config = run_dirs.load(folder).config
    accuracy = metrics.accuracy(_evaluations(folder)[-1])
    training = [line for line in metrics.read(folder) if "seconds_per_step" in line]
    steps = [line["step"] for line in training]
    spans = [end - begin for begin, end in itertools.pairwise([0, *steps])]
    return Outcome(
        values,
        config.input.global_batch_size,
        config.optimizer.learning_rate,
        math.nan if accuracy is None else accuracy,
        statistics.median(line["images_per_second"] for line in training),
        sum(line["seconds_per_step"] * span for line, span in zip(training, spans, strict=True)),
    )


def write(out: Path, outcomes: Sequence[Outcome]) -> None:
    """sweep.md and sweep.png."""
    columns, rows = table(outcomes)
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"![accuracy and speed]({PICTURE})",
    ]
    durable.write(out / PICTURE, draw(*curves(outcomes)))
    durable.write(out / TABLE, "\n".join([*lines, ""]))


def table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows."""
    shown = ("global_batch_size", "learning_rate")
    others = [name for name in outcomes[0].values if name not in shown]
    columns = ["images a step", "learning rate", *others, "accuracy", "images/s", "training time"]
    return columns, [
        [
            f"{each.global_batch_size}",
            f"{each.learning_rate:.3g}",
            *(each.values[name] for name in others),
            f"{each.accuracy:.4f}",
            f"{each.images_per_second:,.0f}",
            f"{each.seconds:,.1f} s",
        ]
        for each in outcomes
    ]


def curves(outcomes: Sequence[Outcome]) -> tuple[str, list[Series]]:
    """What the picture's axis shows, and a curve for each combination of the rest but the seed.

    The axis is what has most values; of several the batch size, or else the first.
    """
    names = [name for name in outcomes[0].values if name != "seed"] or ["seed"]
    counts = {name: len({each.values[name] for each in outcomes}) for name in names}
    axis = max(names, key=lambda name: (counts[name], name == "global_batch_size"))
    points: dict[str, list[Point]] = {}
    for each in outcomes:
        label = ", ".join(f"{name} {each.values[name]}" for name in names if name != axis)
        point = Point(each.values[axis], each.accuracy, each.images_per_second)
        points.setdefault(label.replace("_", " "), []).append(point)
    return axis, [Series(label, own) for label, own in points.items()]


def _show(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns, rows = table(outcomes)
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(shown)


def _train(arguments: Sequence[str]) -> str:
    """Runs samestep-train and shows its lines; returns why it failed, or "".

    Signals are its own to heed: it saves and stops. Raises PreemptedError then.
    """
    show(["samestep-train", *arguments])
    paths = os.pathsep.join(filter(None, sys.path))
    command = module_command("samestep-train", *arguments)
    process = guard.start(command, {**os.environ, "PYTHONPATH": paths})
    stopped = []

    def pass_on(number: int, _: object) -> None:
        stopped.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in guard.SIGNALS}
    last = ""
    try:
        assert process.stdout is not None  # it is a pipe
        for content in process.stdout:
            line = content.decode(errors="replace")
            print(line, end="", flush=True)
            last = line.strip() or last
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code and stopped:
        raise PreemptedError("The sweep was stopped. The same command goes on.")
    return f"exit code {code}, {last.removeprefix('error: ')}" if code else ""


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    return [line for line in metrics.read(folder) if "validation/accuracy" in line]


def _varied() -> frozenset[str]:
    """Settings of which a sweep takes a list: numbers, choices and WORDS."""
    groups = (*get_type_hints(Config).values(), Hardware)
    every = [setting for group in groups for setting in settings(group)]
    return frozenset(s.name for s in every if s.kind is not str or s.name in WORDS)


VARIED = _varied()


if __name__ == "__main__":
    main()
