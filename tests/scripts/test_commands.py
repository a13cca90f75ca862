"""The commands as a user meets them: real processes, what they print, how they exit."""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from input.config import InputConfig
from input.manifest import Manifest
from input.reader import RecordReader
from models.config import ModelConfig
from scripts.quiet import LOADING
from tests.conftest import CLASSES, ROOT, rewrite
from tests.scripts.conftest import python
from trainer import loop, run_dir
from trainer.config import Config, Hardware, RunConfig
from trainer.errors import TrainerError
from trainer.evaluate import evaluate_run
from trainer.export import export_run
from trainer.recipe import OptimizerConfig
from trainer.workers import strategy

TRAIN = ("train", "--image_size=8", "--global_batch_size=32", "--micro_batch_size=8")


def command(script: str, *flags: str, path: str = "") -> subprocess.CompletedProcess:
    return python("-m", f"scripts.{script}", *flags, columns=100, path=path)


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run of one epoch."""
    run_dir = tmp_path_factory.mktemp("run")
    settings = Config(
        InputConfig(data_dir=str(data_dir), global_batch_size=32, micro_batch_size=8),
        ModelConfig(),
        OptimizerConfig(),
        RunConfig(run_dir=str(run_dir), epochs=1, intra_op_threads=2),
    )
    loop.fit(settings, Hardware())
    return run_dir


@pytest.fixture(scope="module")
def other_classes(data_dir, tmp_path_factory):
    """Records whose validation has a class less than their training."""
    folder = tmp_path_factory.mktemp("other") / "records"
    shutil.copytree(data_dir, folder)
    rewrite(folder / "validation" / "manifest.json", classes=["circle", "cross", "triangle"])
    return folder


@pytest.fixture(scope="module")
def own_models(tmp_path_factory):
    """A file of two functions: one raises, the other's model ends in a softmax."""
    path = tmp_path_factory.mktemp("own") / "net.py"
    path.write_text(
        "import keras\n"
        "def raises(input_shape, num_classes):\n"
        "    return {}['width']\n"
        "def softmax(input_shape, num_classes):\n"
        "    return keras.Sequential([\n"
        "        keras.Input(input_shape), keras.layers.Conv2D(4, 3),\n"
        "        keras.layers.GlobalAveragePooling2D(),\n"
        "        keras.Sequential([keras.layers.Dense(num_classes, 'softmax', name='head')])])\n"
    )
    return path


@pytest.fixture(scope="module")
def refusals(data_dir, run, other_classes, own_models):
    """Wrong settings and what is said to them, each from a process of its own."""
    data, new = f"--data_dir={data_dir}", f"--run_dir={run.parent / 'new'}"
    six = ("train", data, new, "--image_size=8", "--global_batch_size=32", "--virtual_cpus=6")
    calls = {
        "6 replicas": six,
        "kept micro-batch": (*TRAIN, data, new, "--virtual_cpus=3"),
        "GPUs that are not there": (*TRAIN, data, new, "--gpus=64"),
        "no data_dir": (*TRAIN, new),
        "missing data_dir": (*TRAIN, "--data_dir=/nowhere", new),
        "no run_dir": (*TRAIN, data),
        "a run_dir that is a file": (*TRAIN, data, f"--run_dir={run / 'config.json'}"),
        "classes that differ": (*TRAIN, f"--data_dir={other_classes}", new),
        "another run": (*TRAIN, data, f"--run_dir={run}", "--seed=3"),
        "unknown model": (*TRAIN, data, new, "--model=resent18"),
        "a model that raises": (*TRAIN, data, new, f"--model={own_models}:raises"),
        "a model with softmax": (*TRAIN, data, new, f"--model={own_models}:softmax"),
        "unknown flag": (*TRAIN, data, new, "--epoch=3"),
        "too large a batch": ("train", data, new, "--image_size=8", "--global_batch_size=512"),
        "a run that is none": ("evaluate", f"--run_dir={data_dir}"),
        "an export that is there": ("export", f"--run_dir={run}", f"--out={run}"),
    }
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda flags: command(*flags), calls.values())
        return dict(zip(calls, done, strict=True))


