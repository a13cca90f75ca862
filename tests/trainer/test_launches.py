"""A line for each launch, whatever else has come into the file."""

import json

import pytest

from tests.conftest import error
from trainer import launches


def test_each_launch_is_a_line(tmp_path):
    assert launches.steps(tmp_path) == []
    devices = ["CPU:0", "CPU:1"]
    assert [launches.add(tmp_path, step, devices, 1) for step in (0, 20, 20)] == [0, 1, 2]
    assert launches.steps(tmp_path) == [0, 20, 20]
    lines = (tmp_path / "launches.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (first["devices"], first["workers"]) == (devices, 1)
    assert first["began"].endswith("Z")


@pytest.mark.parametrize("strange", ["", "5", "{}", '{"step": "x"}', '{"step', "[" * 10**5, "\xff"])
def test_a_strange_line_counts_for_nothing(tmp_path, strange):
    path = tmp_path / "launches.jsonl"
    launches.add(tmp_path, 0, ["CPU:0"], 1)
    path.write_text(path.read_text() + strange)
    launches.add(tmp_path, 7, ["CPU:0"], 1)
    assert launches.steps(tmp_path) == [0, 7]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "launches.jsonl").mkdir()
    assert f"--run_dir={tmp_path} cannot be written: " in error(launches.add, tmp_path, 0, [], 1)
