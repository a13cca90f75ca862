"""A run whose steps are all skipped learns nothing: it ends, and says why."""

import numpy as np

from trainer import fixed_point
from trainer.errors import TrainerError
from trainer.step import History


class Skips:
    """Ends a run that learns nothing: an epoch of steps in a row, all of them skipped."""

    def __init__(self, steps_per_epoch: int, micro_batches: int):
        self._steps_per_epoch = steps_per_epoch
        self._micro_batches = micro_batches
        self._since_applied = 0  # steps

    def note(self, history: History) -> None:
        """history: of arrays. Raises TrainerError."""
        applied = np.flatnonzero(history.applied)
        steps = len(history.applied)
        if len(applied):
            self._since_applied = steps - 1 - int(applied[-1])
        else:
            self._since_applied += steps
        if self._since_applied < self._steps_per_epoch:
            return
        skipped = f"{self._since_applied} steps in a row, an epoch, were skipped"
        if history.too_large[-1]:
            bound = fixed_point.limit(fixed_point.GRADIENT_BITS, self._micro_batches)
            raise TrainerError(
                f"{skipped}: their gradients are finite, but beyond the {bound:.0f} that the exact "
                "sum can hold. A BatchNorm over very few images does that: raise "
                "--micro_batch_size, or use --reduction=fast. --clip_norm comes after the sum."
            )
        raise TrainerError(
            f"{skipped}: their loss or gradients are not finite. Lower --learning_rate, add "
            "--warmup_epochs, or look for a division by 0 or a logarithm of 0 in the model."
        )
