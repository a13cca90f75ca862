"""An epoch of skipped steps ends the run, with the way out of its cause."""

import numpy as np
import pytest

from trainer.errors import TrainerError
from trainer.skips import Skips
from trainer.step import History


def history(applied: list[int], too_large: int = 0) -> History:
    made = np.array(applied, np.float64)
    there = np.ones_like(made)
    no_hashes = np.zeros([len(made), 0], np.int64)
    return History(made, there, made, made, made, (1 - made) * too_large, there, no_hashes)


def test_an_epoch_of_skipped_steps_ends_the_run():
    skips = Skips(steps_per_epoch=5, micro_batches=4)
    skips.note(history([0, 0, 0, 0, 1]), 10)
    skips.note(history([0, 0]), 10)
    skips.note(history([0, 0]), 10)
    with pytest.raises(TrainerError, match=r"^A whole epoch, 5 steps in a row, .* are not finite"):
        skips.note(history([0]), 10)
    skips.note(history([0, 1, 0, 0, 0, 0]), 10)  # four since the last


def test_gradients_that_are_too_large_have_their_own_way_out():
    with pytest.raises(TrainerError, match=r"finite, but beyond the 2048 .*--micro_batch_size"):
        Skips(steps_per_epoch=2, micro_batches=4).note(history([1, 0, 0], too_large=1), 3)


def test_the_steps_that_reach_the_limit_are_named_wherever_calls_end():
    for cuts in ((12,), (4, 8), (5, 7), tuple(range(1, 13))):
        skips, found = Skips(100, 4, limit=3), []
        row = [1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0]
        for first, end in zip((0, *cuts), (*cuts, 12), strict=True):
            if first < end:
                found.append(skips.note(history(row[first:end]), end))
        assert next(each for each in found if each) == range(5, 8)
        assert skips.in_a_row == 2


def test_a_step_without_records_counts_neither_way():
    skips = Skips(100, 4, limit=3, is_empty=lambda step: step in (2, 3))
    assert skips.note(history([0, 0]), 2) is None
    assert skips.note(history([0, 0]), 4) is None
    assert skips.in_a_row == 2
    assert skips.note(history([0]), 5) == range(5)


def test_what_was_counted_before_counts():
    skips = Skips(100, 4, limit=3, first=7, in_a_row=2)
    assert skips.note(history([0]), 10) == range(7, 10)
