"""metrics.jsonl as it is read: our lines, whatever stands between them."""

import pytest

from tests.conftest import error
from trainer import metrics, run_dir


def test_our_lines_are_read_in_their_order(tmp_path):
    assert metrics.read(tmp_path) == []
    lines = ['{"step": 1, "train/loss": null}', "mine", '{"step": "2"}', "[1]", '{"step": 3}']
    (tmp_path / run_dir.METRICS_FILE).write_text("\n".join([*lines, '{"step": 4']))
    assert metrics.read(tmp_path) == [{"step": 1, "train/loss": None}, {"step": 3}]


@pytest.mark.parametrize("line", [b"", b"{", b"7", b'{"step": true}', b"[" * 100_000, b"\xff"])
def test_what_is_no_line_is_none(line):
    assert metrics.parsed(line) is None


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / run_dir.METRICS_FILE).mkdir()
    assert str(tmp_path) in error(metrics.read, tmp_path)
