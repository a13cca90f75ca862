"""Workers as the tasks of a Slurm batch job, which is requeued until the run is complete."""

import shlex
import subprocess
from collections.abc import Iterator, Sequence

from trainer.errors import PreemptedError, TrainerError
from trainer.launch.config import LaunchConfig


def launch(command: Sequence[str], config: LaunchConfig) -> int:
    """Submits the batch script, or prints it with --dry_run. Raises TrainerError."""
    script = "\n".join([*batch_script(command, config), ""])
    if config.dry_run:
        print(script, end="")
        return 0
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise TrainerError(f"sbatch refuses: {said.strip()}. --dry_run shows the script.") from None
    print(done.stdout, end="")
    return 0


def batch_script(command: Sequence[str], config: LaunchConfig) -> Iterator[str]:
    """The lines of the script.

    Slurm sends SIGTERM to the tasks ahead of the time limit; they save and end with 75. Then, and
    after a failure, the job requeues itself; after the failure of a node, Slurm does.
    """
    logs = shlex.quote(config.logs)
    yield "#!/bin/bash"
    yield f"#SBATCH --job-name={config.name}"
    yield f"#SBATCH --ntasks={config.workers}"
    if config.gpus_per_worker:
        yield f"#SBATCH --gpus-per-task={config.gpus_per_worker}"
    if config.cpus_per_worker:
        yield f"#SBATCH --cpus-per-task={config.cpus_per_worker}"
    if config.time:
        yield f"#SBATCH --time={config.time}"
    yield f"#SBATCH --signal=TERM@{config.grace_seconds}"
    yield "#SBATCH --requeue"
    yield "#SBATCH --open-mode=append"
    yield f"#SBATCH --output={config.logs}/%x-%j.log"
    if config.sbatch:
        yield f"#SBATCH {config.sbatch}"
    yield ""
    yield "stopped=no"
    yield "trap 'stopped=yes' TERM  # scancel, or Slurm's own preemption, which requeues by itself"
    yield f"srun --kill-on-bad-exit=1 --label --distribution=block {shlex.join(command)}"
    yield "code=$?"
    yield f'failures={logs}/"$SLURM_JOB_NAME-$SLURM_JOB_ID.failures"'
    yield f"case $stopped-$code in yes-*|no-0|no-{TrainerError.exit_code}) exit $code ;; esac"
    yield f'[ $code = {PreemptedError.exit_code} ] || echo "exit code $code" >> "$failures"'
    yield f'if [ "$(cat "$failures" 2>/dev/null | wc -l)" -le {config.max_restarts} ]; then'
    yield '  scontrol requeue "$SLURM_JOB_ID"'
    yield "fi"
    yield "exit $code"
