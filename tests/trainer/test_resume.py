"""SIGKILL at random moments, other hardware in between: the bits of a run that was never stopped.

Real processes of samestep-train; what is waited for is what the run writes, never a time.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trainer.receipt import RECEIPT_FILE

EPOCHS = 40
STEPS = EPOCHS * 5
SEED = random.SystemRandom().randrange(10**6)


class Launch:
    """One process of a run, from start to its end or to a SIGKILL."""

    def __init__(self, data_dir, run_dir: Path, virtual_cpus: int, log: Path):
        flags = (
            f"--data_dir={data_dir} --run_dir={run_dir} --model=cnn --dropout=0.2 --image_size=8 "
            f"--global_batch_size=32 --micro_batch_size=8 --epochs={EPOCHS} --optimizer=adamw "
            f"--learning_rate=0.003 --clip_norm=1 --intra_op_threads=2 --checkpoint_every_steps=3 "
            f"--hash_every=1 --virtual_cpus={virtual_cpus}"
        )
        self.run_dir = run_dir
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scripts.train", *flags.split()],
                cwd=ROOT,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait(self) -> int:
        return self._process.wait()

    def kill_when(self, moment: Callable[[Path], bool]) -> bool:
        """SIGKILL as soon as the moment is there; False if the run ended before it."""
        while self._process.poll() is None:
            if moment(self.run_dir):
                self._process.send_signal(signal.SIGKILL)
                return self._process.wait() == -signal.SIGKILL
            time.sleep(0.001)
        return False


def last_step(run_dir: Path) -> int:
    """The newest step that metrics.jsonl has whole."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    steps = [re.match(r'\{"step": (\d+),', line) for line in lines]
    return max((int(step[1]) for step in steps if step), default=0)


def stepping(after: int) -> Callable[[Path], bool]:
    return lambda run_dir: last_step(run_dir) >= after


def saving(after: int) -> Callable[[Path], bool]:
    """While a checkpoint of a later step is being written."""

    def moment(run_dir):
        folders = (run_dir / "checkpoints").glob("step-*.incomplete")
        return any(int(path.stem.removeprefix("step-")) > after for path in folders)

    return moment


def evaluating(after: int) -> Callable[[Path], bool]:
    """Between an epoch's checkpoint and the note of its evaluation."""

    def moment(run_dir):
        for path in (run_dir / "checkpoints").glob("step-????????/state.json"):
            step = int(path.parent.name.removeprefix("step-"))
            if step > after and step % 5 == 0:
                try:
                    return json.loads(path.read_text())["evaluation"] is None
                except (OSError, ValueError):
                    continue
        return False

    return moment


def left(run_dir: Path) -> tuple[list[tuple[int, str]], bytes]:
    """(step, fingerprint) of every evaluation, and the receipt."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["fingerprint"]) for line in lines if "fingerprint" in line]
    return found, (run_dir / RECEIPT_FILE).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert Launch(data_dir, folder / "run", 2, folder / "log").wait() == 0
    found = left(folder / "run")
    assert [step for step, _ in found[0]] == list(range(5, STEPS + 1, 5))
    return found


def disturb(data_dir, folder: Path, moments, cpus) -> tuple[list[tuple[int, str]], bytes]:
    """Kills a run at each moment, then lets it end; the hardware changes from launch to launch."""
    kills = 0
    for moment, virtual_cpus in zip(moments, cpus[:-1], strict=True):
        kills += Launch(data_dir, folder / "run", virtual_cpus, folder / "log").kill_when(moment)
    assert Launch(data_dir, folder / "run", cpus[-1], folder / "log").wait() == 0
    assert kills == len(moments), f"only {kills} kills hit, seed {SEED}"
    return left(folder / "run")


@pytest.mark.kill
def test_eight_kills(undisturbed, data_dir, tmp_path):
    choose = random.Random(SEED)
    print(f"seed {SEED}")
    kinds = [stepping, saving, evaluating, stepping, saving, evaluating, stepping, saving]
    # One in each eighth of the run, so that there is always something left to kill.
    width = STEPS // 9
    moments = [kind(i * width + choose.randrange(width)) for i, kind in enumerate(kinds)]
    assert disturb(data_dir, tmp_path, moments, [2] * 9) == undisturbed


def test_other_hardware_after_each_kill(undisturbed, data_dir, tmp_path):
    choose = random.Random(SEED + 1)
    moments = [
        *(stepping(choose.randrange(10, 60)), saving(choose.randrange(70, 120))),
        evaluating(choose.randrange(130, 160)),
    ]
    assert disturb(data_dir, tmp_path, moments, [4, 2, 1, 2]) == undisturbed
