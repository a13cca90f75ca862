"""Exact evaluation: every record counts once, on any hardware."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from input import pipeline
from input.config import ResolvedInput
from input.errors import InputError
from input.order import EvaluationPlan
from input.reader import Reader
from input.splits import VALIDATION
from trainer import assembly, provenance, run_dir, step
from trainer.checkpoint import Checkpoints
from trainer.config import Hardware, RunDefinition
from trainer.state import EvaluationResult
from trainer.workers.agreement import Workers, naming_lost_workers


def build_evaluation(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    config: ResolvedInput,
    reader: Reader,
    workers: Workers | None = None,
) -> Callable[[], EvaluationResult]:
    """Returns a function that evaluates the model with its present weights; traced once.

    All workers call it, each reads its part of the records, and all get the same result. Unset
    means that there is only one.
    """
    workers = workers or Workers(strategy)
    plan = EvaluationPlan(config.micro_batch_size, strategy.num_replicas_in_sync, reader.records)
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda _: pipeline.evaluate(
                config, reader, plan, worker=workers.index, worker_count=workers.count
            )
        )
    )
    evaluate = step.build_evaluate(strategy, model)

    def run() -> EvaluationResult:
        with pipeline.naming_bad_records(reader):
            totals = evaluate(iterator, tf.constant(plan.draws, tf.int64))
        images, correct = int(totals.images), int(totals.correct)
        bad = int(workers.gather([len(reader.bad_records)]).sum())  # nobody reads another's
        if bad > config.max_bad_records:
            raise InputError(
                f"{bad} of {reader.records} records are bad, each named where it was read; "
                f"--max_bad_records={config.max_bad_records} allows fewer."
            )
        if images + bad != reader.records:
            raise RuntimeError(
                f"Evaluation counted {images} images and {bad} bad records of {reader.records}: "
                "please report this."
            )
        loss = float(totals.loss)
        return EvaluationResult(
            loss=loss if math.isfinite(loss) else None,
            accuracy=correct / images if images else None,
            correct=correct,
            images=images,
            records=reader.records,
        )

    return run


def _data_note(first: RunDefinition, job: assembly.Job, split: str) -> str:
    """What is to be said where the records are not those that the run was evaluated on; else ""."""
    trained, now = first.data.get(split), job.definition.data[split]
    if trained in (None, now):
        return ""
    return (
        f"other {split} records than the run's: {now[:16]} in {job.config.input.data_dir}, the run "
        f"has {trained[:16]}"
    )


def _decoder_note(first: RunDefinition, job: assembly.Job) -> str:
    """What is to be said where other pixels may come out of the same files; else ""."""
    before, now = (each.environment["decoder"] for each in (first, job.definition))
    if before == now:
        return ""
    return f"images decoded by {now}, the run's by {before}: some pixels may differ by a level"


def evaluate_run(
    folder: Path,
    hardware: Hardware,
    *,
    model: str = "",
    data_dir: str = "",
    split: str = VALIDATION,
    checkpoint: Literal["latest", "best"] = "latest",
) -> EvaluationResult:
    """Evaluates a checkpoint of the run in a folder on one split. Raises InputError, TrainerError.

    model: the run's, which must be given where it is code of the user's. data_dir: the records'
    folder; empty: where the run was trained from.
    """
    first = run_dir.load(folder)
    provenance.check_named(folder, first, model)
    with naming_lost_workers():
        job = assembly.restored(first, hardware, data_dir=data_dir, split=split)
        state = Checkpoints(folder, run_dir.identity(first), job.model).restore_existing(checkpoint)
        reader = job.readers[split]
        evaluation = build_evaluation(
            job.strategy, job.model, job.config.input, reader, job.workers
        )
        result = evaluation()
    if job.workers.chief:
        notes = (provenance.note(first), _data_note(first, job, split), _decoder_note(first, job))
        for note in notes:
            if note:
                print(f"note: {note}")
        print(f"{split} at step {state.step}: {result}")
        print(f"weights {state.fingerprint}")
    return result
