"""Workers as real processes are one run: the same bits on any number of them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.trainer.workers.runs import (
    PATIENCE_SECONDS,
    TRAIN,
    Launch,
    launch_of,
    numbers,
    run_workers,
    train_alone,
)
from trainer import findings
from trainer.receipt import RECEIPT_FILE

EPOCHS = 4  # of 5 steps
FAST, HASHED = "--reduction=fast", ("--hash_every=3",)


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory) -> Path:
    """The short run on one CPU."""
    run = tmp_path_factory.mktemp("short") / "run"
    train_alone(data_dir, run, EPOCHS, 1, *HASHED)
    return run


@pytest.mark.parametrize(("workers", "cpus"), [(1, 4), (2, 1), (2, 2), (4, 1)])
def test_any_split_over_workers_is_the_same_run(alone, data_dir, tmp_path, workers, cpus):
    """Weights, losses, norms, hashes and evaluations of every step, N/N, written once; mistakes."""
    run = tmp_path / "run"
    launch = Launch(data_dir, run, workers, cpus, EPOCHS, train=HASHED)
    assert launch.wait() == 0, launch.log.read_text()
    assert numbers(run) == numbers(alone)
    ours, theirs = (findings.load(each, 5 * EPOCHS) for each in (run, alone))
    assert ours.mistakes == theirs.mistakes and ours.mistakes
    assert ours.pairs.tobytes() == theirs.pairs.tobytes()
    assert (run / RECEIPT_FILE).read_bytes() == (alone / RECEIPT_FILE).read_bytes()
    for folder in (run, run / "train", run / "validation"):
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    evaluated = r"^\[(\d)\] epoch (\d+): accuracy \S+ on 43/43, loss"
    said = re.findall(evaluated, launch.log.read_text(), re.MULTILINE)
    assert said == [("0", str(epoch)) for epoch in range(1, EPOCHS + 1)]


def test_a_users_keras_settings_do_not_change_the_run(alone, data_dir, tmp_path, monkeypatch):
    settings = {"floatx": "float64", "epsilon": 0.1, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps({**settings, "backend": "jax"}))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    train_alone(data_dir, tmp_path / "run", EPOCHS, 1)
    assert numbers(tmp_path / "run") == numbers(alone)


def test_workers_start_from_another_run_and_are_extended(alone, data_dir, tmp_path):
    train = [f"--init_weights={alone}", "--schedule=constant"]
    train_alone(data_dir, tmp_path / "at_once", 2, 1, *train)
    run = tmp_path / "run"
    for epochs in (1, 2):
        launch = Launch(data_dir, run, 2, 1, epochs, train=train)
        assert launch.wait() == 0, launch.log.read_text()
    assert numbers(run) == numbers(tmp_path / "at_once")


@pytest.fixture(scope="module")
def alone_fast(data_dir, tmp_path_factory) -> Path:
    """One epoch with float32 sums on one CPU."""
    run = tmp_path_factory.mktemp("fast") / "run"
    train_alone(data_dir, run, 1, 1, FAST)
    return run


@pytest.mark.parametrize(
    ("workers", "cpus"),
    [
        (2, 2),
        pytest.param(1, 2, marks=pytest.mark.matrix),
        pytest.param(2, 1, marks=pytest.mark.matrix),
    ],
)
def test_fast_reduction_agrees_to_rounding(alone_fast, data_dir, tmp_path, workers, cpus):
    run = tmp_path / "run"
    launch = Launch(data_dir, run, workers, cpus, 1, train=[FAST])
    assert launch.wait() == 0, launch.log.read_text()
    ours, theirs = ([line.get("train/loss") for line in numbers(r)] for r in (run, alone_fast))
    assert len(ours) == 6 and ours.pop() is theirs.pop() is None  # the evaluation's line
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_worker_that_stalls_is_ended_with_its_stacks_and_started_again(data_dir, tmp_path):
    """Its reading hangs once, in a process that lives on."""
    (tmp_path / "stalling.py").write_text(
        "import os, time\n"
        "from input import reader\n"
        "opened = reader.RecordReader._open_file\n"
        "def stall(self, shard):\n"
        f"    mark = {str(tmp_path / 'stalled')!r}\n"
        "    if '\"index\": 1' in os.environ['TF_CONFIG'] and not os.path.exists(mark):\n"
        "        open(mark, 'w').close()\n"
        "        time.sleep(3600)\n"
        "    return opened(self, shard)\n"
        "reader.RecordReader._open_file = stall\n"
        "from scripts.train import main\n"
        "main()\n"
    )
    train = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}", "--epochs=2"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.launch", "--workers=2", "--grace_seconds=5"),
            *(f"--logs={tmp_path / 'logs'}", "--", sys.executable),
            *(str(tmp_path / "stalling.py"), *train, "--virtual_cpus=1", "--stall_seconds=8"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error: Step 0 or one of the next stalled. Nothing happened for 8 s" in done.stdout
    assert "in stall" in done.stdout
    assert "restart 1 of 3" in done.stdout


def test_workers_with_other_devices_are_refused(data_dir, tmp_path):
    flags = shlex.join([*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}"])
    cpus = "$([[ $TF_CONFIG == *'\"index\": 1'* ]] && echo 2 || echo 1)"
    train = f"exec {sys.executable} -m scripts.train {flags} --virtual_cpus={cpus}"
    done = launch_of(train, "--workers=2", "--grace_seconds=15", tmp_path=tmp_path)
    assert done.returncode == 2
    assert "error: Worker 1 has 2 devices (CPU:0, CPU:1), worker 0 has 1." in done.stdout


def test_the_doctor_looks_at_several_workers(data_dir):
    """They make as many steps as each other, however long each finds them."""
    flags = [*TRAIN, f"--data_dir={data_dir}", "--virtual_cpus=1"]
    program = f"import sys\nfrom scripts import doctor\nsys.argv += {flags!r}\ndoctor.main()"
    for index, done in enumerate(run_workers(program, 2)):
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"ok       workers        worker {index} of 2, at 127.0.0.1:" in done.stdout
        assert "ok       input " in done.stdout
