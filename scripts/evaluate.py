"""Evaluate a run's checkpoint: every record counts once, on any hardware.

samestep-evaluate --run_dir=RUN
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from input.foundation.settings import Matching, check
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer import choice
from trainer.config import Hardware
from trainer.errors import TrainerError
from trainer.workers import discovery


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate."""

    run_dir: choice.Folder = ""
    model: choice.OwnModel = ""
    data_dir: choice.Records = ""
    split: Annotated[str, "Which split of the records."] = "validation"
    checkpoint: choice.Checkpoint = "latest"
    weights: choice.Weights = "auto"
    confusion: Annotated[
        str,
        "FILE.png or FILE.csv to write: how many images of each class were taken for which.",
        Matching(r"(?s)|.+\.(png|csv)", "FILE.png or FILE.csv"),
    ] = ""
    mistakes: Annotated[
        str,
        "FILE.png to write: the images that were most confidently taken for another class.",
        Matching(r"(?s)|.+\.png", "FILE.png"),
    ] = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)
        for name in ("confusion", "mistakes"):
            folder = Path(getattr(self, name)).parent
            if not folder.is_dir():
                raise TrainerError(f"--{name}: there is no folder {folder} to write to.")


def main() -> NoReturn:
    enter(__doc__, evaluate, EvaluateConfig, Hardware, argument="run_dir")


def evaluate(config: EvaluateConfig, hardware: Hardware) -> None:
    from trainer import preflight

    folder = Path(config.run_dir)
    first = preflight.trained(folder, config.model, config.weights)
    preflight.evaluated(first, config.data_dir, config.split)
    quiet_tensorflow(say=discovery.discover(os.environ).index == 0)
    from trainer.evaluate import evaluate_run

    evaluate_run(
        folder,
        hardware,
        model=config.model,
        data_dir=config.data_dir,
        split=config.split,
        checkpoint=config.checkpoint,
        weights=config.weights,
        confusion=config.confusion,
        mistakes=config.mistakes,
    )


if __name__ == "__main__":
    main()