SAID = (LOADING, "tracing the step")  # on the way


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "6 replicas",
            ("micro-batches of 32 do not split evenly over 6 replicas", "over 1 replica. Use"),
        ),
        ("kept micro-batch", ("do not split evenly over 3 replicas", "1, 2 or 4")),
        ("GPUs that are not there", ("--gpus=64", "sees", "--virtual_cpus=N")),
        ("no data_dir", ("--data_dir is missing", "samestep-records write")),
        ("missing data_dir", ("--data_dir=/nowhere is not there", "samestep-records write")),
        ("no run_dir", ("--run_dir is missing",)),
        ("a run_dir that is a file", ("config.json/config.json cannot be read", "Not a directory")),
        ("classes that differ", ("square", "triangle", "samestep-records write")),
        ("another run", ("--seed=3 (the run has 0)", "another --run_dir")),
        ("unknown model", ("resent18", "Did you mean resnet18")),
        ("a model that raises", ("net.py:raises failed in", "net.py:3: KeyError: 'width'.")),
        ("a model with softmax", ("ends in a softmax, in layer head", "Return the logits")),
        ("unknown flag", ("epoch", "--help")),
        ("too large a batch", ("A step of 512 images is not filled by 160 training records",)),
        ("a run that is none", ("holds no run", "samestep-train")),
        ("an export that is there", ("exists already",)),
    ],
)
def test_wrong_settings_are_one_clear_line(refusals, what, words):
    done = refusals[what]
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = (each for each in done.stderr.splitlines() if each not in SAID)
    assert line.startswith("error: ")
    for word in words:
        assert word in line


CHECKS = ["versions", "workers", "clock", "shared memory", "decoder", "train", "validation"]
CHECKS += ["devices", "batch", "pixels", "all-reduce", "audit", "step", "input"]


