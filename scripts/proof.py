"""Show that the promise holds: five runs, on other hardware and through kills, give one result.

python -m scripts.proof --out=proof

Trains the same run on 1, 2 and 4 virtual CPUs; on 2, killed again and again; and killed on 4,
resumed on 2, killed there and finished on 1. Exits with 1 where one bit of the weights differs.
"""

import contextlib
import json
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

from input.errors import InputError
from input.foundation.text import counted
from scripts.demo import PRESET, last_metrics, make_records, module_command, near, show
from scripts.doorway import enter
from trainer import run_dir as run_dirs
from trainer.errors import TrainerError

# A launch that makes no step for this long hangs. Its start takes 8 s on 2 cores, a step 0.2 s.
PATIENCE_SECONDS = 600
# Of the 40 ms that a checkpoint of 1 MB takes there, so that a kill still finds it unfinished.
SAVE_SECONDS = 0.02


@dataclass(frozen=True)
class ProofConfig:
    """What is trained five times."""

    out: Annotated[str, "Folder for the runs; those of an earlier proof are replaced."] = "proof"
    data_dir: Annotated[
        str, "Records to train on. Unset: the demo's digits, made in demo/ where missing."
    ] = ""
    preset: Annotated[
        str, "Flag file of the run; the number of its micro-batches a step must be divisible by 4."
    ] = near(PRESET)
    epochs: Annotated[int, "Passes over the training records."] = 1
    seed: Annotated[int | None, "Of the moments of the kills. Unset: drawn, and shown."] = None


class Kill(NamedTuple):
    """When to end a launch with SIGKILL."""

    step: int  # in the step after this one, or while its checkpoint is written
    saving: bool
    wait: float  # a share of the step's time, or of the writing's


class Run(NamedTuple):
    """One of the five: its launches, of which every one but the last is killed."""

    name: str
    virtual_cpus: tuple[int, ...]  # of each launch
    early: bool = False  # whether the first kill comes before the first checkpoint

    @property
    def hardware(self) -> str:
        """1 CPU; or 4, 2, 1 CPUs."""
        steady = len(set(self.virtual_cpus)) == 1
        counts = self.virtual_cpus[:1] if steady else self.virtual_cpus
        *before, last = counts
        return ", ".join([*map(str, before), counted(last, "CPU") if steady else f"{last} CPUs"])


REFERENCE = Run("1-cpu", (1,))
OTHERS = (
    Run("2-cpus", (2,)),
    Run("4-cpus", (4,)),
    Run("killed", (2, 2, 2, 2, 2), early=True),
    Run("moved", (4, 2, 1)),
)


class Outcome(NamedTuple):
    """How a run ended."""

    run: Run
    kills: list[str]  # the step of each, and what was being done
    accuracy: float
    fingerprint: str


def main() -> NoReturn:
    enter(__doc__, proof, ProofConfig)


