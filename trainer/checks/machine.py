"""The clock and the shared memory of this machine. No TensorFlow."""

import ctypes
import os
import time
from pathlib import Path

from trainer.checks.finding import Finding
from trainer.errors import TrainerError
from trainer.workers import nvidia

SHARED_MEMORY = Path("/dev/shm")
# What NVIDIA's troubleshooting page of NCCL gives containers, whose default are 64 MiB.
ENOUGH_SHARED_MEMORY = 2**30
TIME_ERROR = 5  # adjtimex(2): nothing synchronises the clock
OFTEN_WRITTEN = "%Y-%m-%d %H:%M"


def clock(machines: int, now: float | None = None) -> Finding:
    """Whether the clock can be right, and is kept so where a run has several."""
    now = time.time() if now is None else now
    written = Path(__file__).stat().st_mtime
    shown = time.strftime(OFTEN_WRITTEN, time.localtime(now))
    if now < written:
        since = time.strftime(OFTEN_WRITTEN, time.localtime(written))
        return Finding(
            "clock",
            "warning",
            f"{shown} is before samestep was installed, {since}: dates of files and curves will be "
            "wrong. Set it, best by NTP: timedatectl set-ntp true",
        )
    synchronised = ctypes.CDLL(None).adjtimex((ctypes.c_long * 64)()) != TIME_ERROR
    if synchronised:
        return Finding("clock", "ok", f"{shown}, kept by NTP")
    if machines > 1:
        return Finding(
            "clock",
            "warning",
            f"{shown}, and the kernel says that nothing synchronises it: the lines of "
            f"{machines} machines will not be in order. Start an NTP service on each: "
            "timedatectl set-ntp true",
        )
    return Finding(
        "clock", "ok", f"{shown}; nothing synchronises it, which one machine can do with"
    )


def shared_memory(workers: int, folder: Path = SHARED_MEMORY) -> Finding:
    """Whether NCCL, which joins GPUs through it, has enough. Nothing else here uses any."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        free, shown = 0, f"{folder}: {error.strerror}"
    else:
        free = found.f_bavail * found.f_frsize
        shown = f"{free / 2**20:,.0f} MiB free in {folder}"
    if free >= ENOUGH_SHARED_MEMORY or (gpus := _gpus()) == 0 or (gpus == 1 and workers == 1):
        return Finding("shared memory", "ok", shown)
    return Finding(
        "shared memory",
        "warning",
        f"{shown}; NCCL may fail with less than {ENOUGH_SHARED_MEMORY >> 20:,} MiB for several "
        "GPUs. Start the container with --shm-size=1g, or mount a volume of medium Memory there",
    )


def _gpus() -> int:
    """Cards that this process may use; those that cannot be counted are some."""
    if nvidia.driver_version() is None:
        return 0
    try:
        return len(nvidia.cards())
    except TrainerError:
        return 2
