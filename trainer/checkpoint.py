"""Checkpoints that are whole or not there, checked byte by byte when they are read.

RUN/checkpoints/step-00000120/ holds weights.index, weights.data-* (tf.train.Checkpoint of model and
optimizer) and state.json. A folder gets this name by a rename after all of it is on the disk.
"""

import hashlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from input.foundation import durable, typed_json
from trainer import internals, run_dir
from trainer.errors import TrainerError
from trainer.state import EvaluationResult, State

FOLDER = "checkpoints"
_STATE_FILE = "state.json"


def fingerprint(model: keras.Model) -> str:
    """SHA-256 over every weight and moving statistic: dtype, shape and bytes, in model order.

    States of random generators are not included: they are set again before every use.
    """
    digest = hashlib.sha256()
    for variable in model.variables:
        if not internals.is_seed(variable):
            value = variable.numpy()
            digest.update(f"{value.dtype} {value.shape}\n".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        keep: int = 3,
    ):
        """Without an optimizer, checkpoints can only be restored: to evaluate, to export."""
        self._run_dir = folder
        self._folder = folder / FOLDER
        self._model = model
        self._keep = keep
        parts = {"model": model} if optimizer is None else {"model": model, "optimizer": optimizer}
        self._checkpoint = tf.train.Checkpoint(**parts)
        self._partial = optimizer is None

    def save(self, step: int, evaluation: EvaluationResult | None = None) -> State:
        """Writes the checkpoint of a step, then removes those that are neither new nor best.

        Raises TrainerError where it cannot be written; the ones before it stay.
        """
        with run_dir.writing(self._run_dir):
            state = self._write(step, evaluation)
            self._remove_old()
        return state

    def _write(self, step: int, evaluation: EvaluationResult | None) -> State:
        durable.make(self._folder)
        for path in self._folder.glob(f"*{durable.INCOMPLETE}"):  # left by a kill
            shutil.rmtree(path)
        if self._path(step).exists():  # damaged, or it would not be written again
            durable.remove(self._path(step))
        with durable.publish(self._path(step)) as (folder,):
            try:
                self._checkpoint.write(str(folder / "weights"))
            except tf.errors.OpError as error:  # a full disk, say
                raise OSError(internals.error_reason(error)) from None
            files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
            state = State(step, fingerprint(self._model), files, evaluation)
            durable.write(folder / _STATE_FILE, typed_json.dump(state))
        return state

    def note(self, state: State) -> None:
        """Replaces what a checkpoint says about itself, after an evaluation. TrainerError."""
        with run_dir.writing(self._run_dir):
            durable.write(self._path(state.step) / _STATE_FILE, typed_json.dump(state))
            self._remove_old()

    def restore(self, which: str = "latest", say: Callable[[str], None] = print) -> State | None:
        """Loads the newest sound checkpoint ("latest"), or the one with the best accuracy ("best").

        A damaged one is named through `say` and the one before it is taken. None where there is
        none at all; TrainerError where all are damaged, or they hold another model.
        """
        states = self._states(say)
        if which == "best":
            states = _by_accuracy(states)
        damaged = len(self._paths()) - len(states) if which == "latest" else 0
        for state in reversed(states):
            reason = self._damage(state) or self._load(state)
            if reason is None:
                return state
            damaged += 1
            say(f"checkpoint {self._path(state.step)} is damaged: {reason}; trying an earlier one")
        if damaged:
            raise TrainerError(
                f"No checkpoint in {self._folder} is sound. Remove the folder to start from step 0."
            )
        return None

    def load(self, state: State) -> None:
        """Loads one checkpoint. Raises TrainerError where it is not here, or damaged."""
        reason = self._damage(state) or self._load(state)
        if reason is not None:
            raise TrainerError(
                f"checkpoint {self._path(state.step)}: {reason}, but worker 0 has restored it. "
                "All workers must share that folder."
            )

    def restore_existing(self, which: str) -> State:
        """As restore; TrainerError where there is none."""
        state = self.restore(which)
        if state is None:
            raise TrainerError(f"{self._folder} holds no {which} checkpoint yet.")
        return state

    def best(self) -> State:
        """The checkpoint with the best accuracy; at least one must have been evaluated."""
        return _by_accuracy(self._states())[-1]

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _paths(self) -> list[Path]:
        found = self._folder.glob("step-*") if self._folder.is_dir() else ()
        return sorted(path for path in found if path.suffix != durable.INCOMPLETE)

    def _states(self, say: Callable[[str], None] = lambda _: None) -> list[State]:
        states = []
        for path in self._paths():
            try:
                state = typed_json.load(State, path / _STATE_FILE)
            except (OSError, typed_json.JsonError) as error:
                say(f"checkpoint {path} is damaged: {error}")
                continue
            if self._path(state.step) != path:
                say(f"checkpoint {path} is damaged: its {_STATE_FILE} is of step {state.step}")
                continue
            states.append(state)
        return states

    def _damage(self, state: State) -> str | None:
        for name, expected in state.files.items():
            path = self._path(state.step) / name
            if not path.is_file():
                return f"{name} is missing"
            if _sha256(path) != expected:
                return f"{name} is not what was written"
        return None

    def _load(self, state: State) -> str | None:
        try:
            status = self._checkpoint.read(str(self._path(state.step) / "weights"))
            status.assert_existing_objects_matched()
        except (AssertionError, ValueError) as error:  # a variable too many; another shape
            raise TrainerError(
                f"{self._path(state.step)} holds another model: {str(error).splitlines()[0]}"
            ) from None
        except tf.errors.OpError as error:
            return internals.error_reason(error)
        if self._partial:
            status.expect_partial()
        if fingerprint(self._model) != state.fingerprint:
            return "its weights do not have the fingerprint in its state.json"
        return None

    def _remove_old(self) -> None:
        states = self._states()
        kept = {state.step for state in states[-self._keep :]}
        kept |= {state.step for state in _by_accuracy(states)[-1:]}
        for state in states:
            if state.step not in kept:
                durable.remove(self._path(state.step))


def _by_accuracy(states: list[State]) -> list[State]:
    """Those that have been evaluated, the best last; of equals the newest."""

    def rank(state: State) -> tuple[float, int]:
        accuracy = state.evaluation.accuracy if state.evaluation else None
        return (-math.inf if accuracy is None else accuracy), state.step

    return sorted((state for state in states if state.evaluation), key=rank)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
