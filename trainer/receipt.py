"""A run's receipt: what its steps read, computed and left, as a chain of hashes. No TensorFlow.

receipt.jsonl has a line for each step that calendar.hashed names. The first follows from the run's
definition, every other one from the line before it: none can be changed, added or taken away alone.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from input.foundation import durable, typed_json

RECEIPT_FILE = "receipt.jsonl"
MOST = 2**30  # bytes of it; a line has 350
# What is hashed of a step, in the order in which the step makes it.
KINDS = ("records", "pixels", "gradients", "weights")


@dataclass(frozen=True)
class Hashes:
    """Of one step, in hexadecimal; the same on any number of replicas and workers."""

    step: int  # steps done: this one is the last of them
    records: str  # SHA-256: the record indices of every slot, in order
    pixels: str  # SHA-256: image, label and weight of every slot, as the devices got them
    gradients: str  # trainer.digest: the sum over all micro-batches, with statistics and loss
    weights: str  # trainer.fingerprint, after the step

    def differing(self, other: "Hashes") -> tuple[str, ...]:
        """Those KINDS in which it differs from another one."""
        return tuple(kind for kind in KINDS if getattr(self, kind) != getattr(other, kind))


@dataclass(frozen=True)
class Line(Hashes):
    """A line of the file."""

    chain: str  # SHA-256 of the chain before it and all its other values


@dataclass(frozen=True)
class Receipt:
    """What a file holds."""

    lines: tuple[Line, ...]  # each follows from the one before it
    fault: str = ""  # why the next one does not; "" where there is none


class Part(NamedTuple):
    """One of the things that a hash of a step is made of, and its own hash."""

    name: str
    hash: str


@dataclass(frozen=True)
class Step:
    """A step that was computed again, in full."""

    hashes: Hashes
    parts: dict[str, tuple[Part, ...]]  # of each of KINDS, in the order of the run


@dataclass(frozen=True)
class Recomputed:
    """Steps of a run that were computed again."""

    start: int  # steps done where that began: a checkpoint, or 0
    notes: tuple[str, ...]  # why the bits may be others here
    steps: tuple[Step, ...]


def chained(before: str, hashes: Hashes) -> Line:
    """before: the chain of the line before it, or the identity of the run."""
    values = {field.name: getattr(hashes, field.name) for field in dataclasses.fields(Hashes)}
    return Line(**values, chain=typed_json.digest([before, values]))


def listed(kinds: Sequence[str]) -> str:
    """records, pixels and weights"""
    *others, last = kinds
    return f"{', '.join(others)} and {last}" if others else last


def append(folder: Path, line: Line) -> None:
    """Adds a line, on the disk when this returns. Raises OSError."""
    durable.append(folder / RECEIPT_FILE, json.dumps(dataclasses.asdict(line)) + "\n")


def rewind(folder: Path, step: int) -> str:
    """Drops the lines after a step; returns the chain of the last one, "" where none is left.

    As of metrics, a last line that a kill has cut short goes, and what is no line stays: `load`
    will name it. Raises OSError.
    """
    content, lines = _lines(folder)
    kept = [(line, found) for line, found in lines if found is None or found.step <= step]
    remaining = b"".join(line + b"\n" for line, _ in kept)
    if remaining != content:
        durable.write(folder / RECEIPT_FILE, remaining)
    return next((found.chain for _, found in reversed(kept) if found), "")


def load(folder: Path, run: str) -> Receipt:
    """A run's receipt, as far as it is a chain. run: run_dir.identity. Raises OSError."""
    found: list[Line] = []
    for number, (_, line) in enumerate(_lines(folder)[1], 1):
        if line is None:
            return Receipt(tuple(found), f"line {number} is none of a receipt")
        if line != chained(found[-1].chain if found else run, line):
            whom = "the line before it" if found else "the run that config.json describes"
            fault = f"line {number}, of step {line.step}, does not follow from {whom}"
            return Receipt(tuple(found), fault)
        found.append(line)
    return Receipt(tuple(found))


def _lines(folder: Path) -> tuple[bytes, list[tuple[bytes, Line | None]]]:
    return durable.log(folder / RECEIPT_FILE, MOST, _parsed)


def _parsed(line: bytes) -> Line | None:
    try:
        return typed_json.loads(Line, line, RECEIPT_FILE)
    except typed_json.JsonError:
        return None
