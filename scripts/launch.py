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
from typing import NoReturn

from scripts.doorway import enter
from trainer.errors import TrainerError
from trainer.launch.config import LaunchConfig


def main() -> NoReturn:
    here = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    command, sys.argv = sys.argv[here + 1 :], sys.argv[:here]
    enter(__doc__, partial(launch, command), LaunchConfig)


def launch(command: list[str], config: LaunchConfig) -> int:
    if not command:
        raise TrainerError("The command is missing: samestep-launch --workers=2 -- COMMAND.")
    module = importlib.import_module(f"trainer.launch.{config.where}")
    return module.launch(command, config)


if __name__ == "__main__":
    main()
