"""The batch script that samestep-launch --where=slurm submits; without a Slurm."""

import os
import shlex
import subprocess
from dataclasses import replace

import pytest

from tests.conftest import error
from trainer.launch import slurm
from trainer.launch.config import LaunchConfig

CONFIG = LaunchConfig(where="slurm", workers=4, name="digits", dry_run=True)
COMMAND = ["samestep-train", "--data_dir=/my data", "--run_dir=run"]


def options(config: LaunchConfig) -> list[str]:
    """What the script asks of sbatch."""
    lines = slurm.batch_script(COMMAND, config)
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


def test_what_is_always_asked_for():
    assert options(CONFIG) == [
        "--job-name=digits",
        "--ntasks=4",
        "--signal=TERM@30",
        "--requeue",
        "--open-mode=append",
        "--output=logs/%x-%j.log",
    ]


@pytest.mark.parametrize(
    ("setting", "value", "option"),
    [
        ("gpus_per_worker", 8, "--gpus-per-task=8"),
        ("cpus_per_worker", 16, "--cpus-per-task=16"),
        ("time", "12:00:00", "--time=12:00:00"),
        ("sbatch", "--partition=a100 --mem=0", "--partition=a100 --mem=0"),
        ("grace_seconds", 90, "--signal=TERM@90"),
    ],
)
def test_a_setting_is_an_option(setting, value, option):
    assert option not in options(CONFIG)
    assert option in options(replace(CONFIG, **{setting: value}))


def test_the_command_is_run_as_it_was_given():
    (srun,) = [line for line in slurm.batch_script(COMMAND, CONFIG) if line.startswith("srun ")]
    words = shlex.split(srun)
    assert words == ["srun", "--kill-on-bad-exit=1", "--label", "--distribution=block", *COMMAND]


def test_a_dry_run_prints_the_script_and_submits_nothing(capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)  # would raise
    assert slurm.launch(COMMAND, CONFIG) == 0
    assert capsys.readouterr().out.splitlines() == list(slurm.batch_script(COMMAND, CONFIG))


@pytest.fixture
def run_script(tmp_path):
    """Runs the script with commands of ours for Slurm's: (exit code, whether it requeued)."""
    logs = tmp_path / "my logs"
    logs.mkdir()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    requeued = tmp_path / "requeued"

    def command(name: str, body: str) -> None:
        (bin_ / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_ / name).chmod(0o755)

    def run(srun: str, max_restarts: int = 1) -> tuple[int, bool]:
        command("srun", srun)
        command("scontrol", f'echo "$@" > {requeued}')
        requeued.unlink(missing_ok=True)
        config = replace(CONFIG, logs=str(logs), max_restarts=max_restarts)
        done = subprocess.run(
            ["bash", "-c", "\n".join(slurm.batch_script(COMMAND, config))],
            env={
                **os.environ,
                "PATH": f"{bin_}:{os.environ['PATH']}",
                "SLURM_JOB_ID": "7",
                "SLURM_JOB_NAME": "digits",
            },
        )
        if requeued.is_file():
            assert requeued.read_text() == "requeue 7\n"
        return done.returncode, requeued.is_file()

    return run


@pytest.mark.parametrize(
    ("srun", "code", "again"),
    [
        ("exit 0", 0, False),
        ("exit 2", 2, False),  # a wrong setting stays wrong
        ("exit 1", 1, True),
        ("exit 75", 75, True),
        # scancel: the script has the SIGTERM too.
        ("kill -TERM $PPID; exit 75", 75, False),
        ("kill -TERM $PPID; exit 143", 143, False),
    ],
)
def test_a_job_is_requeued_after_a_failure_and_after_a_preemption(run_script, srun, code, again):
    assert run_script(srun) == (code, again)


def test_failures_are_counted_over_requeues_and_preemptions_are_not(run_script):
    ends = ["exit 75", "exit 1", "exit 75", "exit 1", "exit 75", "exit 1", "exit 75"]
    assert [run_script(end, max_restarts=2)[1] for end in ends] == [
        *([True] * 5),
        False,
        False,
    ]


def test_without_a_restart_the_first_failure_is_the_last(run_script):
    assert run_script("exit 75", max_restarts=0) == (75, True)
    assert run_script("exit 1", max_restarts=0) == (1, False)


def test_a_missing_or_refusing_sbatch_is_named(tmp_path, monkeypatch):
    submitting = replace(CONFIG, dry_run=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error(slurm.launch, COMMAND, submitting) == (
        "sbatch refuses: [Errno 2] No such file or directory: 'sbatch'. --dry_run shows the script."
    )
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'no such partition' >&2; exit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert error(slurm.launch, COMMAND, submitting).startswith("sbatch refuses: no such partition.")


def test_what_sbatch_says_is_shown_and_it_gets_the_script(tmp_path, monkeypatch, capsys):
    (tmp_path / "sbatch").write_text(
        f'#!/bin/bash\nwhile read -r line; do echo "$line"; done > {tmp_path}/script\n'
        "echo Submitted batch job 7\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm.launch(COMMAND, replace(CONFIG, dry_run=False)) == 0
    assert capsys.readouterr().out == "Submitted batch job 7\n"
    expected = [line.strip() for line in slurm.batch_script(COMMAND, CONFIG)]
    assert (tmp_path / "script").read_text().splitlines() == expected
