"""launches.jsonl: a line for each launch of a run, the first and those that went on from it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from input.foundation import durable
from trainer import run_dir

LAUNCHES_FILE = "launches.jsonl"
MOST = 2**26  # bytes of it


def add(folder: Path, step: int, devices: Sequence[str], workers: int) -> int:
    """Adds a line; returns how many launches there were before. Raises TrainerError.

    step: that the launch goes on from. devices: of each worker.
    """
    line = {
        "step": step,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "devices": list(devices),
        "workers": workers,
    }
    with run_dir.writing(folder):
        before = _lines(folder)
        content = b"\n".join([*before, json.dumps(line).encode(), b""])
        durable.write(folder / LAUNCHES_FILE, content)
    return len(before)


def steps(folder: Path) -> list[int]:
    """The step that each launch went on from, the first launch first. Raises TrainerError."""
    with run_dir.writing(folder):
        lines = _lines(folder)
    found = []
    for line in lines:
        try:
            found.append(int(json.loads(line)["step"]))
        except (ValueError, KeyError, TypeError, RecursionError):  # none of ours
            continue
    return found


def _lines(folder: Path) -> list[bytes]:
    try:
        return durable.read(folder / LAUNCHES_FILE, MOST).splitlines()
    except FileNotFoundError:
        return []
