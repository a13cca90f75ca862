"""What a run has come to, over all of its launches: from metrics.jsonl and launches.jsonl.

Steps that were done again after a kill count once: metrics.jsonl has no lines of the others. What a
launch did before its first step and after its last line is in none.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import launches, metrics
from trainer.ledger import TRAINING

PARTS = (*TRAINING, "saving", "evaluating")


@dataclass(frozen=True)
class Totals:
    """Of the lines of a run that say where their time went."""

    steps: int  # that these lines are of
    images: float  # that counted in them
    seconds: dict[str, float]  # by part
    skipped: int
    bad_records: int  # the most that one launch has met
    launches: tuple[int, ...]  # the steps that they went on from

    @property
    def training_seconds(self) -> float:
        """Without saving and evaluating."""
        return sum(self.seconds[name] for name in TRAINING)


def totals(folder: Path) -> Totals:
    """Of the run in a folder. Raises TrainerError where a file of it cannot be read."""
    steps, images, skipped, bad, before = 0, 0.0, 0, 0, 0
    seconds = dict.fromkeys(PARTS, 0.0)
    for line in metrics.read(folder):
        if "train/loss" in line:
            skipped += int(_number(line, "train/skipped_steps"))
            bad = max(bad, int(_number(line, "run/bad_records")))
            own, before = line["step"] - before, line["step"]
            if "time/device" in line:
                steps += own
                images += own * _number(line, "images_per_second", "seconds_per_step")
        for name in PARTS:
            seconds[name] += _number(line, f"time/{name}")
    return Totals(steps, images, seconds, skipped, bad, tuple(launches.steps(folder)))


def _number(line: dict[str, Any], *names: str) -> float:
    """The product of some numbers of a line; 0 where one of them is none."""
    values = [line.get(name) for name in names]
    return math.prod(value if isinstance(value, int | float) else 0 for value in values)
