"""Steps that are skipped in a row: when they are too many, and what an epoch of them says."""

from collections.abc import Callable

from input.foundation.text import counted
from trainer import fixed_point
from trainer.errors import TrainerError
from trainer.step import History


class Skips:
    """Counts the steps in a row that were skipped; an epoch of them ends the run.

    A step all of whose records are left out counts neither way.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        micro_batches: int,
        limit: int | None = None,
        is_empty: Callable[[int], bool] = lambda step: False,
        *,
        first: int = 0,
        in_a_row: int = 0,
    ):
        """limit: steps in a row that `note` returns; None: never. is_empty: of a step's records.

        first, in_a_row: of the steps before, where they were counted.
        """
        self._steps_per_epoch = steps_per_epoch
        self._micro_batches = micro_batches
        self._limit = limit
        self._is_empty = is_empty
        self.first = first  # step of those in a row
        self.in_a_row = in_a_row

    def note(self, history: History, end: int) -> range | None:
        """history: of arrays, of the steps before `end`. Raises TrainerError.

        Returns the steps that have reached the limit, the first time they do.
        """
        found = None
        for step, applied in enumerate(history.applied, end - len(history.applied)):
            if applied:
                self.in_a_row = 0
            elif not self._is_empty(step):
                self.first = self.first if self.in_a_row else step
                self.in_a_row += 1
            if found is None and self._limit is not None and self.in_a_row >= self._limit:
                found = range(self.first, step + 1)
        if found is None:
            self._check(history)
        return found

    def _check(self, history: History) -> None:
        if self.in_a_row < self._steps_per_epoch:
            return
        skipped = f"A whole epoch, {counted(self.in_a_row, 'step')} in a row, was skipped"
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
