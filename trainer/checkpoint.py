"""Checkpoints that are whole or not there, checked byte by byte when they are read.

RUN/checkpoints/step-00000120/ holds weights.index, weights.data-* (tf.train.Checkpoint of model and
optimizer) and state.json. A folder gets this name by a rename after all of it is on the disk.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from input.foundation import durable, typed_json
from input.foundation.retry import patiently
from trainer import findings, internals, run_dir
from trainer.averages import Averages
from trainer.errors import TrainerError
from trainer.fingerprint import fingerprint
from trainer.loss_scale import LossScale
from trainer.state import State

_STATE_FILE = "state.json"
_DAMAGED = ".damaged"  # ends the names of checkpoints that were set aside


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        folder: Path,
        run: str,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        keep: int = 3,
        *,
        epoch: int | None = None,
        averages: Averages | None = None,
        loss_scale: LossScale | None = None,
    ):
        """run: run_dir.identity of the definition in the folder; others' checkpoints are refused.

        Without an optimizer, checkpoints can only be restored: to evaluate, to export. averages,
        loss_scale: what the run has of them. epoch: steps; the newest two of an epoch's end are
        kept as well.
        """
        self._epoch = epoch
        self._run_dir = folder
        self._run = run
        self._folder = folder / run_dir.CHECKPOINTS
        self._model = model
        self._keep = keep
        self._averages = averages
        parts = {
            "model": model,
            "optimizer": optimizer,
            "averages": averages and averages.layer,
            "loss_scale": loss_scale and loss_scale.layer,
        }
        there = {name: part for name, part in parts.items() if part is not None}
        self._checkpoint = tf.train.Checkpoint(**there)
        self._partial = optimizer is None
        self._restored = self._saved = -1  # steps

    def save(self, step: int, before: State | None = None, **known: Any) -> State:
        """Writes the checkpoint of a step, then removes those that are neither new nor best.

        before: the run's checkpoint before this one; what has been best so far goes on from it.
        known: skipped, skipped_from and incidents of the State.
        The one that was restored stays until the process ends: it is known to be sound.
        Raises TrainerError where it cannot be written; the ones before it stay.
        """
        with run_dir.writing(self._run_dir):
            state = self._write(step, before, known)
            self._saved = step
            self._remove_old()
        return state

    def _write(self, step: int, before: State | None, known: Mapping[str, Any]) -> State:
        durable.make(self._folder)
        for path in self._folder.glob(f"*{durable.INCOMPLETE}"):  # left by a kill
            shutil.rmtree(path)
        if self._path(step).exists():  # damaged since, or it would not be written again
            durable.set_aside(self._path(step), _DAMAGED)
        with durable.publish(self._path(step)) as folder:
            try:
                self._checkpoint.write(str(folder / "weights"))
            except tf.errors.OpError as error:  # a full disk, say
                raise OSError(internals.error_reason(error)) from None
            files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
            state = replace(State(step, self._run, fingerprint(self._model), files), **known)
            if self._averages is not None:
                with self._averages.in_place():
                    state = replace(state, averages=fingerprint(self._model))
            if before is not None:
                state = replace(state, best=before.best, since_best=before.since_best)
            durable.write(folder / _STATE_FILE, typed_json.dump(state))
        return state

    def note(self, state: State) -> None:
        """Replaces what a checkpoint says about itself, after an evaluation. TrainerError."""
        with run_dir.writing(self._run_dir):
            durable.write(self._path(state.step) / _STATE_FILE, typed_json.dump(state))
            self._remove_old()

    def restore(self, which: str = "latest", say: Callable[[str], None] = print) -> State | None:
        """Loads the newest sound checkpoint ("latest"), or the one with the best accuracy ("best").

        A damaged one is named through `say` and the one before it is taken. With an optimizer, for
        a run that goes on, damaged ones are then set aside: they do not count among those to keep.
        Where the run goes on meanwhile and removes what is being read, what is there then is read.
        None where there is none at all; TrainerError where all are damaged, or they hold another
        model.
        """
        paths = self._paths()
        try:
            return self._restore(which, say)
        except TrainerError:
            if self._partial and self._paths() != paths:
                return self.restore(which, say)
            raise

    def _restore(self, which: str, say: Callable[[str], None]) -> State | None:
        states, damaged = self._states()
        if which == "best":
            states, damaged = _by_accuracy(states), {}
        for path, words in damaged.items():
            say(f"checkpoint {path} is damaged: {words}")
        for state in reversed(states):
            reason = self._damage(state) or self._load(state)
            if reason is None:
                self._restored = state.step
                if not self._partial:
                    self._set_aside(damaged, say)
                return state
            path = self._path(state.step)
            damaged[path] = reason
            say(f"checkpoint {path} is damaged: {reason}; trying an earlier one")
        if damaged:
            path = next(reversed(damaged))  # the last one that was tried
            raise TrainerError(
                f"No checkpoint in {self._folder} is sound, or they are of another model or "
                f"version of samestep. {path}: {damaged[path]}. Remove the folder to start from "
                "step 0."
            )
        return None

    def survey(self) -> tuple[list[State], dict[str, str]]:
        """Loads each checkpoint in turn: the sound ones by step, and why others, by name, are not.

        Nothing in the run's folder is changed. The model has some other weights afterwards.
        """
        states, damaged = self._states()
        reasons = {path.name: words for path, words in damaged.items()}
        for state in states:
            if (reason := self._damage(state) or self._load(state)) is not None:
                reasons[self._path(state.step).name] = reason
        return [each for each in states if self._path(each.step).name not in reasons], reasons

    def load(self, state: State) -> None:
        """Loads one checkpoint. Raises TrainerError where it is not here, or damaged."""
        reason = self._damage(state) or self._load(state)
        if reason is not None:
            raise TrainerError(
                f"checkpoint {self._path(state.step)}: {reason}, but worker 0 has restored it. "
                "All workers must share that folder."
            )

    def drop(self, is_void: Callable[[State], bool]) -> None:
        """Removes checkpoints that the run has gone back from. Raises TrainerError."""
        with run_dir.writing(self._run_dir):
            for state in self._states()[0]:
                if is_void(state):
                    durable.remove(self._path(state.step))
            findings.remove_orphans(self._run_dir)

    def last_of_an_epoch(self, step: int) -> int:
        """The newest checkpoint of an epoch's end that is not after a step; 0 where none is."""
        assert self._epoch is not None
        steps = [state.step for state in self._states()[0] if state.step % self._epoch == 0]
        return max((each for each in steps if each <= step), default=0)

    def restore_existing(self, which: str) -> State:
        """As restore; TrainerError where there is none."""
        state = self.restore(which)
        if state is None:
            raise TrainerError(f"{self._folder} holds no {which} checkpoint yet.")
        return state

    def best(self) -> State:
        """The checkpoint with the best accuracy; at least one must have been evaluated."""
        return _by_accuracy(self._states()[0])[-1]

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _paths(self) -> list[Path]:
        return run_dir.checkpoints(self._run_dir)

    def _states(self) -> tuple[list[State], dict[Path, str]]:
        """What the checkpoints say about themselves, by step, and why others say nothing."""
        states, damaged = [], {}
        for path in self._paths():
            try:
                state = typed_json.load(State, path / _STATE_FILE)
            except (OSError, typed_json.JsonError) as error:
                damaged[path] = str(error)
                continue
            if self._path(state.step) != path:
                damaged[path] = f"its {_STATE_FILE} is of step {state.step}"
                continue
            states.append(state)
        return states, damaged

    def _set_aside(self, damaged: Iterable[Path], say: Callable[[str], None]) -> None:
        """Renames damaged checkpoints; nothing removes them. TrainerError."""
        with run_dir.writing(self._run_dir):
            for path in damaged:
                say(f"checkpoint {path} is kept as {durable.set_aside(path, _DAMAGED).name}")

    def _damage(self, state: State) -> str | None:
        for name, expected in state.files.items():
            try:
                found = patiently(partial(_sha256, path := self._path(state.step) / name), path)
            except FileNotFoundError:
                return f"{name} is missing"
            except OSError as error:
                return f"{name} cannot be read: {error.strerror}"
            if found != expected:
                return f"{name} is not what was written"
        return None

    def _load(self, state: State) -> str | None:
        if state.run != self._run:
            raise TrainerError(
                f"{self._path(state.step)} is of another run than {run_dir.CONFIG_FILE} beside it "
                f"describes. Put back the right {run_dir.CONFIG_FILE}, or remove the checkpoint."
            )
        try:
            status = self._checkpoint.read(str(self._path(state.step) / "weights"))
            status.assert_existing_objects_matched()
        except (AssertionError, ValueError) as error:  # a variable too many; another shape
            return f"it holds another model, or a part of one: {str(error).splitlines()[0]}"
        except tf.errors.OpError as error:
            return internals.error_reason(error)
        if self._partial:
            status.expect_partial()
        if fingerprint(self._model) != state.fingerprint:
            return "its weights do not have the fingerprint in its state.json"
        if self._averages is not None:
            with self._averages.in_place():
                if fingerprint(self._model) != state.averages:
                    return "its averages do not have the fingerprint in its state.json"
        return None

    def _remove_old(self) -> None:
        states, _ = self._states()
        kept = {state.step for state in states[-self._keep :]}
        kept |= {state.step for state in _by_accuracy(states)[-1:]}
        if self._epoch:
            kept |= set([state.step for state in states if state.step % self._epoch == 0][-2:])
        for state in states:
            if state.step not in kept | {self._restored, self._saved}:
                durable.remove(self._path(state.step))
        findings.remove_orphans(self._run_dir)


def _by_accuracy(states: list[State]) -> list[State]:
    """Those that have been evaluated, the best last; of equals the newest."""

    def rank(state: State) -> tuple[float, int]:
        accuracy = state.judged.accuracy if state.judged else None
        return (-math.inf if accuracy is None else accuracy), state.step

    return sorted((state for state in states if state.evaluation), key=rank)


def _sha256(path: Path) -> str:
    with os.fdopen(durable.open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
