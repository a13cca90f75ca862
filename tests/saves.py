"""Every kind of save, one after the other: the program that tests/test_crashes.py interrupts.

python -m tests.saves ROOT IMAGES
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras

from input import manifest
from input.config import ResolvedInput
from input.foundation import durable
from input.prepare.config import IndexConfig, WriteConfig
from input.prepare.index import index
from input.prepare.writer import write
from models.config import ModelConfig
from trainer import monitor, run_dir
from trainer.checkpoint import Checkpoints
from trainer.config import OptimizerConfig, ResolvedConfig, ResolvedRun, RunDefinition
from trainer.state import EvaluationResult

SAVES = (
    *("config.json", "manifest.json", "checkpoint", "evaluation"),
    *("metrics.jsonl", "metrics.jsonl, rewritten", "records", "index"),
)
BEGINS, ENDS = "begins", "ends"  # folders that get a folder for each save: marks in the trace
NEW_CLASS = "new"
LINE = '{"step": 5, "train/loss": 1.0}\n'
RESULT = EvaluationResult(loss=0.5, accuracy=0.75, correct=3, images=4, records=4)
DEFINITION = RunDefinition(
    ResolvedConfig(
        ResolvedInput(micro_batch_size=8, image_size=28),
        ModelConfig(),
        OptimizerConfig(),
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


def main(root: Path, images: Path) -> None:
    """Each save stands between two marks; what is done before them is synced."""

    @contextmanager
    def save(name: str) -> Iterator[None]:
        durable.make(root / BEGINS / name)
        yield
        durable.make(root / ENDS / name)

    run = root / "run"
    durable.make(run)
    with save("config.json"):
        run_dir.save(run, DEFINITION)

    write(WriteConfig(images=str(images), out=str(root / "data")))
    before = manifest.Manifest.load(root / "data" / "train")
    with save("manifest.json"):
        manifest.save(replace(before, classes=(NEW_CLASS, *before.classes[1:])))

    model, saved = checkpoints(run)
    saved.note(replace(saved.save(1), evaluation=RESULT))
    model.layers[0].kernel.assign_add([[1.0]])
    with save("checkpoint"):
        state = saved.save(2)
    with save("evaluation"):
        saved.note(replace(state, evaluation=RESULT))

    durable.append(run / "metrics.jsonl", LINE)
    with save("metrics.jsonl"):
        durable.append(run / "metrics.jsonl", LINE)
    with save("metrics.jsonl, rewritten"):
        monitor._rewind(run / "metrics.jsonl", step=0)

    with save("records"):
        write(WriteConfig(images=str(images), out=str(root / "more")))
    with save("index"):
        index(IndexConfig(dir=str(root / "more"), out=str(root / "index")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
