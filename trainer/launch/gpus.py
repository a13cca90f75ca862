"""Which GPUs of this machine each worker gets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from input.foundation.text import counted
from trainer.errors import TrainerError


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that a process of this environment may use; TensorFlow is not asked."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name not in ("", "-1")]
    driver = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i in range(len(list(driver.iterdir())))] if driver.is_dir() else []


def divide_gpus(gpus: Sequence[str], workers: int, per_worker: int | None) -> list[list[str]]:
    """The GPUs of each worker. Raises TrainerError where there are too few."""
    count = len(gpus) // workers if per_worker is None else per_worker
    if count * workers > len(gpus) or (per_worker is None and count * workers < len(gpus)):
        raise TrainerError(
            f"{counted(len(gpus), 'GPU')} cannot be divided evenly over "
            + counted(workers, "worker")
            + (f" of {per_worker}" if per_worker else "")
            + ". Set --workers or --gpus_per_worker."
        )
    return [list(gpus[i * count : (i + 1) * count]) for i in range(workers)]
