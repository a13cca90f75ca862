"""Exact evaluation: every record counts once, on any hardware."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import tensorflow as tf

from input import pipeline
from input.config import InputConfig
from input.errors import InputError
from input.order import EvaluationPlan
from input.pipeline import Reader
from trainer import assembly, config, step
from trainer.agreement import Workers, naming_lost_workers
from trainer.checkpoint import Checkpoints
from trainer.config import EvaluateConfig, Hardware


@dataclass(frozen=True)
class Result:
    """One evaluation."""

    loss: float  # mean cross entropy
    accuracy: float
    correct: int
    images: int  # that counted: all but the bad ones
    records: int

    def __str__(self) -> str:
        bad = self.records - self.images
        note = f" ({bad} bad records)" if bad else ""
        return f"accuracy {self.accuracy:.4f} on {self.images}/{self.records}{note}"

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def build(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    settings: InputConfig,
    reader: Reader,
    workers: Workers | None = None,
) -> Callable[[], Result]:
    """Returns a function that evaluates the model as it is then; traced once, one iterator.

    All workers call it, each sees its share of the records, and all get the same result. Unset
    means that there is only one.
    """
    workers = workers or Workers(strategy)
    plan = EvaluationPlan(settings.micro_batch_size, strategy.num_replicas_in_sync, reader.records)
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda _: pipeline.evaluate(
                settings, reader, plan, worker=workers.index, workers=workers.count
            )
        )
    )
    evaluate = step.build_evaluate(strategy, model)

    def run() -> Result:
        with pipeline.naming_bad_records(reader):
            totals = evaluate(iterator, tf.constant(plan.draws, tf.int64))
        images, correct = int(totals.images), int(totals.correct)
        bad = int(workers.gather([len(reader.bad_records)]).sum())  # nobody reads another's
        if bad > settings.max_bad_records:
            raise InputError(
                f"{bad} of {reader.records} records are bad, each named where it was read; "
                f"--max_bad_records={settings.max_bad_records} allows fewer."
            )
        if images + bad != reader.records:
            raise RuntimeError(
                f"Evaluation counted {images} images and {bad} bad records of {reader.records}: "
                "please report this."
            )
        accuracy = correct / images if images else float("nan")
        return Result(float(totals.loss), accuracy, correct, images, reader.records)

    return run


def evaluate_run(what: EvaluateConfig, hardware: Hardware) -> Result:
    """Evaluates a checkpoint of a run on one of its splits."""
    stored = config.load(what.run_dir)
    with naming_lost_workers():
        job = assembly.restored(stored, hardware, data_dir=what.data_dir, split=what.split)
        state = Checkpoints(Path(what.run_dir), job.model).restore_existing(what.checkpoint)
        reader = job.readers[what.split]
        result = build(job.strategy, job.model, job.config.input, reader, job.workers)()
    if job.workers.chief:
        print(f"{what.split} at step {state.step}: {result}, loss {result.loss:.6f}")
        print(f"weights {state.fingerprint}")
    return result


def metrics(result: Mapping[str, float]) -> dict[str, float]:
    """An evaluation's entries in metrics.jsonl and TensorBoard."""
    return {f"validation/{name}": result[name] for name in ("loss", "accuracy", "images")}
