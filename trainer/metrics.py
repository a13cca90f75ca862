"""metrics.jsonl: what a run has measured, an object with its step in each line. No TensorFlow."""

import json
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
