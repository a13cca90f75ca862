"""Any devices of one kind give the same bits: what `make test-gpu` runs, the commands as processes.

Each case of GPUs is skipped, with the reason, where there are not enough of them. The same bodies
run on two virtual CPUs in every suite, so what can fail on a GPU is the GPU.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from input.manifest import Manifest
from input.reader import RecordReader
from tests.conftest import ROOT, THREADS

GPUS = len(tf.config.list_physical_devices("GPU"))
EPOCHS, STEPS_PER_EPOCH, MICRO_BATCHES = 4, 2, 8
TRAIN = (
    *("--model=cnn", "--dropout=0.2", "--image_size=16", "--global_batch_size=64"),
    *("--micro_batch_size=8", "--optimizer=adamw", "--learning_rate=0.003", "--clip_norm=1"),
    *("--deterministic", f"--intra_op_threads={THREADS}", f"--epochs={EPOCHS}"),
)


class Devices(NamedTuple):
    """The flags of some devices, and of one alone that must give the same bits."""

    flags: tuple[str, ...]
    alone: str


def gpus(flags: str, needed: int):
    """A case that runs where there are so many GPUs."""
    reason = f"GPUs needed: {needed}; TensorFlow sees {GPUS}"
    marks = [pytest.mark.gpu, pytest.mark.skipif(needed > GPUS, reason=reason)]
    return pytest.param(Devices(tuple(flags.split()), "--gpus=1"), marks=marks, id=flags)


CPUS = pytest.param(Devices(("--virtual_cpus=2",), "--virtual_cpus=1"), id="--virtual_cpus=2")
ON_ANY = pytest.mark.parametrize(
    "devices",
    [
        CPUS,
        gpus("--gpus=1 --virtual_gpus=2", 1),
        gpus("--gpus=1 --virtual_gpus=4", 1),
        *(gpus(f"--gpus={count}", count) for count in (2, 4, 8)),
        gpus("--gpus=2 --virtual_gpus=2", 2),
    ],
)
ON_TWO = pytest.mark.parametrize(
    "devices", [CPUS, gpus("--gpus=1 --virtual_gpus=2", 1), gpus("--gpus=2", 2)]
)


def start(command: str, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"scripts.{command}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def run(command: str, *flags: str) -> str:
    """What a command prints; it must succeed."""
    process = start(command, *flags)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def evaluations(run_dir: Path) -> list[dict]:
    """The line of each epoch's evaluation: step, accuracy, loss, fingerprint."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    found = [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in lines
        if "fingerprint" in line
    ]
    assert [line["step"] for line in found] == list(
        range(STEPS_PER_EPOCH, EPOCHS * STEPS_PER_EPOCH + 1, STEPS_PER_EPOCH)
    )
    return found


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory):
    """Devices -> the folder of the same run on one device, which is trained once."""
    folders = {}

    def trained(devices: Devices) -> Path:
        if devices.alone not in folders:
            folder = tmp_path_factory.mktemp("alone") / "run"
            run("train", *TRAIN, f"--data_dir={data_dir}", f"--run_dir={folder}", devices.alone)
            folders[devices.alone] = folder
        return folders[devices.alone]

    return trained


@ON_ANY
def test_the_same_bits_after_every_epoch(alone, data_dir, tmp_path, devices):
    flags = (*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path}", *devices.flags)
    run("train", *flags)
    assert evaluations(tmp_path) == evaluations(alone(devices))


@ON_TWO
def test_killed_and_resumed(alone, data_dir, tmp_path, devices):
    """SIGKILL once two epochs are saved; the rest of the run is on one device."""
    saved = tmp_path / "checkpoints" / f"step-{2 * STEPS_PER_EPOCH:08d}" / "state.json"
    flags = (*TRAIN, f"--data_dir={data_dir}", f"--run_dir={tmp_path}")
    process = start("train", *flags, *devices.flags)
    while process.poll() is None and not saved.is_file():
        time.sleep(0.001)
    process.kill()
    said, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert "a new run" not in run("train", *flags, devices.alone)
    assert evaluations(tmp_path) == evaluations(alone(devices))


@ON_ANY
def test_evaluation_is_that_of_one_device(alone, devices):
    """43 records over 2, 4 or 8 devices: each counts once, and the loss has the same digits."""
    last = evaluations(alone(devices))[-1]
    said = run("evaluate", f"--run_dir={alone(devices)}", *devices.flags)
    assert f"weights {last['fingerprint']}" in said
    accuracy, loss = last["validation/accuracy"], last["validation/loss"]
    assert f"accuracy {accuracy:.4f} on 43/43, loss {loss:.6f}" in said


ANSWER = """
import sys
import numpy as np
import tensorflow as tf
tf.config.experimental.enable_tensor_float_32_execution(False)
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = tf.constant(np.load(sys.argv[2], allow_pickle=True))
np.save(sys.argv[3], serve(image_bytes=images)["probabilities"].numpy())
"""


@ON_TWO
def test_the_export_answers_as_evaluation_did(alone, data_dir, tmp_path, devices):
    """In a fresh process that has all GPUs, and no line of ours; in float32 that is no TF32."""
    folder = alone(devices)
    run("export", f"--run_dir={folder}", f"--out={tmp_path / 'export'}")
    reader = RecordReader(Manifest.load(data_dir / "validation"))
    images, _, labels, _ = reader.read(np.arange(reader.records))
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("export", "images.npy", "answers.npy")]
    subprocess.run([sys.executable, "-c", ANSWER, *files], cwd=tmp_path, check=True)
    answers, last = np.load(files[2]), evaluations(folder)[-1]
    assert (answers.argmax(axis=1) == labels).mean() == last["validation/accuracy"]
    loss = -np.log(answers[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(last["validation/loss"], rel=1e-4)


FROZEN = """
import keras
from models.layers import FusedBatchNorm

def build(input_shape, num_classes):
    x = image = keras.Input(input_shape)
    for norm in (FusedBatchNorm, keras.layers.BatchNormalization):
        x = keras.layers.Conv2D(8, 3, use_bias=False)(x)
        x = keras.layers.ReLU()(norm(trainable=False)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(num_classes)(x))
"""


@ON_TWO
def test_frozen_norms_train_under_determinism(data_dir, tmp_path, devices):
    """On GPUs the fused op has no deterministic gradient: TensorFlow would raise an error."""
    (tmp_path / "frozen.py").write_text(FROZEN)
    model = (f"--model={tmp_path / 'frozen.py'}:build", "--dropout=0")
    folder = tmp_path / "run"
    run("train", *TRAIN, *model, f"--data_dir={data_dir}", f"--run_dir={folder}", *devices.flags)
    fingerprints = {line["fingerprint"] for line in evaluations(folder)}
    assert len(fingerprints) == EPOCHS, "it must have learnt something"


@ON_ANY
def test_the_doctor_times_the_all_reduce(data_dir, devices):
    said = run("doctor", *TRAIN, f"--data_dir={data_dir}", "--checks=run", *devices.flags)
    print(said)  # the figures: pytest -rA shows them
    found = dict(re.findall(r"^ok +(\S+) +(.*)$", said, re.MULTILINE))
    names = found["devices"].partition(" (")[0].split(", ")
    assert re.search(rf"MB in [\d.]+ ms \(.* GB/s\) over {len(names)} devices", found["all-reduce"])
    assert ("slowest pair" in found["all-reduce"]) == (
        len(names) > 2 and "--virtual_gpus" not in " ".join(devices.flags)
    )
    if names[0].startswith("GPU"):
        assert {"driver", "GPU:0", "memory", "peer"} <= set(found)
