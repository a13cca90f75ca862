"""Runs of several workers as real processes: any program, and samestep-train under a launcher."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import ROOT, THREADS
from trainer.launch import local

TRAIN = (
    *("--model=cnn", "--dropout=0.2", "--image_size=8", "--global_batch_size=32"),
    *("--micro_batch_size=8", "--optimizer=adamw", "--learning_rate=0.003", "--clip_norm=1"),
    *(f"--intra_op_threads={THREADS}", "--checkpoint_every_steps=3", "--log_every_steps=1"),
)
EPOCHS_TO_KILL = 30  # of 5 steps: long enough to be killed in the middle
PATIENCE_SECONDS = 300


def free_addresses(count: int) -> list[str]:
    """Addresses of this machine at which nobody listens."""
    return [f"127.0.0.1:{port}" for port in local._free_ports(count)]


def tf_config(addresses: list[str], index: int) -> str:
    """What one of the workers has in its environment."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def run_workers(program: str, count: int) -> list[subprocess.CompletedProcess]:
    """Runs a Python program as each of `count` workers, all at once."""
    addresses = free_addresses(count)
    ended = []
    with ExitStack() as stack:
        processes = []
        for index in range(count):
            ours = {"TF_CONFIG": tf_config(addresses, index), "TF_CPP_MIN_LOG_LEVEL": "2"}
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=os.environ | ours,
            )
            stack.callback(process.kill)
            processes.append(stack.enter_context(process))
        for process in processes:
            said = process.communicate(timeout=PATIENCE_SECONDS)
            ended.append(subprocess.CompletedProcess(program, process.returncode, *said))
    return ended


def launch_of(command: str, *flags: str, tmp_path: Path) -> subprocess.CompletedProcess:
    """samestep-launch of a shell command, to its end."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "scripts.launch", f"--logs={tmp_path / 'logs'}", *flags),
            *("--", "bash", "-c", command),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_SECONDS,
    )


class Launch:
    """samestep-launch with samestep-train in its workers."""

    def __init__(
        self, data_dir, run: Path, workers: int, cpus: int, epochs: int, *flags: str, train=()
    ):
        """flags: of the launcher. train: more flags of samestep-train."""
        self.run = run
        self.log = run.with_suffix(".log")
        launch = [f"--workers={workers}", f"--logs={run}-logs", "--grace_seconds=10", *flags]
        train = [*TRAIN, *train, f"--data_dir={data_dir}", f"--run_dir={run}", f"--epochs={epochs}"]
        command = [sys.executable, "-m", "scripts.train", *train, f"--virtual_cpus={cpus}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scripts.launch", *launch, "--", *command],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def workers(self) -> dict[int, int]:
        """Worker -> its process now; those that are being made are not there yet."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                pairs = path.read_bytes().split(b"\0")
                arguments = (path.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if f"--run_dir={self.run}\0".encode() in arguments and b"scripts.train" in arguments:
                for pair in pairs:
                    if pair.startswith(b"TF_CONFIG="):
                        index = json.loads(pair.partition(b"=")[2])["task"]["index"]
                        found[index] = int(path.parent.name)
        return found

    def until(self, moment: Callable[[Path], object]) -> bool:
        """Waits for a moment; False if the launch ended before it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            if moment(self.run):
                return True
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.001)
        return False


def fingerprint(run: Path) -> str:
    """Of the weights at the end."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][-1]["fingerprint"]


def numbers(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without what depends on the machine or on the launches."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    own = ("images_per_second", "seconds_per_step", "time/", "speed/", "memory/", "run/")
    return [{k: v for k, v in line.items() if not k.startswith(own)} for line in lines]


def steps_done(run: Path) -> int:
    """The newest step that metrics.jsonl has whole."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    steps = [re.match(r'\{"step": (\d+),', line) for line in lines]
    return max((int(step[1]) for step in steps if step), default=0)


def train_alone(data_dir, run: Path, epochs: int, cpus: int, *train: str) -> str:
    """One process without a launcher; the fingerprint at its end. train: more flags."""
    flags = [*TRAIN, *train, f"--data_dir={data_dir}", f"--run_dir={run}", f"--epochs={epochs}"]
    command = [sys.executable, "-m", "scripts.train", *flags, f"--virtual_cpus={cpus}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return fingerprint(run)
