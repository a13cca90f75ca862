"""What a run shows: cards as they were meant, skipped steps, lines of steps that are done again."""

import io
import json
import math

import pytest
from rich.console import Console
from rich.text import Text

from input.errors import BadRecordError
from tests.conftest import error
from trainer import monitor as monitors
from trainer.monitor import Monitor, card
from trainer.state import EvaluationResult, State

LINE = {
    "train/loss": 0.5,
    "images_per_second": 9.0,
    "seconds_per_step": 0.1,
    "train/too_large_steps": 0,
    "time/input": 1.0,
    "time/device": 2.0,
    "time/host": 1.0,
}


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
        monitor.training(40, {**LINE, "train/skipped_steps": 3, "train/too_large_steps": 1})
    assert (
        "step 40: 3 steps before it skipped, 1 for gradients too large" in capsys.readouterr().out
    )


def test_the_bar_has_dashes_before_the_first_numbers_and_ends_before_the_last_card(
    tmp_path, monkeypatch
):
    console = Console(file=io.StringIO(), width=120, force_terminal=True, force_interactive=True)
    monkeypatch.setattr(monitors, "Console", lambda **_: console)
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor._progress.refresh()
        assert "loss - - images/s" in Text.from_ansi(console.file.getvalue()).plain
        monitor.training(40, {**LINE, "train/skipped_steps": 0})
        monitor.finish("finished", [("result", "good")])
    shown = Text.from_ansi(console.file.getvalue()).plain
    assert "loss 0.5000 9 images/s" in shown
    assert shown.rindex("images/s") < shown.index("finished")


def state(result: EvaluationResult | None, fingerprint="abc") -> State:
    return State(20, "run", fingerprint, {}, result)


GOOD = state(EvaluationResult(1.0, 5, 10, 10))


