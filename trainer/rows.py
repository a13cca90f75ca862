"""What some steps in a row have given, and the line of metrics that it makes."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from trainer import step


class Rows(NamedTuple):
    """What some steps have given."""

    history: step.History  # of arrays: float64[steps] each
    seconds: float  # that they took, all together
    end: int  # the step after the last of them
    stopping: bool  # whether all workers are to stop there


def summary(rows: Rows, schedule: Callable[[tf.Tensor], tf.Tensor]) -> dict[str, float]:
    """One line of metrics; skipped steps have no part in the means."""
    history, applied = rows.history, rows.history.applied > 0
    steps, images = len(applied), history.images[applied].sum()

    def mean(values: np.ndarray) -> float:
        return float(np.mean(values[applied])) if applied.any() else float("nan")

    return {
        "train/loss": mean(history.loss),
        "train/accuracy": float(history.correct[applied].sum() / images)
        if images
        else float("nan"),
        "train/gradient_norm": mean(history.gradient_norm),
        "train/learning_rate": float(schedule(tf.constant(rows.end - 1))),
        "train/loss_scale": float(history.loss_scale[-1]),
        "train/skipped_steps": steps - int(applied.sum()),
        "train/too_large_steps": int(history.too_large.sum()),
        "images_per_second": float(history.images.sum() / rows.seconds),
        "seconds_per_step": rows.seconds / steps,
    }
