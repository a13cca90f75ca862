"""All of keras.applications: 2 replicas give the bits of 1; make test-applications."""

import json
import time
from pathlib import Path

import pytest

from models.names import APPLICATIONS
from tests.conftest import write_row
from tests.trainer.workers.runs import fingerprint, train_alone

SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # others take 32 pixels
# These two take 32 as well, but are so deep that their BatchNorms over the one place left of 32
# pixels have gradients beyond what the exact sum holds; at these sizes no step is skipped.
DEEPEST = {"EfficientNetB6": 64, "EfficientNetB7": 96}
COLUMNS = ("model", "pixels", "1 and 2 replicas", "steps", "fingerprint", "seconds")
# 5 steps of 2 micro-batches of 16 images: with fewer, a BatchNorm over the 1x1 places that are left
# of 32 pixels has gradients beyond what the exact sum holds.
FLAGS = (
    *("--global_batch_size=32", "--micro_batch_size=16", "--optimizer=sgd", "--momentum=0"),
    *("--learning_rate=0.001", "--checkpoint_every_steps=5", "--log_every_steps=5"),
)


@pytest.mark.applications
@pytest.mark.parametrize("name", APPLICATIONS)
def test_two_replicas_give_the_bits_of_one(data_dir, tmp_path, request, name):
    size = (SMALLEST | DEEPEST).get(name, 32)
    flags = (f"--model=keras:{name}", f"--image_size={size}", *FLAGS)
    start = time.monotonic()
    runs = [tmp_path / f"on-{replicas}" for replicas in (1, 2)]
    for replicas, run in enumerate(runs, start=1):
        train_alone(data_dir, run, 1, replicas, *flags)
    assert fingerprint(runs[0]) == fingerprint(runs[1])
    lines = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert not any(line.get("train/skipped_steps") for line in lines)
    assert lines[-1]["validation/images"] == 43
    if page := request.config.getoption("--applications-table"):
        seconds = f"{time.monotonic() - start:.0f}"
        weights = f"`{fingerprint(runs[0])[:16]}`"
        row = [name, str(size), "equal", str(lines[-1]["step"]), weights, seconds]
        write_row(Path(page), "keras.applications", COLUMNS, row, keys=1)
