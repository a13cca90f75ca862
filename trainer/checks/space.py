"""Whether a run's folder can be written, and holds what a run keeps. No TensorFlow."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trainer import run_dir as run_dirs
from trainer.checks.finding import Finding

PROBE_BYTES = 2**20  # more than config.json and the first metrics
LITTLE = 2**30  # less room than a ResNet-50's checkpoints need
SKEW_SECONDS = 2.0  # above what the clocks of kernel and files differ by on one machine


def examine(run_dir: str) -> Iterator[Finding]:
    """Writes a file of PROBE_BYTES without a name where the run's folder is or will be.

    Its date is that of the file system's clock, another machine's where that is on a network.
    """
    folder = Path(run_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            before = time.time()
            for _ in range(PROBE_BYTES // 2**16):
                file.write(os.urandom(2**16))
            os.fsync(file.fileno())
            skew, after = os.fstat(file.fileno()).st_mtime, time.time()
        free = free_bytes(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding(
            "run_dir",
            "wrong",
            f"--run_dir={run_dir} cannot be written, in {folder}: {reason}. Make room or repair "
            "that, or use another",
        )
        return
    few = ": little for checkpoints. Make room, or use another disk" if free < LITTLE else ""
    yield Finding("run_dir", "warning" if few else "ok", f"{free / 1e9:.1f} GB free{few}")
    seconds = max(before - skew, skew - after, 0.0)
    if seconds > SKEW_SECONDS:
        yield Finding(
            "clock of files",
            "warning",
            f"the file system of {folder} dates files {seconds:,.0f} s off this machine's clock. "
            "Synchronise both by NTP",
        )


def checkpoints(run_dir: str, each_bytes: int, kept: int) -> Finding:
    """Whether a run's checkpoints fit, besides the best and one that is being written."""
    folder = Path(run_dir).absolute()
    there = sum(
        path.stat().st_size for path in (folder / run_dirs.CHECKPOINTS).rglob("*") if path.is_file()
    )
    while not folder.exists():
        folder = folder.parent
    free, count = free_bytes(folder), kept + 2
    needed = count * each_bytes - there
    shown = f"{count} at a time of {each_bytes / 1e6:,.1f} MB, {free / 1e9:.1f} GB free"
    if needed <= free:
        return Finding("checkpoints", "ok", shown)
    return Finding(
        "checkpoints",
        "wrong",
        f"{shown}: {(needed - free) / 1e6:,.1f} MB too few. Make room, use another --run_dir, or "
        "a smaller --keep_checkpoints",
    )


def free_bytes(folder: Path) -> int:
    """What this user may still write."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
