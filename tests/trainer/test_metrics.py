"""metrics.jsonl as it is read: our lines, whatever stands between them."""

import pytest

from tests.conftest import error
from trainer import metrics, run_dir


def test_our_lines_are_read_in_their_order(tmp_path):
    assert metrics.read(tmp_path) == []
    lines = ['{"step": 1, "train/loss": null}', "mine", '{"step": "2"}', "[1]", '{"step": 3}']
    (tmp_path / run_dir.METRICS_FILE).write_text("\n".join([*lines, '{"step": 4']))
    assert metrics.read(tmp_path) == [{"step": 1, "train/loss": None}, {"step": 3}]


def test_the_best_evaluation_is_that_of_the_best_checkpoint():
    """By the averages, where a run has them; of equal ones the newest, which is kept."""
    training = {"step": 1, "train/loss": 0.5}
    lines = [evaluated(step, step / 10) for step in (3, 4)]
    assert [metrics.accuracy(line) for line in (training, *lines)] == [None, 0.3, 0.4]
    assert metrics.best([training]) is None
    assert metrics.best([training, *lines, evaluated(5, 0.4), evaluated(6, 0.2)])["step"] == 5
    averaged = [evaluated(1, 0.9, averages=0.1), evaluated(2, 0.1, averages=0.2)]
    assert metrics.best(averaged)["step"] == 2
    assert metrics.accuracy(averaged[1]) == 0.2


def evaluated(step, accuracy, averages=None):
    line = {"step": step, "validation/accuracy": accuracy}
    return line if averages is None else line | {"validation_of_averages/accuracy": averages}


@pytest.mark.parametrize("line", [b"", b"{", b"7", b'{"step": true}', b"[" * 100_000, b"\xff"])
def test_what_is_no_line_is_none(line):
    assert metrics.parsed(line) is None


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / run_dir.METRICS_FILE).mkdir()
    assert str(tmp_path) in error(metrics.read, tmp_path)
