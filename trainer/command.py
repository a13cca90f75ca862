"""The command that makes a run again: its settings as flags of samestep-train, for a shell."""

import shlex
from pathlib import Path

from trainer.config import ResolvedConfig


def reproduction(config: ResolvedConfig, run_dir: Path) -> str:
    """Every setting that is not the default; what a launch resolved is among them.

    run_dir: a folder that holds no run yet. Devices and workers are left out: they change no bit.
    """
    words = ["samestep-train"]
    for setting, value in config.values():
        if setting.name == "run_dir":
            value = str(run_dir)
        if value != setting.default:
            words.append(f"--{setting.name}={_text(value)}")
    return shlex.join(words)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
