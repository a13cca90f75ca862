"""Steps without finite gradients, many in a row: what a run does about them, and its log.

incidents.jsonl has a line for each. It decides which records are left out from there on, so that a
run that is resumed leaves out the same ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from input import order
from input.foundation import durable, typed_json
from input.order import Plan
from trainer import run_dir
from trainer.config import RunConfig
from trainer.errors import TrainerError
from trainer.state import State

INCIDENTS_FILE = "incidents.jsonl"
MOST = 2**26  # bytes of it
ROLLBACKS = 3  # of a run; more mean that the records are not to blame
SHOWN = 8


@dataclass(frozen=True)
class Incident:
    """Steps in a row that were skipped, and the checkpoint that the run went back to."""

    first_step: int
    last_step: int
    back_to: int  # steps done; the run goes on from there, without the records of these steps
    records: int  # how many those are


@dataclass(frozen=True)
class Incidents:
    """All of a run, the oldest first."""

    found: tuple[Incident, ...] = ()

    def made_void(self, state: State) -> bool:
        """Whether an incident after a checkpoint went back to before it."""
        return any(state.step > each.back_to for each in self.found[state.incidents :])

    def before(self, step: int) -> "Incidents":
        """Those after which a step, whose number counts from 0, was computed for the last time."""
        count = max((n for n, each in enumerate(self.found, 1) if each.back_to <= step), default=0)
        return Incidents(self.found[:count])


class RollBackError(Exception):
    """Not a fault: the run is to go on from an earlier checkpoint; its incident is in the log."""


def load(folder: Path) -> Incidents:
    """A run's incidents. Raises TrainerError where their file is damaged."""
    path = folder / INCIDENTS_FILE
    try:
        lines = durable.read(path, MOST).splitlines()
    except FileNotFoundError:
        return Incidents()
    try:
        return Incidents(tuple(typed_json.loads(Incident, line, str(path)) for line in lines))
    except typed_json.JsonError as error:
        raise TrainerError(
            f"{error}. The file says which records the run leaves out: put back a copy of it, or "
            "start in another --run_dir."
        ) from None


def add(folder: Path, incident: Incident) -> None:
    """Adds a line, on the disk when this returns. Raises TrainerError."""
    with run_dir.writing(folder):
        text = json.dumps(json.loads(typed_json.dump(incident)), sort_keys=False)
        durable.append(folder / INCIDENTS_FILE, text + "\n")


def act(
    skipped: range,
    before: Incidents,
    run: RunConfig,
    plan: Plan,
    last_of_an_epoch: Callable[[int], int],
    say: Callable[[str], None] | None,
) -> NoReturn:
    """Does what --nan_policy says of so many skipped steps. Raises TrainerError or RollBackError.

    last_of_an_epoch: step -> the newest checkpoint of an epoch's end that is not after it. say: of
    worker 0, which alone writes the log; None: another worker.
    """
    records = records_of(skipped.start, skipped.stop - 1, plan, run.seed)
    said = words(skipped, records)
    if run.nan_policy == "stop":
        raise TrainerError(
            f"{said}. Look at them (samestep-records show), lower --learning_rate, or start in "
            "another --run_dir with --nan_policy=rollback."
        )
    if len(before.found) == ROLLBACKS:
        raise TrainerError(
            f"{said}. The run has gone back {ROLLBACKS} times already: its records are not to "
            "blame. Lower --learning_rate, add --warmup_epochs or --clip_norm."
        )
    if say is not None:
        back_to = last_of_an_epoch(skipped.start)
        incident = Incident(skipped.start, skipped.stop - 1, back_to, len(records))
        add(Path(run.run_dir), incident)
        say(f"{said}; the run goes on from step {back_to} without them")
    raise RollBackError


def records_of(first_step: int, last_step: int, plan: Plan, seed: int) -> list[int]:
    """The records of some steps, sorted; those that are left out already are not among them."""
    found: set[int] = set()
    for step in range(first_step, last_step + 1):
        for number in range(plan.micro_batches):
            found.update(order.training_records(step, number, plan, seed)[1].tolist())
    return sorted(found - {-1})


def left_out(incidents: Incidents, plan: Plan, seed: int) -> frozenset[int]:
    """The records that a run leaves out after its incidents."""
    found: frozenset[int] = frozenset()
    for incident in incidents.found:
        own = records_of(incident.first_step, incident.last_step, plan, seed)
        found |= frozenset(own)
    return found


def words(steps: range, records: list[int]) -> str:
    """An incident in one line."""
    more = f" and {len(records) - SHOWN} more" if len(records) > SHOWN else ""
    some = ", ".join(map(str, records[:SHOWN]))
    return (
        f"steps {steps.start} to {steps.stop - 1} had no finite loss or gradients; their records "
        f"are {some}{more}"
    )
