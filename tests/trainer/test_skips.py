"""An epoch of skipped steps ends the run, with the way out of its cause."""

import numpy as np
import pytest

from trainer.errors import TrainerError
from trainer.skips import Skips
from trainer.step import History


def history(applied: list[int], too_large: int = 0) -> History:
    made = np.array(applied, np.float64)
    return History(made, made, made, made, made, (1 - made) * too_large)


def test_an_epoch_of_skipped_steps_ends_the_run():
    skips = Skips(steps_per_epoch=5, micro_batches=4)
    skips.note(history([0, 0, 0, 0, 1]))
    skips.note(history([0, 0]))
    skips.note(history([0, 0]))
    with pytest.raises(TrainerError, match=r"^5 steps in a row, an epoch, .* are not finite"):
        skips.note(history([0]))
    skips.note(history([0, 1, 0, 0, 0, 0]))  # four since the last


def test_gradients_that_are_too_large_have_their_own_way_out():
    with pytest.raises(TrainerError, match=r"finite, but beyond the 2048 .*--micro_batch_size"):
        Skips(steps_per_epoch=2, micro_batches=4).note(history([1, 0, 0], too_large=1))
