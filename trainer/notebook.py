"""Training, evaluating and predicting in Python, in a notebook or a program, with arrays in memory.

docs/notebook.md has an example. What a run is, is what it is for samestep-train: its folder can be
resumed, evaluated and exported by the commands too.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from input.arrays import ArrayReader
from input.splits import TRAIN, VALIDATION
from trainer import evaluate as evaluation
from trainer import loop, run_dir
from trainer.choice import Checkpoint, Weights
from trainer.config import Config, Hardware
from trainer.errors import TrainerError
from trainer.hooks import Hook
from trainer.predict import RunPredictor
from trainer.state import EvaluationResult, State
from trainer.workers import preemption

__all__ = ["Config", "Hardware", "evaluate", "fit", "predict"]

Labelled = tuple[np.ndarray, np.ndarray]  # images [n, h, w], [n, h, w, 1 or 3] and int labels [n]


def fit(
    config: Config,
    train: Labelled | None = None,
    validation: Labelled | None = None,
    *,
    classes: Sequence[str] = (),
    on_metrics: Hook | None = None,
    hardware: Hardware | None = None,
) -> State:
    """Trains the run in config.run.run_dir to its end, or from its newest checkpoint.

    train, validation: uint8 images, or float32 that the model gets as they are; without them, the
    records of config.input.data_dir. classes: their names; unset: the numbers up to the largest
    label. on_metrics: gets each line of metrics.jsonl as a dict. hardware: unset is every visible
    GPU, or the CPU. An interrupted cell has saved, and raises PreemptedError; run again, it goes
    on. Raises InputError, ModelError, TrainerError.
    """
    if (train is None) != (validation is None):
        raise TrainerError("fit needs train and validation, or neither and --data_dir.")
    arrays = None
    if train is not None and validation is not None:
        given = ArrayReader(*train, classes)
        arrays = {TRAIN: given, VALIDATION: ArrayReader(*validation, given.classes)}
    with preemption.handlers_kept():
        return loop.fit(config, hardware or Hardware(), arrays, on_metrics)


def evaluate(
    run: str | Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    checkpoint: Checkpoint = "latest",
    weights: Weights = "auto",
    model: str = "",
    hardware: Hardware | None = None,
) -> EvaluationResult:
    """How a run's checkpoint does on images and int labels [n], each of them counted once.

    model: the run's, where it is code of yours. weights: auto is the averages where there are any.
    """
    reader = ArrayReader(images, labels, run_dir.load(run).classes)
    return evaluation.evaluate_run(
        Path(run),
        hardware or Hardware(),
        model=model,
        split="arrays",
        arrays=reader,
        checkpoint=checkpoint,
        weights=weights,
    )


def predict(
    run: str | Path,
    images: np.ndarray,
    *,
    checkpoint: Checkpoint = "latest",
    weights: Weights = "auto",
    model: str = "",
    hardware: Hardware | None = None,
) -> np.ndarray:
    """Images -> probabilities float32[n, classes], of the view and the weights that are evaluated.

    In micro-batches of the run's size. The other arguments as evaluate.
    """
    reader = ArrayReader(images, np.zeros(len(images), np.int32), run_dir.load(run).classes)
    predictor = RunPredictor(
        Path(run),
        hardware or Hardware(),
        image_dtype=str(reader.image_dtype),
        model=model,
        checkpoint=checkpoint,
        weights=weights,
    )
    return np.concatenate(list(predictor.probabilities(reader)))
