"""Every kind of save, one after the other: the program that tests/test_crashes.py interrupts.

python -m tests.saves ROOT IMAGES
python -m tests.saves - IMAGES SOCKET: as tests/test_full_disk.py asks over the socket.
"""

import json
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras

from input import manifest
from input.config import ResolvedInput
from input.foundation import durable
from input.foundation.errors import UserError
from input.prepare.config import IndexConfig, WriteConfig
from input.prepare.index import index
from input.prepare.writer import write
from models.config import ModelConfig
from trainer import launches, monitor, recipe, run_dir
from trainer.checkpoint import Checkpoints
from trainer.config import ResolvedConfig, ResolvedRun, RunDefinition
from trainer.recipe import OptimizerConfig
from trainer.state import EvaluationResult

BEGINS, ENDS = "begins", "ends"  # folders that get a folder for each save: marks in the trace
NEW_CLASS = "new"
LINE = '{"step": 5, "train/loss": 1.0}\n'
RESULT = EvaluationResult(0.5, 3, 4, 4, class_images=(2, 2), class_correct=(1, 2))
DEFINITION = RunDefinition(
    ResolvedConfig(
        ResolvedInput(micro_batch_size=8, image_size=28),
        ModelConfig(),
        recipe.resolve(OptimizerConfig(), images_per_step=256, epochs=10),
        ResolvedRun(intra_op_threads=1),
    ),
    classes=("cat", "dog"),
    data={"train": "0" * 64},
    environment={"device": "CPU"},
)


def checkpoints(folder: Path) -> tuple[keras.Model, Checkpoints]:
    """A model of two weights, and its checkpoints, of which the newest is kept."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    return model, Checkpoints(folder, run_dir.identity(DEFINITION), model, optimizer, keep=1)


def _config(root: Path, images: Path) -> Callable[[], object]:
    durable.make(root / "run")
    return partial(run_dir.save, root / "run", DEFINITION)


def _manifest(root: Path, images: Path) -> Callable[[], object]:
    if not (root / "data").exists():
        write(WriteConfig(images=str(images), out=str(root / "data")))
    before = manifest.Manifest.load(root / "data" / "train")
    after = replace(before, classes=(NEW_CLASS, *before.classes[1:]))
    return partial(manifest.save, after)


def _checkpoint(root: Path, images: Path) -> Callable[[], object]:
    model, saved = checkpoints(root / "run")
    if saved.restore(say=lambda line: None) is None:
        saved.note(replace(saved.save(1), evaluation=RESULT))
    model.layers[0].kernel.assign_add([[1.0]])
    return partial(saved.save, 2)


def _evaluation(root: Path, images: Path) -> Callable[[], object]:
    _, saved = checkpoints(root / "run")
    state = saved.restore_existing("latest")
    return partial(saved.note, replace(state, evaluation=RESULT))


def _metrics(root: Path, images: Path) -> Callable[[], object]:
    path = root / "run" / "metrics.jsonl"
    if not path.exists():
        durable.append(path, LINE)
    return partial(durable.append, path, LINE)


def _rewritten_metrics(root: Path, images: Path) -> Callable[[], object]:
    return partial(monitor._rewind, root / "run" / "metrics.jsonl", step=0)


def _launches(root: Path, images: Path) -> Callable[[], object]:
    if not launches.steps(root / "run"):
        launches.add(root / "run", 0, ["CPU:0"], 1)
    return partial(launches.add, root / "run", 5, ["CPU:0"], 1)


def _records(root: Path, images: Path) -> Callable[[], object]:
    return partial(write, WriteConfig(images=str(images), out=str(root / "more"), jobs=1))


def _index(root: Path, images: Path) -> Callable[[], object]:
    return partial(index, IndexConfig(dir=str(root / "more"), out=str(root / "index")))


# Each prepares what was there before, and returns the save itself.
SAVES = {
    "config.json": _config,
    "manifest.json": _manifest,
    "checkpoint": _checkpoint,
    "evaluation": _evaluation,
    "metrics.jsonl": _metrics,
    "metrics.jsonl, rewritten": _rewritten_metrics,
    "launches.jsonl": _launches,
    "records": _records,
    "index": _index,
}


def in_turn(root: Path, images: Path) -> None:
    """Each save stands between two marks; what is done before them is synced."""
    for name, prepare in SAVES.items():
        save = prepare(root, images)
        durable.make(root / BEGINS / name)
        save()
        durable.make(root / ENDS / name)


def as_asked(images: Path, address: Path) -> None:
    """Saves below the folders that come over a socket; answers with the error, in JSON.

    A socket is no file: what fails the calls for files leaves it alone.
    """
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(str(address))
        while request := ours.recv(4096):
            name, root = json.loads(request)
            save = SAVES[name](Path(root), images)
            ours.send(b"prepared")
            ours.recv(2)
            failed = ""
            try:
                save()
            except (UserError, OSError) as error:
                failed = str(error)
            except Exception:
                failed = traceback.format_exc()
            ours.send(json.dumps(failed).encode())


if __name__ == "__main__":
    if len(sys.argv) > 3:
        as_asked(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        in_turn(Path(sys.argv[1]), Path(sys.argv[2]))
