"""Arrays in memory: trained, evaluated and predicted, one run after the other in one process."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from input.config import InputConfig
from tests.conftest import CLASSES, ROOT, THREADS, draw, error
from tests.trainer.conftest import HARDWARE
from trainer import loop, notebook, run_dir
from trainer.config import Config
from trainer.errors import PreemptedError
from trainer.workers.preemption import SIGNALS

RANDOM = np.random.default_rng(1)
LABELS = np.arange(103) % 3
IMAGES = np.stack([draw(label, RANDOM) for label in LABELS.tolist()])
TRAIN, VALIDATION = (IMAGES[:60], LABELS[:60]), (IMAGES[60:], LABELS[60:])


def config(folder, **changes) -> Config:
    own = {"model": "cnn", "epochs": 2, "global_batch_size": 16, "micro_batch_size": 8}
    own |= {"intra_op_threads": THREADS, "learning_rate": 0.01}
    return Config.of(run_dir=str(folder), **own | changes)


def fit(folder, **changes):
    return notebook.fit(
        config(folder, **changes), TRAIN, VALIDATION, classes=CLASSES, hardware=HARDWARE
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook") / "run"
    return folder, fit(folder)


def test_a_second_run_in_the_process_is_the_same(run, tmp_path):
    folder, state = run
    again = fit(tmp_path)
    assert (again.fingerprint, again.evaluation) == (state.fingerprint, state.evaluation)
    assert fit(folder) == state, "a finished run is looked at again"
    assert run_dir.load(folder).classes == CLASSES


def test_evaluation_is_that_of_the_run(run):
    folder, state = run
    found = notebook.evaluate(folder, *VALIDATION, hardware=HARDWARE)
    assert found == state.evaluation
    assert (found.images, found.records) == (43, 43)


@pytest.mark.parametrize("count", [43, 8, 1])
def test_predictions_are_what_was_evaluated(run, count):
    folder, _ = run
    images, labels = VALIDATION[0][:count], VALIDATION[1][:count]
    found = notebook.predict(folder, images, hardware=HARDWARE)
    assert (found.shape, found.dtype) == ((count, 3), np.float32)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    expected = notebook.evaluate(folder, images, labels, hardware=HARDWARE)
    assert int((found.argmax(axis=1) == labels).sum()) == expected.correct
    of_labels = found[np.arange(count), labels].astype(np.float64)
    assert -np.log(of_labels).mean() == pytest.approx(expected.loss, rel=1e-4)


def test_other_pixels_than_those_of_training_are_refused(run):
    said = error(notebook.predict, run[0], VALIDATION[0] / np.float32(255), hardware=HARDWARE)
    assert "was trained on uint8 pixels, and these are float32" in said


def test_other_arrays_are_another_run(run):
    folder, _ = run
    brighter = (TRAIN[0] + np.uint8(1), TRAIN[1])
    said = error(notebook.fit, config(folder), brighter, VALIDATION, classes=CLASSES)
    assert "other train records" in said


def test_an_interrupted_cell_goes_on_and_can_be_interrupted_again(run, tmp_path, monkeypatch):
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def advance(*args, original=loop.advance):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        for step in (1, 2):
            with pytest.raises(PreemptedError, match=f"saved: step {step}"):
                fit(tmp_path)
            assert {number: signal.getsignal(number) for number in SIGNALS} == before
    assert fit(tmp_path).fingerprint == run[1].fingerprint


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: notebook.fit(config("x"), TRAIN), "fit needs train and validation"),
        (lambda: Config.of(epoch=3), "There is no setting epoch"),
        (lambda: Config.of(epochs=0), "--epochs must be at least 1"),
        (lambda: fit("x", validation_share=0.1), "Divide the arrays and give both parts"),
        (lambda: notebook.evaluate("nowhere", *TRAIN), "nowhere holds no run"),
    ],
)
def test_what_cannot_be_is_named(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in error(call)


def test_settings_by_name_are_those_of_their_groups():
    assert Config.of() == Config()
    assert Config.of(global_batch_size=64).input == InputConfig(global_batch_size=64)


def test_the_documents_example_runs(tmp_path):
    """As a program without a terminal, in a folder of its own."""
    page = (ROOT / "docs/notebook.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *_, evaluated, share = done.stdout.splitlines()
    assert f"accuracy {float(share):.4f}, " in evaluated
    assert float(share) > 0.8
