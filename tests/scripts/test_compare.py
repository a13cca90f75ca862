"""samestep-compare: what it shows of real runs, as a process, and its exit codes."""

import json
import shutil

import pytest
from PIL import Image

from scripts import compare
from scripts.compare import CompareConfig
from tests.conftest import error
from tests.scripts.conftest import probed
from tests.trainer.receipts import HARDWARE, MODEL
from trainer.receipt import RECEIPT_FILE


@pytest.mark.parametrize("runs", [(), ("one",)])
def test_two_runs_are_the_least(runs):
    assert error(CompareConfig, runs=runs).startswith(f"{len(runs)} run")


def test_the_same_run_is_equal_and_tensorflow_is_not_loaded(recorded, tmp_path):
    again = shutil.copytree(recorded, tmp_path / "again")
    picture = tmp_path / "curves.png"
    done = probed("samestep-compare", str(recorded), str(again), f"--picture={picture}")
    assert done.returncode == 0, done.stderr
    assert f"{recorded} and {again}: the same records, pixels, gradients and weights" in done.stdout
    for title in ("settings", "results", "accuracy at epoch"):
        assert title in done.stdout
    with Image.open(picture) as image:
        assert image.format == "PNG"
    _, _, loaded = json.loads(done.stderr.splitlines()[-1])
    assert loaded == []


def test_each_run_is_compared_with_the_first(recorded, planted, capsys):
    runs = tuple(map(str, (recorded, planted["weight"], planted["pixel"])))
    assert compare.compare(CompareConfig(runs=runs), HARDWARE) == 1
    said = capsys.readouterr().out
    assert f"{runs[0]} and {runs[1]}: step 7 is the first recorded one that differs, in its" in said
    assert f"{runs[0]} and {runs[2]}: step 2 is the first recorded one that differs, in its" in said


def test_steps_are_computed_again_in_processes_of_their_own(recorded, planted, capsys):
    """A weight that a device had wrong is none that its settings and records give."""
    runs = tuple(map(str, (recorded, planted["weight"])))
    config = CompareConfig(runs=runs, replay=True, model=MODEL)
    assert compare.compare(config, HARDWARE) == 1
    said = capsys.readouterr().out
    assert "computed again, both are the same up to step 7" in said
    assert f"{runs[1]}: weights of step 7 are not what is recorded there" in said


def test_an_error_of_such_a_process_is_the_command_s(recorded, planted):
    runs = tuple(map(str, (recorded, planted["weight"])))
    config = CompareConfig(runs=runs, replay=True)
    assert "names a model that is code" in error(compare.compare, config, HARDWARE)


def test_a_folder_without_a_run_is_named(recorded, tmp_path):
    config = CompareConfig(runs=(str(recorded), str(tmp_path)))
    assert error(compare.compare, config, HARDWARE).startswith(f"run={tmp_path} holds no run")
    assert (recorded / RECEIPT_FILE).exists()
