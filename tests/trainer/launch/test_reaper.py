"""Every process with the launch's mark is killed, and no other."""

import os
import signal
import subprocess
import sys

import pytest

from trainer.launch import reaper

MARK = f"SAMESTEP_TEST={os.getpid()}"
NAME, _, VALUE = MARK.partition("=")


def sleeping(value: str | None = VALUE, **options) -> subprocess.Popen:
    environment = os.environ if value is None else {**os.environ, NAME: value}
    return subprocess.Popen(["sleep", "600"], env=environment, **options)


@pytest.fixture
def others():
    """Processes without the mark, or with one that only begins like it."""
    processes = [sleeping(None), sleeping(f"{VALUE}0"), sleeping("")]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_marked_processes_are_killed_wherever_they_are(others):
    marked = [sleeping(), sleeping(start_new_session=True)]
    # A child of a child, whose parent has ended.
    with subprocess.Popen(
        ["bash", "-c", "setsid sleep 600 & echo $!"],
        env={**os.environ, NAME: VALUE},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        grandchild = int(parent.stdout.readline())
    reaper.kill(MARK)
    assert [process.wait() for process in marked] == [-signal.SIGKILL] * 2
    assert not alive(grandchild)
    assert [process.poll() for process in others] == [None] * 3


def alive(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True)
    return state.stdout.strip() not in (b"", b"Z", b"Zs")


def test_where_there_is_none_nothing_is_waited_for(others):
    reaper.kill(MARK)
    assert [process.poll() for process in others] == [None] * 3


def test_the_program_kills_them_when_its_launcher_has_ended(others):
    """Which is when its stdin is closed; test_local.py kills a launcher."""
    marked = sleeping()
    argv = [sys.executable, "-I", "-S", reaper.__file__, MARK]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as program:
        with pytest.raises(subprocess.TimeoutExpired):
            marked.wait(timeout=0.5)
        program.stdin.close()
        assert program.wait(timeout=60) == 0
    assert marked.wait(timeout=60) == -signal.SIGKILL
    assert [process.poll() for process in others] == [None] * 3