def test_doctor_says_what_it_found(data_dir):
    done = command("doctor", f"--data_dir={data_dir}", *TRAIN[1:], "--virtual_cpus=2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert [line[9:24].strip() for line in lines] == CHECKS
    assert "to block1_conv" in done.stdout


def examined(*flags: str, path: str = "", **environment: str) -> tuple[int, dict[str, dict]]:
    """The doctor's exit code, and its findings by check, as it gives them to programs."""
    done = python("-m", "scripts.doctor", *flags, "--json", path=path, **environment)
    assert done.stderr in ("", f"{LOADING}\n")
    found = json.loads(done.stdout)
    assert found["verdict"] == {0: "ok", 2: "wrong", 3: "warning"}[done.returncode]
    return done.returncode, {each["check"]: each for each in found["checks"]}


def test_doctor_names_all_that_is_wrong_without_tensorflow(data_dir, tmp_path):
    """A broken TF_CONFIG, a damaged shard and a folder that cannot be written, in one look."""
    shutil.copytree(data_dir, tmp_path / "data")
    shard = tmp_path / "data" / "train" / "train-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    flags = (f"--data_dir={tmp_path}/data", f"--run_dir={shard}/run")
    code, found = examined(*flags, TF_CONFIG='{"cluster":')
    assert code == 2
    wrong = [check for check, each in found.items() if each["verdict"] == "wrong"]
    assert wrong == ["workers", "run_dir", "train"]
    assert "devices" not in found
    assert str(shard) in found["train"]["found"]


def test_doctor_s_warnings_have_a_code_of_their_own():
    code, found = examined("--virtual_cpus=2", SLURM_NTASKS="2")
    assert code == 3
    assert found["workers"]["verdict"] == "warning"
    assert found["devices"]["verdict"] == "ok"


def test_doctor_names_a_model_that_reorders_its_batch(data_dir, tmp_path):
    (tmp_path / "turning.py").write_text(
        "import keras\n"
        "def build(input_shape, num_classes):\n"
        "    image = keras.Input(input_shape)\n"
        "    turned = keras.layers.Lambda(lambda x: x[::-1], name='turned')(image)\n"
        "    flat = keras.layers.Flatten()(turned)\n"
        "    return keras.Model(image, keras.layers.Dense(num_classes)(flat))\n"
    )
    flags = (f"--data_dir={data_dir}", *TRAIN[1:], "--model=turning:build", "--checks=run")
    code, found = examined(*flags, path=str(tmp_path))
    assert code == 2
    assert "StridedSlice in layer turned reverses it" in found["audit"]["found"]


def test_doctor_says_that_tensorflow_does_not_load(tmp_path):
    """Without a traceback: another package may be why."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise TypeError('descriptors differ')")
    done = python("-c", LOAD_OTHER, str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "wrong    TensorFlow     TypeError: descriptors differ. Install it" in done.stdout
    assert "Traceback" not in done.stderr


LOAD_OTHER = """
import sys
sys.path.insert(0, sys.argv.pop())
from scripts import doctor
sys.argv.append("--checks=run")
doctor.main()
"""


RELOAD = """
import sys
import numpy as np
import tensorflow as tf
images = np.load(sys.argv[2], allow_pickle=True)
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = serve(image_bytes=tf.constant(images))
assert not {"input", "models", "trainer"} & set(sys.modules)
probabilities, names = found["probabilities"].numpy(), found["class_name"].numpy()
np.savez(sys.argv[3], probabilities=probabilities, class_name=names.astype(str))
"""


def test_the_export_gives_what_evaluation_saw(run, data_dir, tmp_path):
    """Reloaded in a fresh process without our code: the same probabilities, accuracy and loss."""
    export_run(run, tmp_path / "export")
    reader = RecordReader(Manifest.load(data_dir / "validation"))
    images, _, labels, _ = reader.read(np.arange(reader.records))
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [
            *(sys.executable, "-c", RELOAD, str(tmp_path / "export")),
            *(str(tmp_path / "images.npy"), str(tmp_path / "found.npz")),
        ],
        cwd=tmp_path,
        check=True,
    )
    found = np.load(tmp_path / "found.npz")
    probabilities = found["probabilities"]
    assert probabilities.shape == (43, 3)
    assert found["class_name"].tolist() == [CLASSES[i] for i in probabilities.argmax(axis=1)]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    result = evaluate_run(run, Hardware())
    assert (probabilities.argmax(axis=1) == labels).sum() == result.correct
    loss = -np.log(probabilities[np.arange(43), labels]).mean()
    assert loss == pytest.approx(result.loss, abs=1e-5)


def test_an_export_is_never_overwritten(run, tmp_path):
    (tmp_path / "export").mkdir()
    with pytest.raises(TrainerError, match="exists already"):
        export_run(run, tmp_path / "export")
    assert not list((tmp_path / "export").iterdir())


def test_physical_gpus_are_all_used(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    assert strategy.device_names() == ["GPU:0", "GPU:1"]
    assert strategy.device_names(gpus=1) == ["GPU:0"]
    assert strategy.device_names(virtual_cpus=3) == ["CPU:0", "CPU:1", "CPU:2"]
    with pytest.raises(TrainerError, match="--gpus=3, but TensorFlow sees 2"):
        strategy.device_names(gpus=3)


def test_tensorboard_runs_beside_the_training(data_dir, tmp_path):
    """And ends with it, also where that is killed."""
    flags = [f"--data_dir={data_dir}", f"--run_dir={tmp_path}", "--epochs=100000", "--tensorboard"]
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.train", *TRAIN[1:], *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as training:
        said = next(line for line in training.stdout if line.startswith("TensorBoard: "))
        training.kill()
    address = said.removeprefix("TensorBoard: ").strip()
    assert address.startswith("http://127.0.0.1:")
    end = time.monotonic() + 60
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        while time.monotonic() < end:
            urllib.request.urlopen(address).close()


def test_the_largest_micro_batch_is_tried_before_a_new_run(data_dir, tmp_path):
    """And the number, not the word, is the run's; a resume with the word tries nothing."""
    settings = ["--global_batch_size=32", "--epochs=1", "--micro_batch_size=auto"]
    command = ["-m", "scripts.train", f"--data_dir={data_dir}", f"--run_dir={tmp_path}", *settings]
    first = python(*command, "--virtual_cpus=2")
    assert first.returncode == 0, first.stderr
    assert "micro-batches of 16 fit: the largest of 16, 8, .. that do." in first.stdout
    assert run_dir.load(tmp_path).config.input.micro_batch_size == 16
    again = python(*command, "--virtual_cpus=1")
    assert again.returncode == 0, again.stderr
    assert "fit:" not in again.stdout
    refused = python("-m", "scripts.plan", f"--data_dir={data_dir}", *settings)
    assert "samestep-train does that, at the start of a new run" in refused.stderr
    wrong = python("-m", "scripts.train", "--micro_batch_size=many")
    assert "--micro_batch_size=many" in wrong.stderr and "auto or a whole number" in wrong.stderr
