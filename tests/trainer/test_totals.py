"""What a run has come to, over its launches."""

import json

from trainer import launches
from trainer.totals import totals

STEPS = {
    "train/loss": 0.5,
    "images_per_second": 50.0,
    "seconds_per_step": 2.0,
    "train/skipped_steps": 1,
    "time/input": 1.0,
    "time/device": 15.0,
    "time/host": 4.0,
    "time/saving": 0.0,
    "time/evaluating": 0.0,
}


def write(folder, *lines) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "metrics.jsonl").write_text("".join(text + "\n" for text in texts))


def test_lines_are_summed_up(tmp_path):
    write(
        tmp_path,
        {"step": 10, **STEPS, "run/bad_records": 3},
        {"step": 10, "validation/loss": 1.0, "time/saving": 2.0, "time/evaluating": 5.0},
        {"step": 15, **STEPS, "run/bad_records": 1},  # another launch, which has met fewer so far
    )
    for step in (0, 10):
        launches.add(tmp_path, step, ["CPU:0"], 1)
    found = totals(tmp_path)
    assert found.steps == 15
    assert found.images == 100 * 15  # a step has 50 images/s for 2 s
    assert list(found.seconds.items()) == [
        *(("input", 2.0), ("device", 30.0), ("host", 8.0), ("saving", 2.0), ("evaluating", 5.0)),
    ]
    assert found.training_seconds == 40.0
    assert (found.skipped, found.bad_records, found.launches) == (2, 3, (0, 10))


def test_what_is_no_line_of_ours_counts_for_nothing(tmp_path):
    strange = ("", "5", "{", "[1]", '{"step": "x"}', '{"train/loss": 1}', "[" * 10**5)
    words = {"step": 20, "train/loss": 1, "time/input": "x", "time/device": None}
    write(tmp_path, *strange, words)
    found = totals(tmp_path)
    assert (found.images, sum(found.seconds.values()), found.launches) == (0, 0, ())


def test_lines_without_times_are_not_counted_as_steps(tmp_path):
    write(tmp_path, {"step": 10, "train/loss": 1.0}, {"step": 30, **STEPS})
    assert totals(tmp_path).steps == 20
