"""TensorBoard beside a run: there while it is, gone with it."""

import re
import socket
import time
import urllib.request

import pytest

from trainer.board import server

PATIENCE_SECONDS = 120


def address(capfd, text: str = "") -> str:
    """Once it is said."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := re.search(r"TensorBoard: (http://127\.0\.0\.1:\d+/)\n", text)):
        assert time.monotonic() < end, text
        time.sleep(0.05)
        text += capfd.readouterr().out
    return found[1]


def listens(url: str) -> bool:
    port = int(re.search(r":(\d+)/", url)[1])
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_it_ends_with_the_run(tmp_path, capfd):
    with server.beside(tmp_path, wanted=True):
        url = address(capfd)
        assert b"TensorBoard" in urllib.request.urlopen(url).read()
    assert not listens(url)
    assert capfd.readouterr().out == ""


def test_one_that_does_not_start_is_said(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with server.beside(tmp_path, wanted=True) as _:
        end, said = time.monotonic() + PATIENCE_SECONDS, ""
        while not said and time.monotonic() < end:
            time.sleep(0.05)
            said = capfd.readouterr().out
    assert said == "TensorBoard has ended, and the training goes on: it was killed\n"


def test_none_is_started_where_none_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", pytest.fail)
    with server.beside(tmp_path, wanted=False):
        pass
