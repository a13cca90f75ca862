"""The settings of samestep-doctor."""

from dataclasses import dataclass
from typing import Annotated, Literal

from input.foundation.settings import AtLeast, Section, check
from trainer.errors import TrainerError


@dataclass(frozen=True)
class Examination:
    """What samestep-doctor looks at, and how it says what it has found."""

    checks: Annotated[
        Literal["all", "run"],
        "all: versions, workers, clock, disks, records and rates too; run: only what the run's "
        "settings, its devices and one step tell.",
        Section("Checks"),
    ] = "all"
    json: Annotated[
        bool, "One JSON object on stdout, {verdict, checks: [{check, verdict, found}, ..]}."
    ] = False
    trace_gpus: Annotated[
        int,
        "GPUs, here or not, to trace the step for: operations that would not run there, kernels, "
        "copies to the host. A minute for a large model; 0 leaves it out.",
        AtLeast(0),
    ] = 0

    def __post_init__(self) -> None:
        check(self, TrainerError)
