"""Runs side by side: settings, results, curves, the first step that differs. No TensorFlow."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from trainer import metrics, receipt, run_dir
from trainer.config import Config, RunDefinition
from trainer.receipt import KINDS, Part, Receipt, Step, listed

HASH_SHOWN = 16
# Metric -> its name in a table.
RESULTS = {
    "train/loss": "training loss",
    "validation/loss": "validation loss",
    "validation/accuracy": "accuracy",
    "validation_of_averages/accuracy": "accuracy of averages",
    "fingerprint": "weights",
}
Row = tuple[str, list[str]]  # a name, and a text of each run


@dataclass(frozen=True)
class Run:
    """What a run has left in its folder."""

    name: str
    definition: RunDefinition
    metrics: tuple[dict[str, Any], ...]  # lines of metrics.jsonl
    receipt: Receipt

    def last(self, metric: str) -> Any:
        """The newest value of a metric; None: there is none."""
        return next((line[metric] for line in reversed(self.metrics) if metric in line), None)

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """(epoch, value) of each line that has a number there."""
        lines = [line for line in self.metrics if line.get(metric) is not None]
        return [(float(line["epoch"]), float(line[metric])) for line in lines]


class Difference(NamedTuple):
    """The first line of two receipts that differs."""

    after: int  # the last step before it that both have, equal; 0: there is none
    step: int
    kinds: tuple[str, ...]  # of KINDS


class Verdict(NamedTuple):
    """Whether two runs are the same, and why."""

    equal: bool
    words: str
    difference: Difference | None = None


class FirstPart(NamedTuple):
    """The first thing in which two runs differ."""

    step: int
    kind: str  # of KINDS
    one: Part
    other: Part


def load(folder: str) -> Run:
    """The run in a folder. Raises TrainerError; OSError where a file cannot be read."""
    definition = run_dir.load(folder, "run")
    found = receipt.load(Path(folder), run_dir.identity(definition))
    return Run(folder, definition, tuple(metrics.read(Path(folder))), found)


def settings(runs: Sequence[Run]) -> list[Row]:
    """What makes them different runs: flags, records, versions; those that differ."""
    described = [_described(run.definition) for run in runs]
    names = dict.fromkeys(name for each in described for name in each)
    rows = [(name, [each.get(name, "") for each in described]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def results(runs: Sequence[Run]) -> list[Row]:
    """How each has ended, or where it is."""
    rows = [("steps", [str(run.last("step") or 0) for run in runs])]
    for metric, name in RESULTS.items():
        values = [run.last(metric) for run in runs]
        if any(value is not None for value in values):
            rows.append((name, [_shown(value) for value in values]))
    rows.append(("best accuracy", [_best(run) for run in runs]))
    return rows


def curves(runs: Sequence[Run], metric: str, most: int) -> list[Row]:
    """A metric by epoch, in at most so many rows, the last one among them."""
    found = [dict(run.curve(metric)) for run in runs]
    epochs = sorted({epoch for each in found for epoch in each})
    chosen = epochs[::-1][:: -(-len(epochs) // most) or 1][::-1]
    return [(f"{epoch:g}", [_shown(each.get(epoch)) for each in found]) for epoch in chosen]


def epoch(run: Run, step: int) -> float:
    """Where a step is on the axis of a run's curves."""
    steps = next((line["epoch"] / line["step"] for line in run.metrics if line["step"]), 0.0)
    return step * steps


def verdict(one: Run, other: Run) -> Verdict:
    """Whether two runs have done the same, as far as their receipts know."""
    for run in (one, other):
        if run.receipt.fault:
            return Verdict(False, f"the receipt of {run.name} was changed: {run.receipt.fault}")
    theirs = {line.step: line for line in other.receipt.lines}
    both = [line for line in one.receipt.lines if line.step in theirs]
    after = 0
    for line in both:
        if kinds := line.differing(theirs[line.step]):
            words = f"step {line.step} is the first recorded one that differs, in its {kinds[0]}"
            if kinds[1:]:
                words += f", and so in {listed(kinds[1:])}"
            if after:
                words += f"; step {after} is the same"
            return Verdict(False, words, Difference(after, line.step, kinds))
        after = line.step
    ends = [run.receipt.lines[-1].step if run.receipt.lines else 0 for run in (one, other)]
    if ends[0] != ends[1]:
        shorter = min(one, other, key=lambda run: run.last("step") or 0)
        return Verdict(False, f"the same up to step {after}; {shorter.name} ends before the other")
    if not both:
        return Verdict(False, "no step is in both receipts, so nothing is known of their steps")
    return Verdict(True, f"the same records, pixels, gradients and weights up to step {after}")


def explain(one: Run, other: Run, first: Sequence[Step], second: Sequence[Step]) -> Iterator[str]:
    """What the same steps of two runs, computed again, say about their difference."""
    part = first_part(first, second)
    if part is None:
        yield f"computed again, both are the same up to step {first[-1].hashes.step}"
    else:
        yield f"step {part.step} is the first that differs, in {part.kind}: " + _between(
            part.one, part.other, one.name, other.name
        )
    for run, steps in ((one, first), (other, second)):
        lines = {line.step: line for line in run.receipt.lines}
        for computed in (step.hashes for step in steps if step.hashes.step in lines):
            if kinds := computed.differing(lines[computed.step]):
                yield (
                    f"{run.name}: {listed(kinds)} of step {computed.step} are not what is recorded "
                    "there: a device computed wrongly then, or its files were changed since"
                )
                break


def first_part(one: Sequence[Step], other: Sequence[Step]) -> FirstPart | None:
    """What is the first to differ in the same steps of two runs; None: nothing does."""
    nothing = Part("nothing", "")  # where one has more of them
    for mine, theirs in zip(one, other, strict=True):
        for kind in KINDS:
            for a, b in zip_longest(mine.parts[kind], theirs.parts[kind], fillvalue=nothing):
                if a != b:
                    return FirstPart(mine.hashes.step, kind, a, b)
    return None


def _between(part: Part, other_part: Part, name: str, other_name: str) -> str:
    mine, theirs = (_shown(each.hash) for each in (part, other_part))
    if part.name == other_part.name:
        return f"{part.name} is {mine} in {name} and {theirs} in {other_name}"
    return f"{part.name} is {mine} in {name}, where {other_name} has {other_part.name}, {theirs}"


def _described(definition: RunDefinition) -> dict[str, str]:
    """What no launch of a run may change, by the names that a user knows."""
    found = {}
    for group in dataclasses.fields(Config):
        own = getattr(definition.config, group.name)
        for setting in dataclasses.fields(own):
            if setting.compare:
                found[f"--{setting.name}"] = _shown(getattr(own, setting.name))
    found |= {f"{split} records": mark[:HASH_SHOWN] for split, mark in definition.data.items()}
    found |= definition.environment
    others = ("classes", "image_dtype", "class_weights", "initial_weights", "source", "graph")
    return found | {name.replace("_", " "): _shown(getattr(definition, name)) for name in others}


def _best(run: Run) -> str:
    found = metrics.best(run.metrics)
    return f"{metrics.accuracy(found):.4f} at step {found['step']}" if found else "-"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    text = "-" if value is None else str(value)
    return text[:HASH_SHOWN] if len(text) == 64 else text
