"""Workers of this machine: their logs, their ends, restarts, and nothing that survives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.trainer.workers.runs import launch_of
from trainer.launch import guard, local
from trainer.launch.local import Ended


def test_every_worker_has_its_prefix_its_log_and_its_number(tmp_path):
    done = launch_of("echo $TF_CONFIG; echo oh >&2", "--workers=3", tmp_path=tmp_path)
    assert done.returncode == 0
    for worker in range(3):
        logged = (tmp_path / "logs" / f"worker-{worker}.log").read_text()
        said, configuration = sorted(logged.splitlines())
        assert json.loads(configuration)["task"] == {"type": "worker", "index": worker}
        for line in (said, configuration):
            assert f"[{worker}] {line}" in done.stdout.splitlines()


def test_the_root_cause_comes_first_and_its_code_is_returned(tmp_path):
    one_fails = "if [[ $TF_CONFIG == *'\"index\": 1'* ]]; then echo because; exit 7; fi; sleep 600"
    flags = ("--workers=3", "--max_restarts=1", "--grace_seconds=2")
    done = launch_of(one_fails, *flags, tmp_path=tmp_path)
    assert done.returncode == 7
    assert done.stdout.count("worker 1 ended with exit code 7. Its last lines:\n    because") == 2
    assert "restart 1 of 1 in 0 s" in done.stdout
    assert "1 restarts without a new step were not enough" in done.stdout


def attempts_of(script: str, *flags: str, tmp_path) -> tuple[int, int, str]:
    """Exit code, how often the script ran, and what was said."""
    ran = tmp_path / "ran"
    done = launch_of(f"echo >> {ran}; {script}", *flags, tmp_path=tmp_path)
    return done.returncode, len(ran.read_text()), done.stdout


@pytest.fixture(autouse=True)
def no_pauses(tmp_path, monkeypatch):
    """Launches that start processes of their own, with restarts at once."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'scripts.launch':\n"
        "            from trainer.launch import local\n"
        "            local.BACK_OFF_SECONDS = (0,)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_wrong_setting_is_not_tried_again(tmp_path):
    code, ran, _ = attempts_of("exit 2", tmp_path=tmp_path)
    assert (code, ran) == (2, 1)


def test_restarts_without_a_new_step_are_counted(tmp_path):
    for code in (1, 75):
        folder = tmp_path / str(code)
        folder.mkdir()
        found, ran, said = attempts_of(f"exit {code}", "--max_restarts=2", tmp_path=folder)
        assert (found, ran) == (code, 3)
        assert "restart 2 of 2 in 0 s, from the start" in said
        assert "2 restarts without a new step were not enough" in said


@pytest.mark.parametrize("code", [1, 75])
def test_a_new_step_counts_anew(tmp_path, code):
    """Five attempts that save a step each, and a sixth that ends well."""
    step = f"wc -l < {tmp_path / 'ran'} > $SAMESTEP_PROGRESS; [ $(wc -l < {tmp_path / 'ran'}) = 6 ]"
    found, ran, said = attempts_of(f"{step} || exit {code}", "--max_restarts=0", tmp_path=tmp_path)
    assert (found, ran) == (0, 6)
    assert "restart in 0 s, after step 5" in said
    assert not list((tmp_path / "logs").glob(".progress-*"))


def test_the_same_error_at_the_same_step_is_not_tried_again(tmp_path):
    failing = "python3 -c 'raise ValueError(7)'; exit 1"
    code, ran, said = attempts_of(failing, "--max_restarts=9", tmp_path=tmp_path)
    assert (code, ran) == (1, 2)
    assert "the same error at the same step: another restart does not help" in said


def test_another_error_or_step_is_tried_again(tmp_path):
    other = f'python3 -c "raise ValueError($(wc -l < {tmp_path / "ran"}))"; exit 1'
    code, ran, _ = attempts_of(other, "--max_restarts=3", tmp_path=tmp_path)
    assert (code, ran) == (1, 4)
    (tmp_path / "ran").unlink()
    step = f"wc -l < {tmp_path / 'ran'} > $SAMESTEP_PROGRESS; [ $(wc -l < {tmp_path / 'ran'}) = 4 ]"
    same = f"{step} || {{ python3 -c 'raise ValueError(7)'; exit 1; }}"
    assert attempts_of(same, "--max_restarts=0", tmp_path=tmp_path)[:2] == (0, 4)


