"""Export a run's checkpoint as a SavedModel: JPEG or PNG bytes in, probabilities out.

samestep-export --run_dir=RUN --out=MODEL
"""

from typing import NoReturn

from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.config import ExportConfig


def main() -> NoReturn:
    enter(__doc__, export, ExportConfig)


def export(what: ExportConfig) -> None:
    quiet_tensorflow()
    from trainer.export import export_run

    export_run(what)


if __name__ == "__main__":
    main()
