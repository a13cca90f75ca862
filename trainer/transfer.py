"""Initial weights from another run: each variable by its path and shape."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from trainer import assembly, internals, provenance, run_dir
from trainer.assembly import Job
from trainer.checkpoint import Checkpoints
from trainer.config import RunDefinition
from trainer.errors import TrainerError
from trainer.state import State

NAMES_SHOWN = 6


@dataclass(frozen=True)
class Transfer:
    """What a model has got from another run."""

    folder: str  # of that run
    state: State  # its checkpoint
    copied: int  # variables, moving statistics among them
    missing: tuple[str, ...]  # paths of the model's other variables, which keep their own start
    unused: tuple[str, ...]  # paths of the checkpoint's other variables

    def rows(self) -> Iterator[tuple[str, str]]:
        """As a card shows it."""
        count = self.copied + len(self.missing)
        where = f"{self.folder}, step {self.state.step}, {self.state.fingerprint[:16]}"
        yield "weights", f"{self.copied} of {count} variables from {where}"
        if self.missing:
            yield "not there", f"{_some(self.missing)}: not in that run with the same shape"
        if self.unused:
            yield "not used", f"{_some(self.unused)}: not in this model with the same shape"


def transfer(job: Job, first: RunDefinition | None) -> Transfer | None:
    """Gives a job's model the weights of --init_weights' newest sound checkpoint, if that is set.

    Moving statistics are copied, an optimizer's slots are not. Every worker calls it. first: what
    an earlier launch of the run has written, one that ended before its first checkpoint. Raises
    TrainerError where nothing can be copied, or the weights are no longer those of that launch.
    """
    run = job.config.run
    if not run.init_weights:
        return None
    folder = Path(run.init_weights)
    if run.run_dir and folder.resolve() == Path(run.run_dir).resolve():
        raise TrainerError(
            f"--init_weights={folder} is the --run_dir itself. Give the folder of another run, or "
            "leave --init_weights out."
        )
    source = run_dir.load(folder, "--init_weights")
    if source.config.model.model != job.config.model.model:
        provenance.check_named(folder, source, run.init_model, "--init_model")
    with tf.device("CPU:0"):  # on a GPU it would take the place of this run's tensors
        theirs = assembly.new_model(
            source.config, source.config.input, len(source.classes), source.image_dtype
        )
    checkpoints, workers = Checkpoints(folder, run_dir.identity(source), theirs), job.workers
    own = checkpoints.restore_existing("latest") if workers.chief else None
    state = workers.from_chief(State, own)
    assert state is not None  # worker 0 has restored it, or raised
    if not workers.chief:
        checkpoints.load(state)
    if first is not None and first.initial_weights != state.fingerprint:
        raise TrainerError(
            f"--init_weights={folder} has other weights now ({state.fingerprint[:16]}) than when "
            f"this run began with them ({first.initial_weights[:16]}). Start in another --run_dir."
        )
    copied, missing, unused = copy(theirs, job.model)
    if not copied:
        raise TrainerError(
            f"--init_weights={folder} holds --model={source.config.model.model}, and none of its "
            f"{len(unused)} variables has the path and shape of one of "
            f"--model={job.config.model.model}. Leave --init_weights out, or choose another model."
        )
    return Transfer(str(folder), state, copied, missing, unused)


def copy(source: keras.Model, model: keras.Model) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Copies the variables that both models have with the same path, shape and dtype.

    Returns how many, the paths of the model's other variables, and of the source's.
    """
    theirs, ours = _by_place(source), _by_place(model)
    for place in ours.keys() & theirs.keys():
        ours[place].assign(theirs[place].numpy())
    missing = tuple(path for path, *rest in ours if (path, *rest) not in theirs)
    unused = tuple(path for path, *rest in theirs if (path, *rest) not in ours)
    return len(ours) - len(missing), missing, unused


def _by_place(model: keras.Model) -> dict[tuple[str, str, str, int], keras.Variable]:
    """(path, shape, dtype, number) -> variable: in a user's model several may share a path."""
    numbers, found = Counter[str](), {}
    for variable in model.variables:
        if not internals.is_seed(variable):
            path, shape = variable.path, str(tuple(variable.shape))
            found[path, shape, variable.dtype, numbers[path]] = variable
            numbers[path] += 1
    return found


def _some(names: tuple[str, ...]) -> str:
    left_out = len(names) - NAMES_SHOWN
    more = f" and {left_out} more" if left_out > 0 else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
