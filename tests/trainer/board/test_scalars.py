"""Where numbers are shown."""

import pytest

from trainer.board import scalars


@pytest.mark.parametrize(
    ("key", "run", "tag"),
    [
        ("train/loss", "train", "loss"),
        ("validation/loss", "validation", "loss"),
        ("validation_of_averages/loss", "validation_ema", "loss"),
        ("train/skipped_steps", "train", "counts/skipped_steps"),
        ("images_per_second", "train", "speed/images_per_second"),
        ("speed/step_ms_p95", "train", "speed/step_ms_p95"),
        ("run/restarts", "train", "counts/restarts"),
        ("time/input", "train", "time/input"),
        ("anything", "train", "anything"),
    ],
)
def test_a_key_has_its_place(key, run, tag):
    assert scalars.place(key, "train") == (run, tag)
    assert run in scalars.RUNS


def test_what_has_no_group_is_of_its_line():
    for key in ("validation/loss", "train/loss"):
        run = key.partition("/")[0]
        assert scalars.run_of(["time/saving", key]) == run
        assert scalars.place("time/saving", run) == (run, "time/saving")
