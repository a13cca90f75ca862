"""A command that writes files leaves nothing behind when it is asked to end."""

import os
import signal
import subprocess
import sys

import pytest

from scripts.interruption import cleaning_up
from tests.conftest import ROOT, encoded, picture
from tests.scripts.conftest import python


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """400 files of two classes, of which each takes some milliseconds to be written anew."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "one.jpg").write_bytes(encoded(picture(height=900, width=1200), "JPEG"))
    for name in ("cat", "dog"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(200):
            os.link(folder / "one.jpg", folder / "images" / name / f"{number}.jpg")
    return folder / "images"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_write_leaves_nothing(images, tmp_path, number):
    out = tmp_path / "not" / "there" / "records"
    arguments = [f"--out={out}", "--short_side=800", "--encoding=jpeg", "--jobs=1"]
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.records", "write", str(images), *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as writing:
        assert writing.stderr.readline().endswith("(10 %)\n")
        assert out.with_name("records.incomplete").is_dir()
        writing.send_signal(number)
        writing.send_signal(signal.SIGTERM)  # an impatient user
        said = writing.stderr.read()
        assert writing.wait() == 128 + number
    assert said.splitlines()[-1] == "interrupted"
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_stay(images, tmp_path):
    (tmp_path / "kept").mkdir()
    arguments = ["write", str(images), f"--out={tmp_path}/kept/new/records", "--max_pixels=9"]
    done = python("-m", "scripts.records", *arguments)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_an_ignored_signal_stays_ignored_and_handlers_come_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    own = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt) as raised, cleaning_up():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not own
            os.kill(os.getpid(), signal.SIGTERM)
        assert raised.value.args == (signal.SIGTERM,)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGHUP, before)
