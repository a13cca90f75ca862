"""Run one command in every worker of a cluster: on this machine, on Slurm, or on Kubernetes.

samestep-launch --workers=2 -- samestep-train --data_dir=DATA --run_dir=RUN
samestep-launch --where=slurm --workers=4 --gpus_per_worker=8 --time=12:00:00 -- samestep-train ..
samestep-launch --where=kubernetes --workers=4 --gpus_per_worker=8 --image=IMAGE --claim=CLAIM \\
    -- samestep-train .. > jobset.yaml

The command comes after --, and may be any. When a worker fails all are stopped and started again.
"""

import importlib
import sys
from functools import partial
from itertools import takewhile
from typing import NoReturn

from scripts.doorway import enter
from trainer.errors import TrainerError
from trainer.launch.config import LaunchConfig


def main() -> NoReturn:
    own = list(takewhile(_is_own, sys.argv[1:]))
    rest = sys.argv[1 + len(own) :]
    command = rest[1:] if rest[:1] == ["--"] else []
    sys.argv[1:] = own
    enter(__doc__, partial(launch, command), LaunchConfig)


def _is_own(argument: str) -> bool:
    """Not -- nor, where that was forgotten, one of our commands: it is no flag's value."""
    return argument != "--" and not argument.startswith("samestep-")


def launch(command: list[str], config: LaunchConfig) -> int:
    if not command:
        raise TrainerError(
            "The command is missing. It comes after --, as in samestep-launch --workers=2 -- "
            "samestep-train .."
        )
    module = importlib.import_module(f"trainer.launch.{config.where}")
    return module.launch(command, config)


if __name__ == "__main__":
    main()
