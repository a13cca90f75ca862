"""Export a run's checkpoint as a SavedModel: JPEG or PNG bytes in, probabilities out.

samestep-export --run_dir=RUN --out=MODEL
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from input.foundation.settings import REQUIRED, check
from scripts.doorway import enter
from scripts.interruption import cleaning_up
from scripts.quiet import quiet_tensorflow
from trainer import choice
from trainer.errors import TrainerError


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and where to."""

    run_dir: choice.Folder = ""
    out: Annotated[str, "Folder to write the SavedModel to; must not exist yet.", REQUIRED] = ""
    model: choice.OwnModel = ""
    checkpoint: choice.Checkpoint = "latest"
    weights: choice.Weights = "auto"

    def __post_init__(self) -> None:
        check(self, TrainerError)


def main() -> NoReturn:
    enter(__doc__, export, ExportConfig, argument="run_dir")


def export(config: ExportConfig) -> None:
    from trainer import preflight

    folder, out = Path(config.run_dir), Path(config.out)
    preflight.exported(folder, out, config.model, config.weights)
    quiet_tensorflow()
    from trainer.export import export_run

    with cleaning_up():
        export_run(folder, out, config.checkpoint, config.model, config.weights)


if __name__ == "__main__":
    main()
