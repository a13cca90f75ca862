"""Exact evaluation: every record counts once, on any hardware."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.arrays import ArrayReader
from input.config import ResolvedInput
from input.errors import InputError
from input.foundation import durable
from input.foundation.text import one_line
from input.order import EvaluationPlan
from input.reader import Reader
from input.splits import VALIDATION
from input.views import micro_batch
from trainer import assembly, findings, iterators, preflight, provenance, run_dir, step, tracing
from trainer.averages import Averages
from trainer.checkpoint import Checkpoints
from trainer.choice import Checkpoint, Weights
from trainer.config import Hardware, RunDefinition
from trainer.findings import Findings
from trainer.fixed_point import STATISTIC_BITS
from trainer.pictures import confusion as confusion_picture
from trainer.pictures import mistakes as mistakes_picture
from trainer.state import TOP, EvaluationResult, State
from trainer.workers.agreement import Workers, naming_lost_workers

WORST_SHOWN = 5
USUAL_SHOWN = 2  # mistakes of each


class Evaluation(NamedTuple):
    """What an evaluation gives; the same on every worker."""

    result: EvaluationResult
    findings: Findings


def build_evaluation(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    config: ResolvedInput,
    reader: Reader,
    workers: Workers | None = None,
) -> Callable[[], Evaluation]:
    """Returns a function that evaluates the model with its present weights; traced once.

    All workers call it, each reads its part of the records, and all get the same result. Unset
    means that there is only one.
    """
    workers = workers or Workers(strategy)
    plan = EvaluationPlan(config.micro_batch_size, strategy.num_replicas_in_sync, reader.records)
    iterator = iterators.distributed(
        strategy,
        lambda: pipeline.evaluate(
            config, reader, plan, worker=workers.index, worker_count=workers.count
        ),
    )
    evaluate = step.build_evaluate(strategy, model)
    records = order.evaluated_records(plan, workers.index, workers.count).ravel()

    def run() -> Evaluation:
        with pipeline.naming_bad_records(reader):
            found = step.Evaluation(
                *(each.numpy() for each in evaluate(iterator, tf.constant(plan.draws, tf.int64)))
            )
        result = _result(found, reader, workers)
        bad = result.records - result.images
        if bad > config.max_bad_records:
            raise InputError(
                f"Bad records: {bad} of {reader.records}, each named where it was read; "
                f"--max_bad_records={config.max_bad_records} allows fewer."
            )
        return Evaluation(result, _findings(found, records, reader.classes, workers))

    return run


def _result(found: step.Evaluation, reader: Reader, workers: Workers) -> EvaluationResult:
    """Sums over the images of all workers, of integers, which their order does not change."""
    classes, counted = len(reader.classes), found.label >= 0
    label, right = found.label[counted], (found.label == found.predicted)[counted]
    own = [
        *(found.loss, found.overflows, len(reader.bad_records)),  # nobody reads another's
        *(counted.sum(), right.sum(), (found.above[counted] < TOP).sum()),
        *np.bincount(label, minlength=classes),
        *np.bincount(label[right], minlength=classes),
    ]
    loss, overflows, bad, images, correct, in_top, *by_class = workers.gather(own).sum(axis=0)
    if images + bad != reader.records:
        raise RuntimeError(
            f"Evaluation counted {images} images and {bad} bad records of {reader.records}: "
            "please report this."
        )
    known = images > 0 and overflows == 0
    return EvaluationResult(
        loss=float(loss) * 2.0**-STATISTIC_BITS / int(images) if known else None,
        correct=int(correct),
        correct_top5=int(in_top) if classes > TOP else None,
        images=int(images),
        records=reader.records,
        class_images=tuple(map(int, by_class[:classes])),
        class_correct=tuple(map(int, by_class[classes:])),
    )


def _findings(
    found: step.Evaluation, records: np.ndarray, classes: tuple[str, ...], workers: Workers
) -> Findings:
    """records: int64[images] of this worker, in the order of what was found."""
    columns = (each.ravel() for each in (found.label, found.predicted, found.probability))
    label, predicted, probability = columns
    counted = label >= 0
    of_images = partial(findings.of_images, len(classes))
    ours = of_images(*(each[counted] for each in (records, label, predicted, probability)))
    return findings.joined(classes, *(workers.gather_rows(rows) for rows in ours))


def _data_note(first: RunDefinition, job: assembly.Job, split: str) -> str:
    """What is to be said where the records are not those that the run was evaluated on; else ""."""
    trained, now = first.data.get(split), job.definition.data[split]
    if trained in (None, now):
        return ""
    return (
        f"other {split} records than the run's: {now[:16]} in {job.config.input.data_dir}, the run "
        f"has {trained[:16]}"
    )


def decoder_note(first: RunDefinition, now: str) -> str:
    """What is to be said where other pixels may come out of the same files; else ""."""
    before = first.environment["decoder"]
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
    arrays: ArrayReader | None = None,
    checkpoint: Checkpoint = "latest",
    weights: Weights = "auto",
    confusion: str = "",
    mistakes: str = "",
) -> EvaluationResult:
    """Evaluates a checkpoint of the run in a folder on one split. Raises InputError, TrainerError.

    model: the run's, which must be given where it is code of the user's. data_dir: the records'
    folder; empty: where the run was trained from. arrays: in place of its records. weights: see
    restore. confusion: a file, PNG or CSV, that gets the confusion matrix. mistakes: one that gets
    the most confident mistakes.
    """
    first = preflight.trained(folder, model, weights)
    with naming_lost_workers():
        job = assembly.restored(first, hardware, data_dir=data_dir, split=split, arrays=arrays)
        state, averaged = restore(folder, first, job.model, job.strategy, checkpoint, weights)
        reader = job.readers[split]
        evaluation = build_evaluation(
            job.strategy, job.model, job.config.input, reader, job.workers
        )
        result, found = evaluation()
    if not job.workers.chief:
        return result
    notes = (
        provenance.note(first),
        _data_note(first, job, split),
        decoder_note(first, job.definition.environment["decoder"]),
    )
    for note in notes:
        if note:
            print(f"note: {note}")
    print(f"{split} at step {state.step}: {result}")
    for line in worst_classes(result, found):
        print(line)
    print(f"averaged weights {state.averages}" if averaged else f"weights {state.fingerprint}")
    if confusion.endswith(".csv"):
        _write(confusion, findings.table(found).encode())
    elif confusion:
        _write(confusion, confusion_picture.draw(found, f"{split} at step {state.step}"))
    if mistakes:
        images = mistaken(job.config.input, reader, found)
        _write(mistakes, mistakes_picture.draw(images, found.mistakes, found.classes))
    return result


def mistaken(config: ResolvedInput, reader: Reader, found: Findings) -> np.ndarray:
    """The images of the most confident mistakes as the model saw them: [n, S, S, 3]."""
    if not found.mistakes:
        return np.empty((0, config.image_size, config.image_size, 3), np.uint8)
    records = np.array([each.record for each in found.mistakes])
    return micro_batch.seen(config, reader, records)


def _write(path: str, content: bytes) -> None:
    """Writes a file for the user; a path that cannot be written raises OSError."""
    durable.write(Path(path), content)
    print(f"wrote {path}")


def restore(
    folder: Path,
    first: RunDefinition,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    checkpoint: Checkpoint,
    weights: Weights,
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
    state: State, evaluation: Callable[[], Evaluation], averages: Averages | None
) -> tuple[State, Findings]:
    """A checkpoint with the evaluations of its weights and, where it has them, their averages;
    and what was found with those that it is judged by."""
    of_weights = evaluation()
    if averages is None:
        return state.evaluated(of_weights.result, None), of_weights.findings
    with averages.in_place():
        of_averages = evaluation()
    return state.evaluated(of_weights.result, of_averages.result), of_averages.findings


def stops_early(state: State, stop_after: int | None, is_early: bool) -> str:
    """What is to be said where --stop_after ends a run at an evaluated checkpoint; else ""."""
    if not is_early or stop_after is None or state.since_best < stop_after:
        return ""
    return (
        f"--stop_after={stop_after}: no evaluation since {state.best:.4f} was better, and "
        f"{state.since_best} were made; the run ends at step {state.step}"
    )


def worst_classes(result: EvaluationResult, found: Findings) -> Iterator[str]:
    """Lines on the classes with the lowest accuracies and their usual mistakes, and the mean."""
    names = [one_line(name) for name in found.classes]
    worst = found.worst(WORST_SHOWN)
    if not worst:
        return
    yield f"mean class accuracy {result.mean_class_accuracy:.4f}; the worst of {len(names)}:"
    for each in worst:
        usual = [
            f"{100 * count / each.images:.0f} % taken for {names[predicted]}"
            for predicted, count in found.taken_for(each.label)[:USUAL_SHOWN]
        ]
        right = f"{names[each.label]}: {100 * each.share:.0f} % of {each.images} right"
        yield "  " + ", ".join([right, *usual])
