"""The settings of samestep-launch. No TensorFlow here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from input.foundation.settings import AtLeast, Matching, check
from trainer.errors import TrainerError


@dataclass(frozen=True)
class LaunchConfig:
    """Where the workers of a run are started, and what happens when one fails."""

    where: Annotated[
        Literal["local", "slurm", "kubernetes"],
        "local: here; slurm: a batch job; kubernetes: prints a JobSet.",
    ] = "local"
    workers: Annotated[int, "Processes of the run, one command each.", AtLeast(1)] = 1
    gpus_per_worker: Annotated[
        int | None,
        "GPUs of each worker. Unset, on this machine: all there are, divided evenly.",
        AtLeast(0),
    ] = None
    max_restarts: Annotated[
        int,
        "Restarts of all workers in a row, after a failure or a preemption, without a new step "
        "saved. On Slurm and Kubernetes: after failures, all together.",
        AtLeast(0),
    ] = 3
    grace_seconds: Annotated[
        int,
        "Time from SIGTERM to SIGKILL: longer than a few steps and a checkpoint take.",
        AtLeast(1),
    ] = 30
    logs: Annotated[str, "Folder that gets a log of each worker, or of each Slurm job."] = "logs"
    name: Annotated[
        str,
        "Name of the Slurm job or the JobSet.",
        # A label of DNS, with room for what JobSet adds to it.
        Matching(
            r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?",
            "1 to 40 lower-case letters, digits and -, a letter first",
        ),
    ] = "samestep"
    cpus_per_worker: Annotated[
        int | None, "CPU cores of each worker, on Slurm and Kubernetes.", AtLeast(1)
    ] = None
    time: Annotated[str, "Slurm's time limit, as in 12:00:00."] = ""
    sbatch: Annotated[str, "Further options of sbatch, as in '--partition=a100 --mem=0'."] = ""
    dry_run: Annotated[bool, "Print Slurm's batch script, and submit nothing."] = False
    image: Annotated[str, "Container image of the JobSet, with samestep in it."] = ""
    claim: Annotated[str, "PersistentVolumeClaim that holds data_dir and run_dir."] = ""
    mount: Annotated[str, "Path at which the JobSet's workers see the claim."] = "/data"
    memory: Annotated[str, "Memory of each of the JobSet's workers, as in 64Gi."] = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)
        if self.where == "kubernetes" and not (self.image and self.claim):
            raise TrainerError(
                "--where=kubernetes needs --image=IMAGE with samestep in it, and --claim=CLAIM, a "
                "volume that all workers share."
            )
