"""Write one HTML page about a run: curves, mistakes, settings, where its time went.

samestep-report RUN
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from input.foundation.settings import REQUIRED, check
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer.errors import TrainerError


@dataclass(frozen=True)
class ReportConfig:
    """Which run, and where to."""

    run_dir: Annotated[str, "Folder of the run; it may still be training.", REQUIRED] = ""
    page: Annotated[str, "HTML file to write. Unset: report.html in the run's folder."] = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)


def main() -> NoReturn:
    enter(__doc__, report, ReportConfig, argument="run_dir")


def report(config: ReportConfig) -> None:
    from trainer import run_dir

    folder = Path(config.run_dir)
    run_dir.load(folder)
    quiet_tensorflow()
    from trainer.report import page

    path = Path(config.page) if config.page else folder / "report.html"
    page.write(folder, path)
    print(path)


if __name__ == "__main__":
    main()