def test_what_is_done_again_is_said_once(tmp_path):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        for step in (10, 20):
            monitor.training(step, {**LINE, "train/skipped_steps": 0})
        monitor.evaluation(GOOD, {})
        monitor.training(30, {**LINE, "train/skipped_steps": 0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "tra')  # a kill
    with Monitor(tmp_path, 40, 20, 20) as monitor:
        assert steps(tmp_path) == [(10, True), (20, True)]
        monitor.evaluation(GOOD, {})
    assert steps(tmp_path) == [(10, True), (20, True), (20, False)]


def test_an_evaluation_that_a_launch_has_only_read_keeps_its_times(tmp_path):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.evaluation(GOOD, {"time/evaluating": 3.0, "time/saving": 1.0})
    written = (tmp_path / "metrics.jsonl").read_bytes()
    for _ in range(2):
        with Monitor(tmp_path, 40, 20, 20) as monitor:
            monitor.evaluation(GOOD, {"time/evaluating": 0.0, "time/saving": 0.0})
        assert (tmp_path / "metrics.jsonl").read_bytes() == written
    (tmp_path / "metrics.jsonl").write_bytes(written.replace(b"3.0", b'"long"'))
    with Monitor(tmp_path, 40, 20, 20) as monitor:
        monitor.evaluation(GOOD, {"time/evaluating": 0.0})
    assert b'"time/evaluating"' not in (tmp_path / "metrics.jsonl").read_bytes()


# What may stand in metrics.jsonl that samestep has not written there.
STRANGE = [
    *(b"", b"5", b"{}", b"[]", b"null", b'"step"', b"{", b"\xff\xfe\x00", b'{"step": "x"}'),
    *(b'{"step": NaN}', b'{"step": 1.5}', b'{"step": true}', b"[" * 10**5, b"9" * 5000, b"\r"),
    *(b'{"step": null, "train/loss": 1.0}', b"x" * 10**6),
]


@pytest.mark.parametrize("line", STRANGE, ids=lambda line: repr(line[:20]))
def test_a_strange_line_stops_nothing_and_is_kept(tmp_path, line, capsys):
    path = tmp_path / "metrics.jsonl"
    before, after = (b'{"step": %d, "train/loss": 1.0}\n' % step for step in (10, 20))
    path.write_bytes(before + line + b"\n" + after)
    with Monitor(tmp_path, 40, 20, 20):
        pass
    assert path.read_bytes() == before + line + b"\n" + after
    assert capsys.readouterr().out == f"{path}: lines that samestep has not written are kept: [2]\n"
    with Monitor(tmp_path, 40, 20, 10):
        pass
    assert path.read_bytes() == before + line + b"\n"


@pytest.mark.parametrize("cut", range(32))
def test_only_the_last_line_may_be_torn(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    line = b'{"step": 10, "train/loss": 1.0}\n'
    assert len(line) == 32
    path.write_bytes(line + line[:cut])
    with Monitor(tmp_path, 40, 20, 20):
        pass
    whole = cut == 31  # but for the end of the line
    assert path.read_bytes().rstrip(b"\n") == (line + line[:cut] if whole else line[:-1])


def test_an_evaluation_is_a_line_of_numbers_and_a_line_of_words(tmp_path, capsys):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.evaluation(GOOD, {})
        monitor.evaluation(state(None), {})  # not made yet
    assert capsys.readouterr().out == "epoch 1: accuracy 0.5000 on 10/10, loss 1.000000\n"
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "step": 20,
        "epoch": 1.0,
        "validation/loss": 1.0,
        "validation/accuracy": 0.5,
        "validation/mean_class_accuracy": None,  # a result without classes
        "validation/images": 10,
        "fingerprint": "abc",
    }


def test_what_is_not_finite_is_null(tmp_path):
    """JSON has no NaN: jq, JavaScript and strict parsers would stop at it."""
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.training(20, {**LINE, "train/loss": math.nan, "train/skipped_steps": 20})
        monitor.evaluation(state(EvaluationResult(None, 0, 0, 3)), {})
    training, evaluation = (
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    )
    assert training["train/loss"] is None
    assert evaluation["validation/loss"] is None
    assert evaluation["validation/accuracy"] is None
    assert evaluation["validation/images"] == 0


def test_each_bad_record_is_said_once(tmp_path, capsys):
    bad = BadRecordError("train-00000", 5, 100, "label 9 is not one of the 3 classes")
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.bad_records({5: bad})
        monitor.bad_records({5: bad, 3: bad})
        monitor.bad_records({5: bad, 3: bad})
    assert capsys.readouterr().out == f"left out: {bad}\n" * 2


def test_only_the_chief_writes_and_shows(tmp_path, capsys):
    with Monitor(tmp_path / "run", 40, 20, 0, chief=False) as monitor:
        monitor.card("samestep", [("a", "b")])
        monitor.training(20, {**LINE, "train/skipped_steps": 3})
        monitor.evaluation(GOOD, {})
        monitor.say("a bad record of this worker")
    assert capsys.readouterr().out == "a bad record of this worker\n"
    assert not (tmp_path / "run").exists()


def test_metrics_that_cannot_be_written_are_named(tmp_path):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        (tmp_path / "metrics.jsonl").mkdir()
        said = error(monitor.training, 10, {**LINE, "train/skipped_steps": 0})
    assert said.startswith(f"--run_dir={tmp_path} cannot be written: ")


@pytest.mark.parametrize(("waited", "shown"), [(0.01, ""), (1.0, ", input 25 %")])
def test_waiting_for_input_is_shown(tmp_path, capsys, waited, shown):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.training(20, {**LINE, "train/skipped_steps": 0, "time/input": waited})
    expected = f"epoch 2/2 step 20/40 loss 0.5000 9 images/s{shown}, 0:00:02 left\n"
    assert capsys.readouterr().out == expected


def test_a_line_below_a_card_is_not_broken(tmp_path, capsys):
    with Monitor(tmp_path, 40, 20, 0) as monitor:
        monitor.card("finished", [("a", "b")], below="x" * 500)
    assert "x" * 500 + "\n" in capsys.readouterr().out
