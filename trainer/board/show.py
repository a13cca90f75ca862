"""What TensorBoard shows of a run besides its numbers: what it is, what it sees, its weights."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.summary_pb2 import Summary

from input import pipeline
from input.foundation.text import one_line
from input.order import Plan
from input.splits import TRAIN, VALIDATION
from trainer import evaluate, findings, internals
from trainer.assembly import Job
from trainer.board import graph, scalars, summaries, text
from trainer.board.board import LAUNCH, Board
from trainer.board.profiler import Profiler
from trainer.board.share import Share
from trainer.config import ResolvedConfig
from trainer.errors import TrainerError
from trainer.findings import Findings
from trainer.pictures import confusion, micro_batch, mistakes
from trainer.state import State
from trainer.step import Step

EPOCHS = 3  # at whose beginning a micro-batch is shown


class Show:
    """Of worker 0; on another one, which has no board, nothing."""

    def __init__(self, board: Board | None, job: Job, plan: Plan):
        self._board, self._job, self._plan = board, job, plan
        self._profiler: Profiler | None = None
        self._pictures = Share(0.005)
        self._beginnings: Iterator[Any] | None = None  # of epochs: their first micro-batches

    def __enter__(self) -> "Show":
        return self

    def __exit__(self, *_: object) -> None:
        if self._profiler is not None:
            self._profiler.stop()

    def profiled(self, train: Step) -> Step:
        """The step, which also records the steps of --profile_steps."""
        run = self._job.config.run
        if self._board is None or not run.profiled:
            return train
        self._profiler = Profiler(train, run.profiled, Path(run.run_dir), self._board.say)
        return self._profiler

    def start(self, done: int) -> None:
        """What the run is. done: the steps behind it."""
        if self._board is None:
            return
        config, environment = self._job.config, self._job.definition.environment
        about = [
            *environment.items(),
            ("devices", ", ".join(self._job.devices)),
            ("workers", self._job.workers.count),
            *((f"{split} records", digest) for split, digest in self._job.definition.data.items()),
        ]
        settings = [(setting.name, value) for setting, value in config.values()]
        parts = [
            summaries.text("run/config", text.table(("setting", "value"), settings)),
            summaries.text("run/plan", text.table(("plan", "value"), plan_rows(self._plan))),
            summaries.text("run/environment", text.table(("environment", "value"), about)),
            summaries.hparams(hparams(config)),
        ]
        self._board.show(LAUNCH, done, parts)
        self._board.add(LAUNCH, graph.of_model(self._job.model, self._plan.images_per_micro_batch))

    def micro_batch(self, done: int) -> None:
        """The first images of the next step, as the model gets them, where an epoch begins."""
        epoch, step = divmod(done, self._plan.steps_per_epoch)
        if self._board is None or step or epoch >= EPOCHS:
            return
        reader = self._job.readers[TRAIN]
        with pipeline.naming_bad_records(reader):
            if self._beginnings is None:
                self._beginnings = iter(self._first_of_epochs(epoch))
            batch = next(self._beginnings)
        images, labels, weights = (column.numpy() for column in batch)
        picture = micro_batch.draw(images, captions_of(labels, weights, reader.classes))
        # Of the step that sees it: where that is done again, so is this.
        self._board.show(scalars.TRAIN, done + 1, [summaries.image("images/micro_batch", picture)])

    def _first_of_epochs(self, epoch: int) -> tf.data.Dataset:
        """One pipeline for all that are shown: to trace one takes 0.3 s."""
        job = self._job
        return pipeline.beginnings(
            job.config.input,
            job.readers[TRAIN],
            self._plan,
            seed=job.config.run.seed,
            first_epoch=epoch,
            most=EPOCHS - epoch,
        )

    def evaluation(self, state: State, last: bool) -> None:
        """What the evaluation of a checkpoint has found, in pictures.

        Not after every one, but where all of them cost less than 0.5 % of the time; always after
        the last.
        """
        if self._board is None:
            return
        try:
            found = findings.load(Path(self._job.config.run.run_dir), state.step)
        except TrainerError as error:
            self._board.say(f"not shown in TensorBoard: {error}")
            return
        if found is None:
            return
        run = scalars.AVERAGES if state.evaluation_of_averages else scalars.VALIDATION
        if len(found.classes) == 2:
            self._board.show(run, state.step, [curve(found)])
        if last or self._pictures.due():
            with self._pictures.taken():
                self._board.show(run, state.step, self._drawn(state, found))

    def _drawn(self, state: State, found: Findings) -> list[Summary]:
        images = evaluate.mistaken(self._job.config.input, self._job.readers[VALIDATION], found)
        title = f"{VALIDATION} at step {state.step}"
        return [
            summaries.image("images/confusion", confusion.draw(found, title)),
            summaries.image(
                "images/mistakes", mistakes.draw(images, found.mistakes, found.classes)
            ),
        ]

    def weights(self, done: int) -> None:
        """After so many steps: a histogram of every weight and statistic, where that is due."""
        every = self._job.config.run.histogram_every
        if self._board is None or not every or done % every:
            return
        variables = [v for v in self._job.model.variables if not internals.is_seed(v)]
        parts = [summaries.histogram(f"weights/{v.path}", np.asarray(v.numpy())) for v in variables]
        self._board.show(scalars.TRAIN, done, parts)


def hparams(config: ResolvedConfig) -> dict[str, bool | float | str]:
    """The settings to sort and filter by; what is unset has no value, and the run is the row."""
    return {
        setting.name: value
        for setting, value in config.values()
        if isinstance(value, bool | int | float | str) and setting.name != "run_dir"
    }


def plan_rows(plan: Plan) -> list[tuple[str, object]]:
    """The plan of the batch in numbers."""
    rows = [(each.name, getattr(plan, each.name)) for each in dataclasses.fields(plan)]
    return [(name, len(v) if isinstance(v, frozenset) else v) for name, v in rows]


def curve(found: Findings) -> Summary:
    """Precision and recall of the second of two classes."""
    tag = f"precision and recall of {one_line(found.classes[1])}"
    return summaries.pr_curve(tag, found.at_least(1), found.at_least(0))


def captions_of(labels: np.ndarray, weights: np.ndarray, classes: Sequence[str]) -> list[str]:
    """What each image is: cat; where images are mixed 0.7 cat, 0.3 dog.

    labels: int32[M] or float32[M, classes]. weights: float32[M], 0 where a record is bad.
    """
    if labels.ndim == 1:
        found = [classes[label] for label in labels]
    else:
        largest = np.argsort(-labels, axis=1, kind="stable")[:, :2]
        found = [
            ", ".join(f"{row[i]:.2g} {classes[i]}" for i in two if row[i] > 0)
            for row, two in zip(labels, largest, strict=True)
        ]
    return [name if weight else "left out" for name, weight in zip(found, weights, strict=True)]
