"""Workers of this machine: their logs, their ends, restarts, and nothing that survives."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.conftest import ROOT
from tests.trainer.workers.runs import launch_of
from trainer.errors import TrainerError
from trainer.launch import local
from trainer.launch.config import LaunchConfig
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


def test_a_line_of_a_worker_is_one_write(tmp_path, monkeypatch):
    """So that lines of several workers, each shown by a thread of its own, are never joined."""
    written = []

    class Stdout(io.StringIO):
        def write(self, text):
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", Stdout())
    config = LaunchConfig(workers=2, logs=str(tmp_path))
    assert local.launch(["echo", "said"], config) == 0
    assert sorted(filter(None, written)) == ["[0] said\n", "[1] said\n"]


def test_the_root_cause_comes_first_and_its_code_is_returned(tmp_path):
    one_fails = "if [[ $TF_CONFIG == *'\"index\": 1'* ]]; then echo because; exit 7; fi; sleep 600"
    flags = ("--workers=3", "--max_restarts=1", "--grace_seconds=2")
    done = launch_of(one_fails, *flags, tmp_path=tmp_path)
    assert done.returncode == 7
    assert done.stdout.count("worker 1 ended with exit code 7. Its last lines:\n    because") == 2
    assert "restart 1 of 1 in 1 s" in done.stdout
    assert "1 restarts were not enough" in done.stdout


def test_a_wrong_setting_is_not_tried_again_and_preemption_always(tmp_path):
    assert launch_of("exit 2", tmp_path=tmp_path).returncode == 2
    once = f"mkdir {tmp_path / 'seen'} && exit 75; exit 0"
    done = launch_of(once, "--max_restarts=0", tmp_path=tmp_path)
    assert (done.returncode, "preempted and saved" in done.stdout) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_survives_the_launcher(tmp_path, number):
    """Not even what left the worker's session: SIGKILL and Ctrl-C."""
    mark = f"sleep 86{os.getpid()}"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.launch", "--workers=2"),
            *(f"--logs={tmp_path / 'logs'}", "--", "bash", "-c"),
            f"trap '' INT TERM; setsid {mark} & {mark}; true",
        ],
        cwd=ROOT,
    ) as process:
        count = lambda: len(  # noqa: E731
            subprocess.run(["pgrep", "-f", f"^{mark}"], capture_output=True).stdout.split()
        )
        wait_for(lambda: count() == 4)
        process.send_signal(number)
        start = time.monotonic()
        process.wait()
        wait_for(lambda: count() == 0)
    assert time.monotonic() - start < 10
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)


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


def test_gpus_are_divided():
    assert local.divide_gpus(["0", "1", "2", "3"], 2, None) == [["0", "1"], ["2", "3"]]
    assert local.divide_gpus(["4", "5", "6"], 2, 1) == [["4"], ["5"]]
    assert local.divide_gpus([], 3, None) == [[], [], []]
    for gpus, workers, each in ((["0"], 2, 1), (["0", "1", "2"], 2, None), ([], 1, 1)):
        with pytest.raises(TrainerError, match=f"{len(gpus)} GPUs cannot be divided evenly"):
            local.divide_gpus(gpus, workers, each)
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-a,3"}) == ["GPU-a", "3"]
    assert local.visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
