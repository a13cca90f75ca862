"""Initial weights from elsewhere: each variable by its path and shape."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from input.foundation.text import counted
from models import build, names, published
from trainer import assembly, internals, preflight, run_dir
from trainer.assembly import Job
from trainer.checkpoint import Checkpoints
from trainer.config import RunDefinition
from trainer.errors import TrainerError
from trainer.fingerprint import fingerprint_of
from trainer.state import State

NAMES_SHOWN = 6

# path, shape, dtype, and number among those that share them: a user's model may have several
Place = tuple[str, str, str, int]


@dataclass(frozen=True)
class Transfer:
    """What a model has got from elsewhere."""

    source: str  # --init_weights, and the step of a run
    fingerprint: str  # of all that the source holds
    copied: int  # variables, moving statistics among them
    missing: tuple[str, ...]  # paths of the model's other variables, which keep their own start
    unused: tuple[str, ...]  # paths of the source's other variables

    def rows(self) -> Iterator[tuple[str, str]]:
        """As a card shows it."""
        count = self.copied + len(self.missing)
        where = f"{self.source}, {self.fingerprint[:16]}"
        yield "weights", f"{self.copied} of {counted(count, 'variable')} from {where}"
        if self.missing:
            yield "not there", f"{_some(self.missing)}: not in that source with the same shape"
        if self.unused:
            yield "not used", f"{_some(self.unused)}: not in this model with the same shape"


def transfer(job: Job, first: RunDefinition | None) -> Transfer | None:
    """Gives a job's model the weights of --init_weights, if that is set.

    Moving statistics are copied, an optimizer's slots are not. Every worker calls it. first: what
    an earlier launch of the run has written, one that ended before its first checkpoint. Raises
    ModelError or TrainerError where nothing can be copied, or the weights are no longer those of
    that launch.
    """
    asked = job.config.run.init_weights
    if not asked:
        return None
    if asked == names.IMAGENET or asked.endswith(names.FILES):
        source, weights = asked, _published(job)
        mark = fingerprint_of(weights.values())
        whose = f"--init_weights={asked} has"
    else:
        state, theirs = _of_run(job)
        source, mark = f"{asked}, step {state.step}", state.fingerprint
        weights = {place: v.numpy() for place, v in _by_place(theirs).items()}
        whose = f"--init_weights={asked} holds a run and has"
    if first is not None and first.initial_weights != mark:
        raise TrainerError(
            f"--init_weights={asked} has other weights now ({mark[:16]}) than when "
            f"this run began with them ({first.initial_weights[:16]}). Start in another --run_dir."
        )
    copied, missing, unused = copy(weights, job.model)
    if not copied:
        raise TrainerError(
            f"{whose} {counted(len(unused), 'variable')}, and none of them has the path and shape "
            f"of one of --model={job.config.model.model}. Leave --init_weights out, or choose "
            "another model."
        )
    return Transfer(source, mark, copied, missing, unused)


def _published(job: Job) -> dict[Place, np.ndarray]:
    """What a name or a file of --init_weights holds. Raises ModelError."""
    config = job.config
    shape = (config.input.image_size, config.input.image_size, 3)

    def bare() -> keras.Model:
        return build.bare(config.model, shape, len(job.definition.classes))

    with tf.device("CPU:0"):  # on a GPU it would take the place of this run's tensors
        if config.run.init_weights == names.IMAGENET:
            found = published.imagenet(config.model.model)
        else:
            found = published.of_file(Path(config.run.init_weights), config.model.model, bare)
    return {(path, str(each.shape), each.dtype.name, 0): each for path, each in found.items()}


def _of_run(job: Job) -> tuple[State, keras.Model]:
    """The newest sound checkpoint of a run, and its model. Raises TrainerError."""
    run = job.config.run
    folder = Path(run.init_weights)
    source = preflight.check_initial_weights(run, job.config.model.model)
    assert source is not None  # it is neither a name nor a file
    with tf.device("CPU:0"):  # as above
        theirs = assembly.new_model(
            source.config, source.config.input, len(source.classes), source.image_dtype
        )
    checkpoints, workers = Checkpoints(folder, run_dir.identity(source), theirs), job.workers
    own = checkpoints.restore_existing("latest") if workers.chief else None
    state = workers.from_chief(State, own)
    assert state is not None  # worker 0 has restored it, or raised
    if not workers.chief:
        checkpoints.load(state)
    return state, theirs


def copy(
    source: Mapping[Place, np.ndarray], model: keras.Model
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Copies what a model has a variable for, with the same path, shape and dtype.

    Returns how many, the paths of the model's other variables, and of the source's.
    """
    ours = _by_place(model)
    for place in ours.keys() & source.keys():
        ours[place].assign(source[place])
    missing = tuple(path for path, *rest in ours if (path, *rest) not in source)
    unused = tuple(path for path, *rest in source if (path, *rest) not in ours)
    return len(ours) - len(missing), missing, unused


def _by_place(model: keras.Model) -> dict[Place, keras.Variable]:
    """The variables of a model, but for the states of random generators."""
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
