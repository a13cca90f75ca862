"""Exact evaluation: every record counts once, on any hardware."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from input import pipeline
from input.config import ResolvedInput
from input.errors import InputError
from input.foundation.text import one_line
from input.order import EvaluationPlan
from input.reader import Reader
from input.splits import VALIDATION
from trainer import assembly, preflight, provenance, run_dir, step, tracing
from trainer.averages import Averages
from trainer.checkpoint import Checkpoints
from trainer.config import Hardware, RunDefinition
from trainer.state import TOP, EvaluationResult, State
from trainer.workers.agreement import Workers, naming_lost_workers

WORST_SHOWN = 5


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
        images, class_images = int(totals.images), totals.class_images.numpy().tolist()
        bad = int(workers.gather([len(reader.bad_records)]).sum())  # nobody reads another's
        if bad > config.max_bad_records:
            raise InputError(
                f"Bad records: {bad} of {reader.records}, each named where it was read; "
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
            correct=int(totals.correct),
            correct_top5=int(totals.correct_top5) if len(class_images) > TOP else None,
            images=images,
            records=reader.records,
            class_images=tuple(class_images),
            class_correct=tuple(totals.class_correct.numpy().tolist()),
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
    weights: Literal["auto", "trained", "averaged"] = "auto",
) -> EvaluationResult:
    """Evaluates a checkpoint of the run in a folder on one split. Raises InputError, TrainerError.

    model: the run's, which must be given where it is code of the user's. data_dir: the records'
    folder; empty: where the run was trained from. weights: see restore.
    """
    first = preflight.trained(folder, model, weights)
    with naming_lost_workers():
        job = assembly.restored(first, hardware, data_dir=data_dir, split=split)
        state, averaged = restore(folder, first, job.model, job.strategy, checkpoint, weights)
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
        for line in worst_classes(result, first.classes):
            print(line)
        print(f"averaged weights {state.averages}" if averaged else f"weights {state.fingerprint}")
    return result


def restore(
    folder: Path,
    first: RunDefinition,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    checkpoint: Literal["latest", "best"],
    weights: Literal["auto", "trained", "averaged"],
) -> tuple[State, bool]:
    """Loads a checkpoint into a run's model; the state, and whether it has the averages now.

    weights: auto is averaged where the run has averages, which is what they are for;
    preflight.trained has checked that they are there. Raises TrainerError.
    """
    averages = tracing.averages_of(model, first.config, strategy)
    identity = run_dir.identity(first)
    found = Checkpoints(folder, identity, model, averages=averages).restore_existing(checkpoint)
    if averages is None or weights == "trained":
        return found, False
    averages.replace_weights()
    return found, True


def evaluated(
    state: State, evaluation: Callable[[], EvaluationResult], averages: Averages | None
) -> State:
    """A checkpoint with the evaluations of its weights and, where it has them, their averages."""
    of_weights = evaluation()
    if averages is None:
        return state.evaluated(of_weights, None)
    with averages.in_place():
        return state.evaluated(of_weights, evaluation())


def stops_early(state: State, stop_after: int | None, is_early: bool) -> str:
    """What is to be said where --stop_after ends a run at an evaluated checkpoint; else ""."""
    if not is_early or stop_after is None or state.since_best < stop_after:
        return ""
    return (
        f"--stop_after={stop_after}: no evaluation since {state.best:.4f} was better, and "
        f"{state.since_best} were made; the run ends at step {state.step}"
    )


def worst_classes(result: EvaluationResult, classes: Sequence[str]) -> Iterator[str]:
    """Lines on the classes with the lowest accuracies, and the mean over all."""
    known = [
        (accuracy, name, images)
        for accuracy, name, images in zip(
            result.class_accuracies, classes, result.class_images, strict=True
        )
        if accuracy is not None
    ]
    if not known:
        return
    yield f"mean class accuracy {result.mean_class_accuracy:.4f}; the worst of {len(classes)}:"
    for accuracy, name, images in sorted(known, key=lambda each: each[0])[:WORST_SHOWN]:
        yield f"  {accuracy:.4f} of {images} {one_line(name)}"
