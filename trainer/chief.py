"""What worker 0 reads and writes for all workers: checkpoints, and what the run is."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trainer import run_dir, transfer
from trainer.assembly import Job
from trainer.checkpoint import Checkpoints
from trainer.config import RunDefinition
from trainer.fingerprint import fingerprint
from trainer.incidents import Incidents
from trainer.state import State
from trainer.workers.agreement import Workers


def restore(checkpoints: Checkpoints, workers: Workers, before: Incidents) -> State | None:
    """The newest checkpoint that worker 0 finds sound, loaded by every worker."""
    if workers.chief and before.found:
        checkpoints.drop(before.made_void)
    state = workers.from_chief(State, checkpoints.restore() if workers.chief else None)
    if state is not None and not workers.chief:
        checkpoints.load(state)
    return state


def define(
    job: Job, first: RunDefinition | None, transferred: transfer.Transfer | None
) -> RunDefinition:
    """What config.json says from here on: what the first launch wrote, but for --epochs."""
    now = run_dir.extended(first, job.config) if first else job.definition
    if first is None and transferred:
        now = dataclasses.replace(now, initial_weights=transferred.fingerprint)
    if job.workers.chief and now != first:
        run_dir.save(Path(job.config.run.run_dir), now)
    return now


def save(
    checkpoints: Checkpoints,
    done: int,
    job: Job,
    before: State | None,
    **known: Any,
) -> State:
    """Worker 0 writes the checkpoint of a step; the others wait until it is there."""
    workers = job.workers
    if workers.count > 1:
        own = int(fingerprint(job.model)[:15], 16)
        gathered = workers.gather([own])[:, 0]
        others = np.flatnonzero(gathered != gathered[0])
        if len(others):
            raise RuntimeError(
                f"After step {done} the workers {others.tolist()} have other weights than worker "
                "0. Their hardware may be at fault; if it is not, please report this."
            )
    own_state = checkpoints.save(done, before, **known) if workers.chief else None
    saved = workers.from_chief(State, own_state)
    assert saved is not None  # worker 0 has saved it, or raised
    return saved
