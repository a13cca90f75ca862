"""What the tests share: four logical CPU devices, small real records, pictures, messages."""

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

# One operation's threads are part of the result's bits, and logical devices cannot be added later.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input.foundation.errors import UserError
from input.foundation.typed_json import DIGEST, digest
from input.manifest import Manifest, load_index, save
from input.prepare.config import WriteConfig
from input.prepare.writer import write
from input.records import FOOTER_BYTES
from trainer.workers.strategy import make_strategy

ROOT = Path(__file__).parents[1]
THREADS = 2
CLASSES = ("circle", "cross", "square")


def pytest_addoption(parser):
    parser.addoption("--kill-table", help="File that gets the kill matrix's table.")
    parser.addoption("--attack-table", help="File that gets the table of attacks.")
    parser.addoption("--matrix-table", help="File that gets the invariance matrix's table.")
    parser.addoption("--applications-table", help="File that gets the table of keras.applications.")
    parser.addoption("--placement-table", help="File that gets the table of steps on GPUs.")
    parser.addoption("--crash-table", help="File that gets the table of interrupted saves.")


def pytest_configure():
    make_strategy([f"CPU:{i}" for i in range(4)], intra_op_threads=THREADS)


@pytest.fixture(scope="session")
def strategies() -> dict[int, tf.distribute.Strategy]:
    """Replicas -> a MirroredStrategy over that many logical CPUs."""
    return {n: make_strategy([f"CPU:{i}" for i in range(n)], THREADS) for n in (1, 2, 4)}


def error(call: Callable, *args, **kwargs) -> str:
    """The message of the UserError that a call raises."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def rewrite(path: Path, **changes: object) -> None:
    """Changes values of a JSON file that samestep has written, and its digest with them.

    ... removes a key.
    """
    content = json.loads(path.read_text()) | changes
    value = {key: each for key, each in content.items() if each is not ... and key != DIGEST}
    path.write_text(json.dumps(value | {DIGEST: digest(value)}))


def vouch(folder: Path, index: int) -> None:
    """Makes the checksums of a split those of the record that stands at a place now."""
    manifest = Manifest.load(folder, verify_files=False)
    found = load_index(manifest)
    number, offset, length = (int(each[0]) for each in found.locate(np.array([index])))
    shard, place = manifest.shards[number], index - int(found.first_record[number])
    record = (folder / shard.file).read_bytes()[offset : offset + length]
    checksums = bytearray((folder / shard.checksums_file).read_bytes())
    checksums[FOOTER_BYTES * place : FOOTER_BYTES * (place + 1)] = record[-FOOTER_BYTES:]
    (folder / shard.checksums_file).write_bytes(checksums)
    vouched = replace(shard, checksums=hashlib.sha256(checksums).hexdigest())
    save(replace(manifest, shards=tuple(vouched if s is shard else s for s in manifest.shards)))


def picture(seed: int = 0, height: int = 40, width: int = 61) -> Image.Image:
    """RGB, smooth (JPEG keeps it), and no two of its eight orientations are alike."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 / width, y * 255 / height, 120 + 100 * np.sin((x + seed) / 9) * (y > 9)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The image as a file of this kind, one of Pillow's names."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def draw(label: int, random: np.random.Generator, size: int = 16) -> np.ndarray:
    """uint8[size, size]: a noisy circle, cross or square somewhere near the middle."""
    y, x = np.mgrid[:size, :size] - size / 2 + random.uniform(-2, 2, (2, 1, 1))
    radius = random.uniform(size / 5, size / 3)
    shapes = (
        np.hypot(x, y) < radius,
        (np.abs(x) < radius / 3) | (np.abs(y) < radius / 3),
        np.maximum(np.abs(x), np.abs(y)) < radius,
    )
    pixels = 200 * shapes[label] + random.normal(30, 20, (size, size))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Records of 160 training and 43 validation images, PNG and JPEG, 16 pixels, 3 classes."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", 160), ("validation", 43)):
        for i in range(count):
            label = i % len(CLASSES)
            path = folder / "images" / split / CLASSES[label] / f"{i}.{('png', 'jpg')[i % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(label, random)).save(path)
    out = folder / "records"
    write(WriteConfig(images=str(folder / "images"), out=str(out), shards=3))
    return out


@pytest.fixture(scope="session")
def recorded(data_dir, tmp_path_factory) -> Path:
    """A run of tests.trainer.receipts with a hash of each of its 15 steps."""
    from tests.trainer import receipts  # for those tests alone

    return receipts.train(data_dir, tmp_path_factory.mktemp("recorded") / "run")


@pytest.fixture(scope="session")
def planted(data_dir, tmp_path_factory) -> dict[str, Path]:
    """The same runs with one thing planted in each; by the names of receipts.PLANTED."""
    from tests.trainer import receipts

    runs = {}
    for name, each in receipts.PLANTED.items():
        with pytest.MonkeyPatch.context() as patch:
            each.plant(patch)
            runs[name] = receipts.train(data_dir, tmp_path_factory.mktemp(name) / "run")
    return runs


def write_section(page: Path, heading: str, lines: list[str]) -> None:
    """Replaces what stands under a heading of a Markdown page, or adds it at the end."""
    before, _, after = page.read_text().partition(f"## {heading}\n")
    _, mark, rest = after.partition("\n## ")
    body = "\n".join([f"## {heading}", "", *lines, ""])
    page.write_text(before.rstrip("\n") + "\n\n" + body + (mark + rest if mark else ""))


def write_row(page: Path, heading: str, columns: Sequence[str], row: list[str], keys: int) -> None:
    """Puts a row into the table under a heading, for the one with the same first `keys` cells.

    Rows are sorted by them. Several processes may write to one page.
    """
    with (page.parent / f".{page.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        section = page.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
        lines = section.strip().splitlines()
        said = [line for line in lines if line and not line.startswith("|")]
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
        rows = {tuple(each[:keys]): each for each in cells[2:]} | {tuple(row[:keys]): row}
        table = [columns, ["---"] * len(columns), *(rows[key] for key in sorted(rows))]
        body = [*said, "", *("| " + " | ".join(each) + " |" for each in table)]
        write_section(page, heading, body)
