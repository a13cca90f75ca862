"""Training, evaluating and predicting in Python, in a notebook or a program, with arrays in memory.

docs/notebook.md has an example. What a run is, is what it is for samestep-train: its folder can be
resumed, evaluated and exported by the commands too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from input import pipeline
from input.arrays import ArrayReader
from input.order import EvaluationPlan
from input.splits import TRAIN, VALIDATION
from trainer import assembly, audit, loop, provenance, run_dir
from trainer import evaluate as evaluation
from trainer.config import Config, Hardware
from trainer.errors import TrainerError
from trainer.hooks import Hook
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
    checkpoint: Literal["latest", "best"] = "latest",
    weights: Literal["auto", "trained", "averaged"] = "auto",
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
    checkpoint: Literal["latest", "best"] = "latest",
    weights: Literal["auto", "trained", "averaged"] = "auto",
    model: str = "",
    hardware: Hardware | None = None,
) -> np.ndarray:
    """Images -> probabilities float32[n, classes], of the view and the weights that are evaluated.

    In micro-batches of the run's size, on the first device. The other arguments as evaluate.
    """
    folder, first = Path(run), run_dir.load(run)
    provenance.check_named(folder, first, model)
    reader = ArrayReader(images, np.zeros(len(images), np.int32), first.classes)
    job = assembly.restored(first, hardware or Hardware(), split="arrays", arrays=reader)
    evaluation.restore(folder, first, job.model, job.strategy, checkpoint, weights)
    plan = EvaluationPlan(job.config.input.micro_batch_size, replicas=1, records=reader.records)

    @tf.function
    def probabilities(image: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(audit.call(job.model, image, training=False))

    batches = pipeline.evaluate(job.config.input, reader, plan).take(plan.draws)
    found = [probabilities(image).numpy() for image, _, _ in batches]
    return np.concatenate(found)[: reader.records]
