"""Steps summed up: skipped ones have no part in the means."""

import math

import pytest

from tests.trainer.steps import train_that_counts
from trainer import rows, step


def test_skipped_steps_have_no_part_in_a_summary():
    train = train_that_counts([], applied=lambda number: number != 3)
    history = step.History(*(column.numpy() for column in train(None, 0, 4)))
    found = rows.summary(rows.Rows(history, 2.0, 4, False), lambda step: 0.1 * float(step))
    assert found == {
        "train/loss": 1.0,  # of 0, 1 and 2
        "train/accuracy": 0.25,
        "train/gradient_norm": 0.5,
        "train/learning_rate": pytest.approx(0.3),  # of the last step
        "train/skipped_steps": 1,
        "train/too_large_steps": 0,
        "train/loss_scale": 1.0,
        "images_per_second": 64.0,
        "seconds_per_step": 0.5,
    }


def test_where_all_steps_were_skipped_there_are_no_means():
    train = train_that_counts([], applied=lambda number: False)
    history = step.History(*(column.numpy() for column in train(None, 0, 4)))
    found = rows.summary(rows.Rows(history, 2.0, 4, False), float)
    assert found["train/skipped_steps"] == 4
    for name in ("train/loss", "train/accuracy", "train/gradient_norm"):
        assert math.isnan(found[name])
