"""A worker never waits for its output, and what it prints cannot take over a terminal."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trainer.launch import output
from trainer.launch.output import LINE_BYTES, TAIL_LINES, Screen, Worker, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain äö ☃\t|", "plain äö ☃\t|"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("a\x1b[2Jb\x1b[10;5Hc\x1b[?25ld", "abcd"),
        ("a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", "abc"),
        ("a\x1bPq#0\x1b\\b\x1b_x\x07c", "abc"),
        ("a\x1bcb\x1b7c\x1b(0d", "abcd"),
        ("bell\x07 null\x00 back\x08", "bell\\x07 null\\x00 back\\x08"),
        ("\x9b2J \x9d0;t", "\\x9b2J \\x9d0;t"),
        ("cut \x1b]0;never ends", "cut \\x1b]0;never ends"),
        ("cut \x1b[3", "cut \\x1b[3"),
    ],
)
def test_colours_are_shown_and_controls_are_not(text, expected):
    assert shown(text) == expected


class Lines:
    """A screen that is a list."""

    def __init__(self):
        self.shown, self.said = [], []
        self.show, self.say = self.shown.append, self.said.append


def copied(tmp_path, content: bytes, log: Path | None = None) -> tuple[Worker, Lines]:
    """What is made of a worker's output."""
    lines = Lines()
    worker = Worker(3, log or tmp_path / "log", lines)
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb") as file:
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    worker.copy(os.fdopen(reading, "rb"))
    writer.join()
    return worker, lines


def test_lines_and_returns_come_as_they_are_and_the_log_is_raw(tmp_path):
    content = b"one\r\n10%\r20%\r\xff\x1b[2Jtwo\n\nlast"
    worker, lines = copied(tmp_path, content)
    assert lines.shown == [
        "[3] one\n",
        "[3] 10%\r",
        "[3] 20%\r",
        "[3] �two\n",
        "[3] \n",
        "[3] last\n",
    ]
    assert (tmp_path / "log").read_bytes() == content
    assert list(worker.tail)[-3:] == ["�two", "", "last"]


def test_a_line_without_end_is_shown_in_pieces(tmp_path):
    content = b"x" * (100 * LINE_BYTES + 7)
    worker, lines = copied(tmp_path, content)
    assert [len(line) for line in lines.shown] == [LINE_BYTES + 5] * 100 + [7 + 5]
    assert len(worker.tail) == TAIL_LINES
    assert (tmp_path / "log").read_bytes() == content


def test_a_log_on_a_full_disk_is_said_once_and_nothing_else_is_lost(tmp_path):
    _, lines = copied(tmp_path, b"line\n" * 100_000, log=Path("/dev/full"))
    assert lines.said == [
        "/dev/full cannot be written: No space left on device; going on without it"
    ]
    assert len(lines.shown) == 100_000


MANY = "for i in $(seq 30000); do echo line $i of many; done; echo end > {}"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("| head -1", "Broken pipe"),
        ("> /dev/full", "No space left on device"),
        (">&-", ""),
        ("2>&- >&-", ""),
    ],
)
def test_output_that_goes_nowhere_stops_nothing(tmp_path, how, reason):
    """The pipe of a worker has 64 KB; these lines have ten times that."""
    done = tmp_path / "done"
    command = (
        f'"{sys.executable}" -m scripts.launch --logs={tmp_path}/logs -- '
        f"bash -c '{MANY.format(done)}' {how}; exit ${{PIPESTATUS[0]}}"
    )
    found = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert done.read_text() == "end\n"
    said = f"samestep-launch: output cannot be shown: {reason}; going on\n" if reason else ""
    assert found.stderr == said
    assert len((tmp_path / "logs" / "worker-0.log").read_text().splitlines()) == 30_000


def test_output_that_nobody_reads_stops_nothing(tmp_path):
    """A terminal that was stopped, a pager: what it is behind too far is left out, and counted."""
    done = tmp_path / "done"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.launch", f"--logs={tmp_path}/logs"),
            *("--", "bash", "-c", f"{MANY.format(done)}; mkfifo {tmp_path}/f; cat {tmp_path}/f"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while not done.exists():
            assert process.poll() is None
        while not (tmp_path / "f").exists():
            assert process.poll() is None
        (tmp_path / "f").write_text("last\n")
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    left_out = [line for line in lines if "lines left out; the logs have them" in line]
    count = sum(int(line.split()[1].replace(",", "")) for line in left_out)
    assert count > 10_000
    assert count + len(lines) - len(left_out) == 30_001
    assert len((tmp_path / "logs" / "worker-0.log").read_text().splitlines()) == 30_001


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_output_of_any_encoding_is_written(tmp_path, encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    command = [sys.executable, "-m", "scripts.launch", f"--logs={tmp_path}", "--", "echo", "ä ☃"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == "[0] ä ☃\n".encode(encoding, "backslashreplace")


def test_a_screen_writes_whole_lines_in_their_order(capfd):
    screen = Screen()
    for number in range(100):
        screen.show(f"{number}\n")
    screen.say("end")
    screen.close()
    assert (
        capfd.readouterr().out == "".join(f"{n}\n" for n in range(100)) + "samestep-launch: end\n"
    )


def test_a_screen_that_is_non_blocking_is_waited_for(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    saved = os.dup(1)
    os.dup2(writing, 1)
    try:
        writer = threading.Thread(target=output._write, args=(b"x" * 10**6,))
        writer.start()
        got = 0
        while got < 10**6:
            got += len(os.read(reading, 2**16))
        writer.join()
    finally:
        os.dup2(saved, 1)
        for descriptor in (saved, reading, writing):
            os.close(descriptor)
