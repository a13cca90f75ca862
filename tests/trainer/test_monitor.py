"""What a run shows: cards as they were meant, skipped steps, lines of steps that are done again."""

import io
import json

from rich.console import Console

from trainer.monitor import Monitor, card

LINE = {"train/loss": 0.5, "images_per_second": 9.0, "seconds_per_step": 0.1}


def steps(run_dir) -> list[tuple[int, bool]]:
    """The step of each line of metrics.jsonl, and whether it is one of training."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], "train/loss" in line) for line in lines]


def test_a_card_shows_what_it_is_given():
    console = Console(file=io.StringIO(), width=60)
    card(console, "samestep", [("per class", "[red]dog 4, :cat: 5")])
    assert "[red]dog 4, :cat: 5" in console.file.getvalue()


def test_skipped_steps_are_said(tmp_path, capsys):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.training(20, {**LINE, "train/skipped_steps": 0})
        assert "skipped" not in capsys.readouterr().out
        monitor.training(40, {**LINE, "train/skipped_steps": 3})
    assert "step 40: 3 of the steps before it were skipped" in capsys.readouterr().out


def test_what_is_done_again_is_said_once(tmp_path):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        for step in (10, 20):
            monitor.training(step, {**LINE, "train/skipped_steps": 0})
        monitor.evaluation(20, {"validation/loss": 1.0}, "abc")
        monitor.training(30, {**LINE, "train/skipped_steps": 0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "tra')  # a kill
    with Monitor(tmp_path, 40, 20, 20) as monitor:
        assert steps(tmp_path) == [(10, True), (20, True)]
        monitor.evaluation(20, {"validation/loss": 1.0}, "abc")
    assert steps(tmp_path) == [(10, True), (20, True), (20, False)]