def test_a_worker_that_ends_early_is_said(tmp_path):
    first = "if [[ $TF_CONFIG == *'\"index\": 0'* ]]; then exit 0; fi; until [ -e {} ]; do :; done"
    script = first.format(tmp_path / "go")
    with launching(tmp_path, script, "--workers=2") as process:
        assert process.stdout.readline() == "samestep-launch: worker 0 ended with 0, others go on\n"
        (tmp_path / "go").touch()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on_as_sigterm_and_repeated_ones_postpone_nothing(tmp_path, number):
    saves = "trap 'echo got it' TERM; echo ready; while :; do sleep 0.05; done"
    with launching(tmp_path, saves, "--grace_seconds=2") as process:
        assert process.stdout.readline() == "[0] ready\n"
        start = time.monotonic()
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.1)  # the load, not what is waited for
        assert 2 <= time.monotonic() - start < 10
        assert "[0] got it\n" in process.stdout
        assert process.wait(timeout=60) == 128 + signal.SIGKILL


def test_the_first_ctrl_c_lets_workers_save_and_the_second_kills(tmp_path):
    saves = "trap 'echo saving' INT; echo ready; while :; do sleep 0.05; done"
    with launching(tmp_path, saves, "--grace_seconds=600") as process:
        assert process.stdout.readline() == "[0] ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "[0] saving\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


@contextmanager
def launching(tmp_path, script: str, *flags: str) -> Iterator[subprocess.Popen]:
    """samestep-launch in a process of its own, killed where the test has not ended it."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.launch", f"--logs={tmp_path / 'logs'}", *flags),
            *("--", "bash", "-c", script),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def heed() -> None:
    """What nohup and a shell's & have told pytest to ignore, its children would ignore too."""
    for number in guard.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def test_logs_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "logs").touch()
    done = launch_of("true", tmp_path=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: --logs={tmp_path}/logs cannot be written: File exists. Choose another.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("who", ["the one that waits", "the one that works"])
def test_nothing_survives_the_launcher(tmp_path, number, who):
    """Not even what left the worker's session, or has no environment: SIGKILL and Ctrl-C."""
    mark = f"sleep 86{os.getpid()}.{number}{len(who)}"
    script = f"trap '' INT TERM; setsid {mark} & (env -i setsid {mark} &) ; {mark}; true"
    with launching(tmp_path, script, "--workers=2", "--grace_seconds=1") as process:
        count = lambda: len(  # noqa: E731
            subprocess.run(["pgrep", "-fx", mark], capture_output=True).stdout.split()
        )
        wait_for(lambda: count() == 6)
        target = process.pid
        if who == "the one that works":
            (target,) = children_of(process.pid)
        os.kill(target, number)
        start = time.monotonic()
        process.wait(timeout=60)
        wait_for(lambda: count() == 0)
    assert time.monotonic() - start < 10
    killed = -signal.SIGKILL if who == "the one that waits" else 128 + signal.SIGKILL
    assert process.returncode == (130 if number == signal.SIGINT else killed)


def children_of(process: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("ends", "root"),
    [
        ([Ended(1, -9, False), Ended(0, 69, False)], 1),
        ([Ended(0, 69, False), Ended(1, -9, False)], 1),
        ([Ended(0, 69, False), Ended(2, 69, True), Ended(1, -9, True)], 1),
        ([Ended(0, 0, False), Ended(2, 1, False), Ended(1, 1, False)], 2),
        ([Ended(0, 69, False), Ended(1, 69, False)], 0),
        ([Ended(1, -15, True), Ended(0, 2, False)], 0),
    ],
)
def test_the_root_cause(ends, root):
    assert local.root_cause(ends).worker == root
