"""The invariance matrix: models, optimizers, precisions, any split over workers and devices.

make test-matrix runs it and writes its table; single cases are in test_replicas.py and
workers/test_workers.py.
"""

import itertools
import time
from pathlib import Path

import pytest

from tests.conftest import write_row
from tests.trainer.workers.runs import Launch, fingerprint, numbers, train_alone

MODELS = ("cnn", "resnet18", "resnet50", "keras:MobileNetV2", "keras:EfficientNetB0")
OPTIMIZERS = {
    "sgd": ("--optimizer=sgd", "--learning_rate=0.02", "--weight_decay=0.0001"),
    "adamw": ("--optimizer=adamw", "--learning_rate=0.001", "--weight_decay=0.05"),
}
PRECISIONS = ("float32", "bfloat16")
SPLITS = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2))  # workers, devices of each
COLUMNS = (
    *("model", "optimizer", "precision", *(f"{w}x{d}" for w, d in SPLITS)),
    *("steps", "images evaluated", "fingerprint", "seconds"),
)
# 10 steps of 4 micro-batches: augmented, clipped, with dropout where the model has it.
FLAGS = (
    *("--image_size=32", "--augment=rand-m9-n2", "--mixup=0.2", "--cutmix=1", "--epochs=2"),
    *("--label_smoothing=0.1", "--warmup_epochs=1", "--clip_norm=1", "--check_replicas=4"),
)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("model", "optimizer", "precision"), list(itertools.product(MODELS, OPTIMIZERS, PRECISIONS))
)
def test_no_split_changes_a_bit(data_dir, tmp_path, request, model, optimizer, precision):
    flags = (f"--model={model}", f"--precision={precision}", *OPTIMIZERS[optimizer], *FLAGS)
    flags += ("--dropout=0",) if ":" in model else ()  # those of keras.applications have their own
    start, found = time.monotonic(), {}
    for workers, devices in SPLITS:
        run = tmp_path / f"{workers}x{devices}"
        if workers == 1:
            train_alone(data_dir, run, 2, devices, *flags)
        else:
            launch = Launch(data_dir, run, workers, devices, 2, train=flags)
            assert launch.wait() == 0, launch.log.read_text()[-3000:]
        found[workers, devices] = numbers(run)
    first = found[SPLITS[0]]
    assert all(lines == first for lines in found.values())
    evaluation = first[-1]
    assert evaluation["validation/images"] == 43
    assert not any(line.get("train/skipped_steps") for line in first)
    if page := request.config.getoption("--matrix-table"):
        same = ["equal"] * len(SPLITS)
        seconds = f"{time.monotonic() - start:.0f}"
        row = [model, optimizer, precision, *same, str(evaluation["step"]), "43/43"]
        row += [f"`{fingerprint(tmp_path / '1x1')[:16]}`", seconds]
        write_row(Path(page), "Invariance matrix", COLUMNS, row, keys=3)
