"""Say what is in image files, with a run's checkpoint or an exported model.

samestep-predict --run_dir=RUN IMAGE.jpg FOLDER
samestep-predict --export=MODEL --csv=OUT.csv FOLDER
"""

import csv
import io
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import numpy as np

from input.config import InputConfig
from input.foundation import durable
from input.foundation.settings import AtLeast, check
from input.foundation.text import one_line
from input.prepare.config import WriteConfig
from scripts.doorway import enter
from scripts.quiet import quiet_tensorflow
from trainer import choice
from trainer.config import Hardware
from trainer.errors import TrainerError

STDOUT = "-"  # as a file's name


@dataclass(frozen=True)
class PredictConfig:
    """What to predict, and with what. Flags may stand before or behind the files."""

    files: Annotated[
        tuple[str, ...],
        "Image files, and folders, of which all images below are taken. --files= may be left out.",
    ] = ()
    run_dir: Annotated[str, "Folder of the run that has trained the network; or --export."] = ""
    export: Annotated[str, "Folder that samestep-export has written; it needs no run."] = ""
    top: Annotated[int, "Likeliest classes to show of each image.", AtLeast(1)] = 3
    csv: Annotated[str, "FILE.csv to write instead of the table; - is the standard output."] = ""
    model: choice.OwnModel = ""
    checkpoint: choice.Checkpoint = "latest"
    weights: choice.Weights = "auto"
    short_side: Annotated[
        int | None,
        "The number given to samestep-records write --short_side, if any: larger images are made "
        "as small first.",
        AtLeast(1),
    ] = None

    def __post_init__(self) -> None:
        check(self, TrainerError)
        if bool(self.run_dir) == bool(self.export):
            raise TrainerError(
                "Give one of --run_dir=RUN and --export=MODEL: the network that is to predict."
            )
        if not self.files:
            raise TrainerError("Files are missing: name images, or folders of them.")
        if self.csv != STDOUT and not (folder := Path(self.csv).parent).is_dir():
            raise TrainerError(f"--csv: there is no folder {folder} to write to.")


class Prediction(NamedTuple):
    """The likeliest classes of one image."""

    path: Path
    classes: list[tuple[str, np.float32]]  # name and probability, the likeliest first


def main() -> NoReturn:
    enter(__doc__, predict, PredictConfig, Hardware, argument="files")


def predict(config: PredictConfig, hardware: Hardware) -> int:
    """Returns 1 where a file cannot be read: it is named, and the others are predicted."""
    from input.prepare.files import found_in
    from trainer import preflight

    paths = found_in(config.files)
    if not paths:
        raise TrainerError(f"There is no image in {', '.join(config.files)}.")
    if config.run_dir:
        preflight.predicted(Path(config.run_dir), config.model, config.weights, "uint8")
    quiet_tensorflow()
    from input.prepare.conversion import Conversion, quiet_pillow
    from input.prepare.files import FileReader
    from trainer.predict import ExportPredictor, Predictor, RunPredictor

    predictor: Predictor
    if config.export:
        predictor = ExportPredictor(Path(config.export))
    else:
        predictor = RunPredictor(
            Path(config.run_dir),
            hardware,
            model=config.model,
            checkpoint=config.checkpoint,
            weights=config.weights,
        )
    for note in predictor.notes:
        print(f"note: {note}", file=sys.stderr)
    how = Conversion("keep", config.short_side, WriteConfig.quality, InputConfig.max_pixels)
    reader = FileReader(paths, predictor.classes, how)

    def predictions() -> Iterator[Prediction]:
        index = 0
        for rows in predictor.probabilities(reader):
            for row in rows:
                if bad := reader.bad_records.get(index):
                    print(f"error: {one_line(f'{bad.shard}: {bad.reason}')}", file=sys.stderr)
                else:
                    likeliest = np.argsort(-row, kind="stable")[: config.top]
                    named = [(predictor.classes[label], row[label]) for label in likeliest]
                    yield Prediction(paths[index], named)
                index += 1

    with quiet_pillow():
        if config.csv:
            _write(config.csv, predictions())
        else:
            _show(predictions(), paths, predictor.classes)
    return 1 if reader.bad_records else 0


def _show(predictions: Iterator[Prediction], paths: list[Path], classes: tuple[str, ...]) -> None:
    """Prints a line of each image as soon as it is known."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # predict | head is nobody's fault
    path_width = min(60, max(len(one_line(str(path))) for path in paths))
    width = min(30, max(len(one_line(name)) for name in classes))
    for path, likeliest in predictions:
        cells = [f"{one_line(name):<{width}} {share:.4f}" for name, share in likeliest]
        print(f"{one_line(str(path)):<{path_width}}", *cells, sep="  ", flush=True)


def _write(name: str, predictions: Iterator[Prediction]) -> None:
    """Writes a CSV line of each image, with every digit of the probabilities."""
    file = io.StringIO()
    writer, lines = csv.writer(file, lineterminator="\n"), 0
    for path, likeliest in predictions:
        if not lines:
            numbers = range(1, len(likeliest) + 1)
            columns = [f"{what}_{n}" for n in numbers for what in ("class", "probability")]
            writer.writerow(["file", *columns])
        writer.writerow([path, *(each for pair in likeliest for each in pair)])
        lines += 1
    if name == STDOUT:
        print(file.getvalue(), end="")
    else:
        durable.write(Path(name), file.getvalue())
        print(f"wrote {name}: {lines} images")


if __name__ == "__main__":
    main()
