"""What a run gives TensorBoard: events in the runs that it shows, written as they come."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from trainer.board import scalars, summaries, text
from trainer.board.events import EventFiles

LAUNCH = ""  # the run of what a launch says of itself: in the run's own folder


class Board:
    """The events of one launch. What cannot be written is said once, and stops nothing."""

    def __init__(self, folder: Path, first_step: int, say: Callable[[str], None]):
        """Drops what earlier launches wrote of steps that are done again.

        As in metrics.jsonl the evaluation at first_step is one of them; the training that ends
        there is not. What a launch says of itself goes.
        """
        self.say = say
        self._failed = False
        self._step = first_step
        self._files = {run: EventFiles(folder / run) for run in (LAUNCH, *scalars.RUNS)}
        last_steps = {LAUNCH: -1, scalars.TRAIN: first_step}
        for run, files in self._files.items():
            self._attempt(partial(files.rewind, last_steps.get(run, first_step - 1)))

    def scalars(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """A line of metrics.jsonl; words, and what is not finite, are no points of a curve."""
        self._step = step
        found: dict[str, list[Summary]] = {}
        for key, value in metrics.items():
            if not isinstance(value, str) and math.isfinite(value):
                run, tag = scalars.place(key, scalars.run_of(metrics))
                found.setdefault(run, []).append(summaries.scalar(tag, value))
        for run, parts in found.items():
            self.show(run, step, parts)

    def card(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """As the run shows it in its lines."""
        markdown = text.table((title, ""), rows)
        self.show(LAUNCH, self._step, [summaries.text(f"cards/{title}", markdown)])

    def show(self, run: str, step: int, parts: Iterable[Summary]) -> None:
        """Summaries as one event of a step."""
        summary = Summary(value=[value for part in parts for value in part.value])
        self.add(run, Event(step=step, summary=summary))

    def add(self, run: str, event: Event) -> None:
        event.wall_time = time.time()
        self._attempt(partial(self._files[run].write, [event]))

    def close(self, finished: bool) -> None:
        """finished: whether the run has come to its end."""
        if finished:
            self.show(LAUNCH, self._step, [summaries.success()])
        for files in self._files.values():
            self._attempt(files.close)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._failed:
                where = f"{error.filename}: " if error.filename else ""
                self.say(
                    f"events for TensorBoard cannot be written: {where}{error.strerror}; the "
                    "training goes on, and points are missing until they can"
                )
            self._failed = True
