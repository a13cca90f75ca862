"""The newest saved step, told to whoever has started this worker and may start it again."""

import contextlib
import os
from pathlib import Path

VARIABLE = "SAMESTEP_PROGRESS"  # environment variable: the file that gets the step


def report(step: int) -> None:
    """To be called by worker 0 once a checkpoint is saved; does nothing where nobody has asked."""
    if file := os.environ.get(VARIABLE):
        with contextlib.suppress(OSError):  # a launcher that sees no progress gives up sooner
            Path(file).write_text(str(step))


def read(file: Path) -> str:
    """What was reported last; empty where nothing was."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
