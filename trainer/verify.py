"""A run's receipt, checked: its chain, the checkpoints beside it, and some steps computed again."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from input.errors import BadRecordError
from input.splits import TRAIN
from trainer import receipt, run_dir
from trainer.config import Hardware
from trainer.errors import TrainerError
from trainer.receipt import KINDS, RECEIPT_FILE, Hashes, Line, listed
from trainer.replay import Replay


class Window(NamedTuple):
    """Steps to compute again: those after the first `start` ones, up to the stop-th."""

    start: int
    stop: int


def verify(
    folder: Path,
    hardware: Hardware,
    asked: Window | None = None,
    *,
    model: str = "",
    data_dir: str = "",
    say: Callable[[str], None] = print,
) -> str:
    """Checks the run in a folder against its receipt; returns what is wrong, "" for nothing.

    asked: steps that are to be among those computed again; None: those after the newest checkpoint
    that has a line of the receipt behind it. model, data_dir: of Replay. Raises InputError,
    TrainerError where nothing can be checked.
    """
    definition = run_dir.load(folder)
    found = receipt.load(folder, run_dir.identity(definition))
    if found.fault:
        return f"{RECEIPT_FILE}: {found.fault}"
    if not found.lines:
        raise TrainerError(
            f"{folder} has no receipt yet: a run writes {RECEIPT_FILE} every --hash_every steps "
            "and at the end of each epoch, unless that is 0."
        )
    lines = {line.step: line for line in found.lines}
    say(f"receipt      {len(lines)} lines, steps {min(lines)} to {max(lines)}: an unbroken chain")
    replay = Replay(folder, hardware, model=model, data_dir=data_dir)
    for note in replay.notes():
        say(f"note         {note}")
    if wrong := of_checkpoints({s: each.fingerprint for s, each in replay.states.items()}, lines):
        return wrong
    for name, reason in replay.damaged.items():
        return f"checkpoint {name}: {reason}"
    start, stop = window(list(lines), replay.states, asked)
    say(f"recomputing  steps {start + 1} to {stop}, from {_named(start)}")
    try:
        if wrong := _of_steps(replay, Window(start, stop), lines, say):
            return wrong
    except BadRecordError as error:
        return error.message
    now, before = replay.job.definition.data[TRAIN], definition.data[TRAIN]
    if now != before:
        return f"the training records are others: {now[:16]}, and the run's were {before[:16]}"
    return ""


def _of_steps(
    replay: Replay, window: Window, lines: Mapping[int, Line], say: Callable[[str], None]
) -> str:
    """Computes the steps of a window again; what is wrong with the first that is, "" for none."""
    kinds = KINDS if replay.job.same_bits else KINDS[:2]
    replay.restore(window.start)
    for step in replay.steps(*window):
        number, state = step.hashes.step, replay.states.get(step.hashes.step)
        if number in lines:
            if wrong := of_step(step.hashes, lines[number], kinds, _named(window.start)):
                return wrong
            say(f"step {number:<7} {listed(kinds)} as recorded")
        elif state is not None and "weights" in kinds:
            if state.fingerprint != step.hashes.weights:
                return f"checkpoint step-{number:08d}: not the weights that the run had there"
            say(f"step {number:<7} its checkpoint has these weights")
    return ""


def window(lines: Sequence[int], checkpoints: Collection[int], asked: Window | None) -> Window:
    """What to compute again, so that it ends at a line of the receipt. Raises TrainerError.

    lines: the steps that have one, in order. checkpoints: steps after which there is a sound one.
    """
    if asked is None:
        return Window(max((each for each in checkpoints if each < lines[-1]), default=0), lines[-1])
    start = max((each for each in checkpoints if each <= asked.start), default=0)
    for line in lines:
        if line >= asked.stop:
            return Window(start, line)
    raise TrainerError(
        f"--steps={asked.start + 1}:{asked.stop}: the receipt ends at step {lines[-1]}, and no "
        "later step can be checked."
    )


def of_checkpoints(fingerprints: Mapping[int, str], lines: Mapping[int, Line]) -> str:
    """What is wrong with a checkpoint where there is a line as well; fingerprints: by step."""
    for step, found in fingerprints.items():
        if step in lines and lines[step].weights != found:
            return (
                f"checkpoint step-{step:08d}: its weights are {found[:16]}, the receipt has "
                f"{lines[step].weights[:16]}"
            )
    return ""


def of_step(computed: Hashes, line: Line, kinds: Sequence[str], whence: str) -> str:
    """What is wrong with a step that was computed again, from somewhere; "" for nothing."""
    differing = [kind for kind in computed.differing(line) if kind in kinds]
    if not differing:
        return ""
    same = [kind for kind in kinds if kind not in differing]
    return (
        f"step {line.step}: {listed(differing)} computed again from {whence} are not those of the "
        f"receipt{f', {listed(same)} are' if same else ''}"
    )


def _named(start: int) -> str:
    return f"checkpoint step-{start:08d}" if start else "the initial weights"
