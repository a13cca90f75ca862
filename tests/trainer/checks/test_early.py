"""The checks before TensorFlow: all are made, whatever is wrong."""

import subprocess
import sys

from input.native import library
from tests.conftest import ROOT
from tests.trainer.conftest import settings
from trainer.checks import early
from trainer.checks.early import Early

WITHOUT_FOLDERS = ["versions", "workers", "clock", "shared memory", "decoder"]


def test_without_folders_the_machine_is_looked_at():
    first = Early(settings(""), {})
    assert [finding.check for finding in first.examine()] == WITHOUT_FOLDERS
    assert (first.sound, first.read_per_second) == (True, None)


def test_what_is_wrong_stops_no_other_check(data_dir, tmp_path):
    first = Early(settings(data_dir, tmp_path / "run"), {"TF_CONFIG": "{"})
    found = {finding.check: finding.verdict for finding in first.examine()}
    assert list(found) == [*WITHOUT_FOLDERS, "run_dir", "train", "validation"]
    assert [check for check, verdict in found.items() if verdict == "wrong"] == ["workers"]
    assert not first.sound
    assert first.read_per_second > 0


def test_a_decoder_that_is_not_there_is_wrong(monkeypatch):
    def missing():
        raise early.InputError("The native decoder was not built.")

    monkeypatch.setattr(library, "load", missing)
    assert early._decoder("auto").verdict == "ok"
    assert early._decoder("native").verdict == "wrong"


def test_no_tensorflow_is_loaded():
    """It may be what is wrong."""
    code = "import sys, trainer.checks.early; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