def proof(what: ProofConfig) -> int:
    out, data_dir = Path(what.out), what.data_dir or make_records(Path("demo"))
    seed = secrets.randbelow(10**6) if what.seed is None else what.seed
    print(f"\nThe moments of the kills are drawn with --seed={seed}.")
    moments = random.Random(seed)
    flags = [f"--flagfile={what.preset}", f"--data_dir={data_dir}", f"--epochs={what.epochs}"]

    outcomes = [_perform(REFERENCE, out, flags, [])]
    total = last_metrics(out / REFERENCE.name)["step"]
    # What the start card says: with these two it is the same run elsewhere.
    first = run_dirs.load(out / REFERENCE.name).config
    flags.append(f"--micro_batch_size={first.input.micro_batch_size}")
    flags.append(f"--intra_op_threads={first.run.intra_op_threads}")
    every = max(2, total // 6)
    for run in OTHERS:
        kills = draw_kills(run, total, every, moments)
        often = [f"--checkpoint_every_steps={every}", "--log_every_steps=1"] if kills else []
        outcomes.append(_perform(run, out, [*flags, *often], kills))
    return _judge(outcomes)


def draw_kills(run: Run, total: int, every: int, moments: random.Random) -> list[Kill]:
    """The kills of a run of `total` steps with a checkpoint after `every` so many, in their order.

    An early one before the first checkpoint, one while a checkpoint is written, the others at any
    step between the first checkpoint and the end. Raises InputError where there are too few steps.
    """
    count = len(run.virtual_cpus) - 1
    late = range(every + 1, total - 1)
    if len(late) < 2 * count:
        raise InputError(
            f"{counted(total, 'step')} are too few for {counted(count, 'kill')}. Set --epochs."
        )
    if not count:
        return []
    save = moments.choice([step for step in late if step % every == 0])
    others = [step for step in late if step != save]
    steps = [save, *moments.sample(others, count - 1 - run.early)]
    if run.early:
        steps.append(moments.randrange(1, every))
    return [Kill(step, step == save, moments.random()) for step in sorted(steps)]


def _perform(run: Run, out: Path, flags: Sequence[str], kills: Sequence[Kill]) -> Outcome:
    """One run, from its first launch to its end."""
    start = time.monotonic()
    run_dir, log = out / run.name, out / f"{run.name}.log"
    if run_dir.exists():
        if not (run_dir / ".lock").is_file():  # the first thing that a launch makes
            raise InputError(f"{run_dir} is in the way, and no run. Choose another --out.")
        shutil.rmtree(run_dir)
    out.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    happened: list[str] = []
    shown: list[str] = []
    for virtual_cpus, kill in zip(run.virtual_cpus, [*kills, None], strict=True):
        arguments = [*flags, f"--run_dir={run_dir}", f"--virtual_cpus={virtual_cpus}"]
        if arguments == shown:
            print("  the same command again")
        else:
            show(["samestep-train", *arguments])
        shown = arguments
        _launch(run_dir, log, arguments, kill)
        if kill is not None:
            happened.append(_place(run_dir))
            print(f"  SIGKILL at step {happened[-1]}", flush=True)
    metrics, seconds = last_metrics(run_dir), time.monotonic() - start
    accuracy, fingerprint = metrics["validation/accuracy"], metrics["fingerprint"]
    print(f"  finished: accuracy {accuracy:.4f}, weights {fingerprint[:16]}, {seconds:.0f} s")
    return Outcome(run, happened, accuracy, fingerprint)


def _launch(run_dir: Path, log: Path, arguments: Sequence[str], kill: Kill | None) -> None:
    """Runs samestep-train to its end or its kill. Raises TrainerError where it ends otherwise."""
    step, news = _newest(run_dir)["step"], time.monotonic()
    if kill is not None and kill.step <= step:  # the kill before came late
        kill = Kill(step + 1, False, kill.wait)
    argv = module_command("samestep-train", *arguments)
    with log.open("ab") as file, subprocess.Popen(argv, stdout=file, stderr=file) as process:
        try:
            while process.poll() is None:
                if kill is not None and _is_time(run_dir, kill, step):
                    seconds = SAVE_SECONDS if kill.saving else _newest(run_dir)["seconds_per_step"]
                    time.sleep(kill.wait * seconds)
                    break
                if time.monotonic() - news > PATIENCE_SECONDS:
                    raise TrainerError(f"{run_dir}: no step after {step} for so long. See {log}.")
                time.sleep(0.002)
                if step != (step := _newest(run_dir)["step"]):
                    news = time.monotonic()
        finally:
            process.kill()
    if kill is not None and process.returncode == 0:
        raise TrainerError(f"{run_dir} was faster than its kill. Set more --epochs.")
    if process.returncode != (0 if kill is None else -signal.SIGKILL):
        lines = "".join(f"\n  {line}" for line in log.read_text().splitlines()[-5:])
        raise TrainerError(
            f"samestep-train ended with code {process.returncode}. Its last lines, of {log}:{lines}"
        )


def _is_time(run_dir: Path, kill: Kill, step: int) -> bool:
    if kill.saving and step <= kill.step:
        return _unfinished_checkpoint(run_dir, kill.step).exists()
    return step >= kill.step


def _place(run_dir: Path) -> str:
    """Where a run was killed."""
    step = _newest(run_dir)["step"]
    if _unfinished_checkpoint(run_dir, step).exists():
        return f"{step} (saving)"
    saved = [path for path in (run_dir / "checkpoints").glob("step-*") if not path.suffix]
    return f"{step}" if saved else f"{step} (unsaved)"


def _unfinished_checkpoint(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:08d}.incomplete"


def _newest(run_dir: Path) -> dict[str, Any]:
    """The last whole training line of metrics.jsonl. A kill may have cut a line short."""
    path = run_dir / "metrics.jsonl"
    for line in reversed(path.read_text().splitlines() if path.is_file() else []):
        with contextlib.suppress(ValueError):
            metrics = json.loads(line)
            if "seconds_per_step" in metrics:
                return metrics
    return {"step": 0}


def _judge(outcomes: Sequence[Outcome]) -> int:
    """Shows the table and the verdict. Returns the exit code."""
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "hardware", "killed at step", "accuracy", "weights (SHA-256)")
    for run, kills, accuracy, fingerprint in outcomes:
        where = ", ".join(kills) or "never"
        table.add_row(run.name, run.hardware, where, f"{accuracy:.4f}", fingerprint[:16])
    print()
    # Where the width is not known, enough for every row to stay on its line.
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)
    fingerprints = {outcome.fingerprint for outcome in outcomes}
    if len(fingerprints) > 1:
        print(f"BROKEN: {len(fingerprints)} different results, {', '.join(sorted(fingerprints))}")
        return 1
    print(f"PROVED: {len(outcomes)} runs, 1 result, every bit of it: {fingerprints.pop()}")
    return 0


if __name__ == "__main__":
    main()
