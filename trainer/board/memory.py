"""How much memory a process has, here and on its GPUs."""

import os
from pathlib import Path

import tensorflow as tf

MIB = 2**20


def used() -> dict[str, float]:
    """In MiB: of this process's memory what is resident; of each of its GPUs, now and at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {"memory/process_mib": pages * os.sysconf("SC_PAGE_SIZE") / MIB}
    for number, gpu in enumerate(tf.config.list_logical_devices("GPU")):
        info = tf.config.experimental.get_memory_info(gpu.name)
        found[f"memory/gpu{number}_mib"] = info["current"] / MIB
        found[f"memory/gpu{number}_peak_mib"] = info["peak"] / MIB
    return found
