"""Time limits: the steps' pace, a body that stalls, peers that never connect."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.trainer.workers.runs import PATIENCE_SECONDS, TRAIN, free_addresses, tf_config
from trainer.errors import STALLED
from trainer.workers import watchdog
from trainer.workers.watchdog import Pace, bounded, connecting


def test_calls_keep_a_pace_and_a_limit():
    pace = Pace(steps_per_call=20, stall_seconds=None)
    assert pace.limit(1) == 300
    pace.note(30, 1)  # the first call is slow
    for _ in range(2):
        pace.note(5, 10)
    assert pace.proposal() == 6
    assert pace.limit(6) == 300 + 6 * 0.5
    pace = Pace(steps_per_call=20, stall_seconds=8)
    pace.note(0.02, 20)
    assert pace.proposal() == 20
    assert pace.limit(20) == pytest.approx(8.02)
    slow = Pace(steps_per_call=20, stall_seconds=None)
    slow.note(100, 1)
    assert (slow.proposal(), slow.limit(1)) == (1, 1100)


def test_a_body_that_stalls_ends_the_process_with_the_stacks_of_its_threads():
    program = (
        "import time\n"
        "from trainer.workers.watchdog import bounded\n"
        "def stuck():\n"
        "    time.sleep(600)\n"
        "with bounded(0.3, 'Step 7 stalled.'):\n"
        "    stuck()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == STALLED
    assert done.stdout.startswith("error: Step 7 stalled. Nothing happened for 0 s. Stacks of all")
    assert "in stuck" in done.stdout


def test_a_body_that_ends_in_time_or_in_an_error_is_left_alone(monkeypatch):
    ended = []
    monkeypatch.setattr(watchdog, "_end", lambda *arguments: ended.append(arguments))
    with bounded(0.2, "The first stalled."):
        pass
    with pytest.raises(ZeroDivisionError), bounded(0.2, "The second stalled."):
        raise ZeroDivisionError
    time.sleep(0.4)
    assert ended == []
    with bounded(0.01, "The third stalled."):
        while not ended:
            time.sleep(0.01)
    assert ended == [(0.01, "The third stalled.")]


def test_one_worker_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # would raise
    with connecting(0.0, ["a:1"]):
        pass


def test_workers_that_have_connected_are_left_alone():
    before = children()
    with connecting(0.5, ["127.0.0.1:1", "127.0.0.1:2"]):
        assert len(children() - before) == 1
    assert children() == before
    time.sleep(0.6)  # no SIGABRT comes


def children() -> set[str]:
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "missing.py"], capture_output=True, text=True
    )
    return set(found.stdout.split())


def test_workers_that_do_not_come_are_named(data_dir, tmp_path):
    addresses = [*free_addresses(1), "127.0.0.1:2"]
    flags = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.train", *flags, "--virtual_cpus=1", "--start_seconds=6"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": tf_config(addresses, 0)},
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == -signal.SIGABRT
    assert "error: The 2 workers have not connected in 6 s" in done.stderr
    assert "missing: worker 1 at 127.0.0.1:2 (Connection refused)" in done.stderr
    assert "_initialize_multi_worker" in done.stderr
