"""Check a run against its receipt: compute some of its steps again, and compare their hashes.

samestep-verify RUN --steps=1000:1010

Ends with 0 where all is as recorded, with 1 where something is not, and names the step and what.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from input.foundation.settings import Matching, check
from input.foundation.text import one_line
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer import choice
from trainer.config import Hardware
from trainer.errors import TrainerError


@dataclass(frozen=True)
class VerifyConfig:
    """What to verify."""

    run_dir: choice.Folder = ""
    steps: Annotated[
        str | None,
        "First and last step that are to be computed again. It starts at the checkpoint before "
        "them and ends at the next line of receipt.jsonl. Unset: from the newest checkpoint that "
        "has a line behind it to the last line.",
        Matching(r"[1-9]\d*:[1-9]\d*", "two steps, as 1000:1010"),
    ] = None
    model: choice.OwnModel = ""
    data_dir: choice.Records = ""

    def __post_init__(self) -> None:
        check(self, TrainerError)
        if self.steps is not None and self.first > self.last:
            raise TrainerError(f"--steps={self.steps} ends before it begins.")

    @property
    def first(self) -> int:
        return int((self.steps or "").partition(":")[0])

    @property
    def last(self) -> int:
        return int((self.steps or "").partition(":")[2])


def main() -> NoReturn:
    enter(__doc__, verify, VerifyConfig, Hardware, argument="run_dir")


def verify(config: VerifyConfig, hardware: Hardware) -> int:
    quiet_tensorflow()
    from trainer import verify as verification

    asked = None if config.steps is None else verification.Window(config.first - 1, config.last)
    folder = Path(config.run_dir)
    wrong = verification.verify(
        folder, hardware, asked, model=config.model, data_dir=config.data_dir
    )
    print(one_line(f"NOT VERIFIED {wrong}" if wrong else f"VERIFIED     {folder}"))
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
