"""metrics.jsonl: what a run has measured, an object with its step in each line. No TensorFlow."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from input.foundation import durable
from trainer import run_dir


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines that samestep has written, in their order; [] where there are none yet.

    A last line that a kill has cut short is none. Raises TrainerError.
    """
    with run_dir.writing(folder):
        _, lines = durable.log(folder / run_dir.METRICS_FILE, run_dir.MOST_METRICS, parsed)
    return [line for _, line in lines if line is not None]


def parsed(line: bytes) -> dict[str, Any] | None:
    """One line; None where samestep has not written it."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(content, dict) and type(content.get("step")) is int
    return content if is_ours else None


def accuracy(line: Mapping[str, Any]) -> float | None:
    """That by which the checkpoint of an evaluation's line is judged: of averages, where it has
    them; None for a line of training."""
    found = (line.get(f"{group}/accuracy") for group in ("validation_of_averages", "validation"))
    return next((value for value in found if isinstance(value, int | float)), None)


def best(lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The line of the best evaluation, of equal ones the last; None where there is none yet."""
    judged = [
        (found, line["step"], line) for line in lines if (found := accuracy(line)) is not None
    ]
    return max(judged, key=lambda each: each[:2])[2] if judged else None
