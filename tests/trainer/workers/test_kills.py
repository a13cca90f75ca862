"""Kills of workers, at any moment: the weights of a run that was never killed. make test-kill"""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import write_section
from tests.trainer.workers.runs import EPOCHS_TO_KILL, Launch, fingerprint, steps_done

RUNS_TO_KILL = 7
SEED = random.SystemRandom().randrange(10**6)


@pytest.mark.kill
def test_a_run_moves_from_2x2_to_1x4_to_4x1(weights_on_one_cpu, data_dir, tmp_path):
    run = tmp_path / "run"
    for workers, cpus, after in ((2, 2, 12), (1, 4, 40)):
        launch = Launch(data_dir, run, workers, cpus, EPOCHS_TO_KILL)
        assert launch.until(lambda run, after=after: steps_done(run) >= after)
        launch.process.terminate()
        assert launch.wait() == 75, launch.log.read_text()
        assert "stopped by SIGTERM after step" in launch.log.read_text()
    last = Launch(data_dir, run, 4, 1, EPOCHS_TO_KILL)
    assert last.wait() == 0, last.log.read_text()
    assert fingerprint(run) == weights_on_one_cpu


class Kill(NamedTuple):
    """One disturbance of a launch of two workers."""

    what: str  # as the table names it
    worker: int
    moment: Callable[[Path, int], object]  # run, step -> whether it is time
    number: signal.Signals = signal.SIGKILL


def at_start(run: Path, step: int) -> bool:
    return True  # as soon as the process is there


def between_steps(run: Path, step: int) -> bool:
    return steps_done(run) >= step


def while_saving(run: Path, step: int) -> bool:
    folders = (run / "checkpoints").glob("step-*.incomplete")
    return any(int(path.stem.removeprefix("step-")) >= step for path in folders)


def while_evaluating(run: Path, step: int) -> bool:
    """Between an epoch's checkpoint and the note of its evaluation."""
    for path in (run / "checkpoints").glob("step-????????/state.json"):
        number = int(path.parent.name.removeprefix("step-"))
        if number >= step and number % 5 == 0:
            try:
                return json.loads(path.read_text())["evaluation"] is None
            except (OSError, ValueError):
                continue
    return False


MOMENTS = {
    "at its start": at_start,
    "between steps": between_steps,
    "while a checkpoint is written": while_saving,
    "during the evaluation": while_evaluating,
}
KILLS = [
    Kill(f"SIGKILL of {'the chief' if worker == 0 else 'worker 1'} {when}", worker, moment)
    for when, moment in MOMENTS.items()
    for worker in (0, 1)
]


def disturb(launch: Launch, kills: list[Kill], steps: list[int]) -> list[tuple[str, int, float]]:
    """Sends each kill at its moment: (what, step, seconds until the run made a new step)."""
    outcomes, gone = [], set()
    for kill, step in zip(kills, steps, strict=True):
        fresh = lambda _, k=kill, old=gone: launch.workers().get(k.worker, 0) not in {0} | old  # noqa: E731
        assert launch.until(fresh)
        assert launch.until(lambda run, k=kill, s=step: k.moment(run, s)), "the run was faster"
        process, start = launch.workers()[kill.worker], time.monotonic()
        before = steps_done(launch.run)
        os.kill(process, kill.number)
        gone |= set(launch.workers().values()) | {process}
        launch.until(lambda run, b=before: steps_done(run) > b)
        outcomes.append((kill.what, before, time.monotonic() - start))
    return outcomes


def test_kills_end_in_restarts_and_the_same_weights(weights_on_one_cpu, data_dir, tmp_path):
    """The short matrix; make test-kill has the whole."""
    print(f"seed {SEED}")
    chosen = random.Random(SEED).sample(KILLS[2:], 2)
    launch = Launch(data_dir, tmp_path / "run", 2, 1, EPOCHS_TO_KILL)
    disturb(launch, chosen, [20, 70])
    assert launch.wait() == 0, launch.log.read_text()
    said = launch.log.read_text()
    assert said.count("ended by SIGKILL. Its last lines:") == 2
    assert said.count("samestep-launch: restart in 1 s, after step ") == 2  # new ones were saved
    assert fingerprint(launch.run) == weights_on_one_cpu


@pytest.mark.kill
def test_the_kill_matrix(weights_on_one_cpu, data_dir, tmp_path, request):
    """Every kind of kill nearly three times, and a worker that hangs; docs/reliability.md."""
    choose = random.Random(SEED)
    print(f"seed {SEED}")
    rows = []
    stop = Kill("SIGSTOP of worker 1 between steps", 1, between_steps, signal.SIGSTOP)
    drawn = [kill for _ in range(3) for kill in choose.sample(KILLS, len(KILLS))]
    # Three a run: the launcher waits longer before each restart.
    for number in range(RUNS_TO_KILL):
        kills = drawn[3 * number : 3 * number + 3] + [stop] * (number == 0)
        width = (EPOCHS_TO_KILL * 5 - 10) // len(kills)
        steps = [i * width + choose.randrange(1, width // 2) for i in range(len(kills))]
        launch = Launch(
            data_dir, tmp_path / f"run{number}", 2, 1, EPOCHS_TO_KILL, "--max_restarts=99"
        )
        rows += disturb(launch, kills, steps)
        assert launch.wait() == 0, launch.log.read_text()
        assert fingerprint(launch.run) == weights_on_one_cpu
    page = request.config.getoption("--kill-table")
    if page:
        write_section(Path(page), "Killed workers", section(rows, weights_on_one_cpu))


def section(rows: list[tuple[str, int, float]], weights: str) -> list[str]:
    """Of docs/reliability.md."""
    return [
        "Written by `make test-kill`.",
        "",
        f"{RUNS_TO_KILL} runs of 150 steps of `samestep-launch --workers=2 -- samestep-train ..`,",
        "with a checkpoint every 3 steps, killed at random moments; the launcher restarts them.",
        f"{len(rows)} kills ended in the weights of the run on one CPU that was never killed:",
        f"`{weights}`.",
        "",
        "| what | last step before | seconds to the next new step |",
        "| --- | --- | --- |",
        *(f"| {what} | {step} | {seconds:.0f} |" for what, step, seconds in rows),
    ]
