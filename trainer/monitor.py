"""What a run shows: cards, a progress bar or plain lines, TensorBoard events, metrics.jsonl."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from input.foundation import durable
from input.foundation.text import counted, duration, one_line
from trainer import run_dir
from trainer.board import memory
from trainer.board.board import Board
from trainer.hooks import Hook, Observer
from trainer.ledger import waiting_share
from trainer.metrics import parsed
from trainer.state import EvaluationResult, State

SHOWN_WAITING = 0.01  # share of the time; what plain lines do not say is less


class Monitor:
    """All output of a run; a context manager. On a terminal a live bar, elsewhere plain lines."""

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        steps_per_epoch: int,
        first_step: int,
        chief: bool = True,
        hook: Hook | None = None,
    ):
        """Drops from metrics.jsonl what an earlier launch wrote about steps that are done again.

        hook: gets each line of metrics.jsonl. A worker that is not the chief writes no file, and
        shows only the lines given to `say`. Raises TrainerError where the run's folder cannot be
        written.
        """
        self._chief = chief
        self._console = Console(highlight=False, soft_wrap=True)
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._folder = folder
        self._metrics = folder / run_dir.METRICS_FILE
        self._bad_records: set[int] = set()  # that have been shown
        self._observe = Observer(hook, self.say)
        self._first_step, self._first_times = first_step, dict[str, float]()
        if chief:
            with run_dir.writing(folder):
                strange, self._first_times = _rewind(self._metrics, first_step)
            if strange:
                self.say(
                    f"{self._metrics}: lines that samestep has not written are kept: {strange}"
                )
        self.board = Board(folder, first_step, self.say) if chief else None
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[speed]} images/s"),
            TextColumn("input {task.fields[waiting]:.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (chief and self._console.is_terminal),
        )
        self._task = self._progress.add_task(
            "",
            total=total_steps,
            completed=first_step,
            loss="-",  # until there is one
            speed="-",
            waiting=0.0,
            epoch=self._epoch(first_step),
        )

    def __enter__(self) -> "Monitor":
        self._progress.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._progress.stop()
        if self.board is not None:
            self.board.close(finished=error is None)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(one_line(text), markup=False)

    def card(self, title: str, rows: Iterable[tuple[str, str]], below: str = "") -> None:
        """A titled table of two columns. below: a line that can be copied from a terminal whole."""
        if self.board is not None:
            shown = list(rows)
            card(self._console, title, shown)
            self.board.card(title, shown)
            if below:
                self.say(below)

    def finish(self, title: str, rows: Iterable[tuple[str, str]], below: str = "") -> None:
        """A card below the bar, which has come to its end. below: as of card."""
        self._progress.stop()
        self.card(title, rows, below)

    def training(self, step: int, metrics: Mapping[str, float]) -> None:
        """The steps since the last call, as trainer.rows sums them up, and their times."""
        if not self._chief:
            return
        self._record(step, {**metrics, **memory.used()})
        loss, speed = metrics["train/loss"], metrics["images_per_second"]
        if skipped := metrics["train/skipped_steps"]:
            too_large = metrics["train/too_large_steps"]
            self.say(
                f"step {step}: {counted(skipped, 'step')} before it skipped, {too_large} for "
                "gradients too large for the exact sum, the others for gradients or a loss that "
                "are not finite"
            )
        waiting = waiting_share(metrics)
        self._progress.update(
            self._task,
            completed=step,
            loss=f"{loss:.4f}",
            speed=f"{speed:,.0f}",
            waiting=100 * waiting,
            epoch=self._epoch(step),
        )
        if self._progress.disable:
            left = (self._total_steps - step) * metrics["seconds_per_step"]
            waits = f", input {100 * waiting:.0f} %" if waiting >= SHOWN_WAITING else ""
            self.say(
                f"epoch {self._epoch(step)} step {step}/{self._total_steps} loss {loss:.4f} "
                f"{speed:,.0f} images/s{waits}, {duration(left)} left"
            )

    def evaluation(self, state: State, times: Mapping[str, float]) -> None:
        """The evaluation of a checkpoint, after an epoch; times: since the line before.

        The line of the one that a launch begins with keeps its times, where there was one: this
        launch has only read it.
        """
        if not self._chief or state.evaluation is None:
            return
        if state.step == self._first_step:
            times = self._first_times or times
        metrics: dict[str, float | str] = {**_of_evaluation("validation", state.evaluation)}
        epoch = f"epoch {state.step // self._steps_per_epoch}"
        lines = [f"{epoch}: {state.evaluation}"]
        if state.evaluation_of_averages is not None:
            metrics |= _of_evaluation("validation_of_averages", state.evaluation_of_averages)
            metrics["averages"] = state.averages
            lines.append(f"{epoch}, averaged weights: {state.evaluation_of_averages}")
        self._record(state.step, {**metrics, **times, "fingerprint": state.fingerprint})
        for line in lines:
            self.say(line)

    def bad_records(self, found: Mapping[int, Exception]) -> None:
        """Each bad record that this worker has met, once."""
        new = sorted(found.keys() - self._bad_records)
        for index in new:
            self.say(f"left out: {found[index]}")
        self._bad_records.update(new)

    def _record(self, step: int, metrics: Mapping[str, float | str]) -> None:
        line: dict[str, Any] = {"step": step, "epoch": step / self._steps_per_epoch}
        # JSON has no NaN: what is unknown or not finite is null there, and no point of a curve.
        line |= {name: None if _not_finite(value) else value for name, value in metrics.items()}
        with run_dir.writing(self._folder):
            durable.append(self._metrics, json.dumps(line, allow_nan=False) + "\n")
        if self.board is not None:
            self.board.scalars(step, metrics)
        self._observe(line)

    def _epoch(self, step: int) -> str:
        epochs = self._total_steps // self._steps_per_epoch
        return f"{min(step // self._steps_per_epoch + 1, epochs)}/{epochs}"


def _of_evaluation(group: str, result: EvaluationResult) -> dict[str, float]:
    known = {
        "loss": result.loss,
        "accuracy": result.accuracy,
        "mean_class_accuracy": result.mean_class_accuracy,
    }
    if result.correct_top5 is not None:
        known["top5"] = result.top5
    found = {name: math.nan if value is None else value for name, value in known.items()}
    return {f"{group}/{name}": value for name, value in found.items()} | {
        f"{group}/images": result.images
    }


def _not_finite(value: float | str) -> bool:
    return not isinstance(value, str) and not math.isfinite(value)


def card(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    """A titled table of two columns in a frame; on a terminal and in a log alike."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        # As a str, [red] in a class's name would be markup.
        table.add_row(name, Text(one_line(value)))
    console.print(Panel(table, title=title, title_align="left", expand=False))


def _rewind(path: Path, step: int) -> tuple[list[int], dict[str, float]]:
    """Keeps the lines before a step, the training line that ends there, and what is none of ours.

    What follows a checkpoint is done again, and so is the line of its evaluation. Only a last line
    that a kill has cut short goes. Returns the numbers of the lines that are none of ours, from 1,
    and the times in the line of the evaluation.
    """
    content, lines = durable.log(path, run_dir.MOST_METRICS, parsed)
    kept, times = [], dict[str, float]()
    for text, line in lines:
        if line is None or line["step"] < step or (line["step"] == step and "train/loss" in line):
            kept.append(text + b"\n")
        elif line["step"] == step:
            times = {key: value for key, value in line.items() if _is_time(key, value)}
    if b"".join(kept) != content:
        durable.write(path, b"".join(kept))
    return [number for number, (_, line) in enumerate(lines, 1) if line is None], times


def _is_time(key: str, value: Any) -> bool:
    return key.startswith("time/") and isinstance(value, int | float)
