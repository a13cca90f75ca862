"""Say what a run will take, without training: steps, reading, memory, all-reduce, efficiency.

samestep-plan --data_dir=DATA --model=resnet50 --workers=4 --replicas_per_worker=8
"""

from dataclasses import dataclass
from typing import Annotated, NoReturn

from input.foundation.settings import Above, AtLeast, check
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import Config, Hardware
from trainer.errors import TrainerError


@dataclass(frozen=True)
class PlanConfig:
    """Hardware that a run is planned for."""

    workers: Annotated[int, "Processes of the run.", AtLeast(1)] = 1
    replicas_per_worker: Annotated[int, "Devices of each worker.", AtLeast(1)] = 1
    images_per_second: Annotated[
        float | None,
        "Of one replica alone, as samestep-train shows it. Unset: no times.",
        Above(0),
    ] = None
    bandwidth_gigabits: Annotated[float, "Between two workers, in Gbit/s.", Above(0)] = 100.0

    def __post_init__(self) -> None:
        check(self, TrainerError)


def main() -> NoReturn:
    enter(__doc__, plan, Config, PlanConfig, required=("data_dir",))


def plan(config: Config, hardware: PlanConfig) -> None:
    from trainer import preflight

    replicas = hardware.workers * hardware.replicas_per_worker
    preflight.check(config, Hardware(virtual_cpus=replicas))
    quiet_tensorflow()
    from rich.console import Console

    from trainer.forecast import forecast, rows
    from trainer.monitor import card

    found = forecast(config, **vars(hardware))
    card(Console(highlight=False, soft_wrap=True), "plan", rows(found))


if __name__ == "__main__":
    main()
