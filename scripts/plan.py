"""Say what a run will take, without training: steps, reading, memory, all-reduce, efficiency.

samestep-plan --data_dir=DATA --model=resnet50 --workers=4 --replicas_per_worker=8
"""

from typing import NoReturn

from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import Config, PlanConfig


def main() -> NoReturn:
    enter(__doc__, plan, Config, PlanConfig)


def plan(config: Config, what: PlanConfig) -> None:
    quiet_tensorflow()
    from rich.console import Console

    from trainer.monitor import card
    from trainer.plan import forecast, rows

    card(Console(highlight=False, soft_wrap=True), "plan", rows(forecast(config, what), what))


if __name__ == "__main__":
    main()
