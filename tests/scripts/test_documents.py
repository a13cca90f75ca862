"""Every block of README and docs, run as a user would; make docs.

Each page has a folder of its own: a copy of the packages, and small real data under the names that
the pages use. A page's blocks run in their order. Those that cannot run here are skipped with the
reason that stands before them in the page.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from scripts import demo
from tests.conftest import ROOT
from tests.documents import PAGES, Block, blocks

PACKAGES = ("input", "models", "trainer", "scripts")
RUN = ("sh", "python", "diff", "console")
SECONDS = 900  # that a block may take on two busy cores
IMAGES_PER_CLASS = 60


def cases() -> Iterator[object]:
    """A test for each block; those of one page go to one process, see conftest.ByPage."""
    for page in PAGES:
        for block in blocks(page):
            if block.language in RUN:
                yield pytest.param(block, id=block.where, marks=pytest.mark.docs)


class Place(NamedTuple):
    """Where the blocks of one page run."""

    folder: Path
    failed: list[str]  # blocks so far

    def run(self, command: str, *, code: int | None = 0) -> str:
        """Runs a command as in a user's shell; what it writes. code: None is any but 0."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "100",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        as_it_should = done.returncode == code if code is not None else done.returncode != 0
        assert as_it_should, f"{command}\nended with {done.returncode}:\n{done.stdout[-3000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def place_of(tmp_path_factory) -> Callable[[Path], Place]:
    """A page -> where its blocks run."""
    places: dict[Path, Place] = {}

    def place(page: Path) -> Place:
        if page not in places:
            folder = tmp_path_factory.mktemp(page.stem)
            places[page] = Place(folder, [])
            furnish(places[page], page.read_text())
        return places[page]

    return place


def furnish(place: Place, text: str) -> None:
    """The packages, and digits of MNIST: class folders, others' TFRecords, and records.

    Records are made where the page does not. IMAGES, garden and tfds stand for what a user has.
    """
    for package in PACKAGES:
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, place.folder / package, ignore=leave_out)
    pixels, labels = demo.digits()
    for digit in range(10):
        for number in np.flatnonzero(labels == digit)[:IMAGES_PER_CLASS]:
            path = place.folder / "images" / str(digit) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[number]).save(path)
    (place.folder / "IMAGES").symlink_to("images")
    write_examples(place.folder / "garden", "image/encoded", "image/class/label", first_label=1)
    write_examples(place.folder / "tfds", "image", "label", first_label=0)
    if "--out=data" not in text:
        place.run("samestep-records write --images=images --out=data")


def write_examples(folder: Path, image_key: str, label_key: str, first_label: int) -> None:
    """Two splits of 20 digits as other programs write them."""
    folder.mkdir()
    paths = sorted((folder.parent / "images").glob("*/*0.png"))[:40]
    for split, part in (("train", paths[:20]), ("validation", paths[20:])):
        with tf.io.TFRecordWriter(str(folder / f"{split}-00000-of-00001")) as writer:
            for path in part:
                example = tf.train.Example()
                feature = example.features.feature
                feature[image_key].bytes_list.value.append(path.read_bytes())
                feature[label_key].int64_list.value.append(int(path.parent.name) + first_label)
                writer.write(example.SerializeToString())


def exchanges(transcript: str) -> Iterator[tuple[str, str]]:
    """Lines that begin with $, and what follows each -> the command, its output."""
    for part in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        end = next(n for n, line in enumerate(lines) if not line.endswith("\\")) + 1
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def pattern(shown: str) -> str:
    """A regular expression for output as a page shows it: wrapped anywhere, .. for what varies."""
    words = [re.escape(word).replace(re.escape(".."), ".*") for word in shown.split()]
    return r"\s+".join(words).replace(r"\s+.*", ".*").replace(r".*\s+", ".*")


def run(block: Block, place: Place) -> None:
    """Does with a block what a reader would: types it, saves it, applies it, compares."""
    if block.language == "sh":
        place.run(block.as_run)
    elif block.language == "diff":
        (place.folder / "change.diff").write_text(block.as_run)
        place.run("patch --strip=1 --no-backup-if-mismatch < change.diff")
    elif block.language == "python":
        (place.folder / (block.file or "example.py")).write_text(block.as_run)
        if not block.file:
            place.run("python example.py")
    else:
        for command, shown in exchanges(block.as_run):
            refused = re.search(r"^(error: |wrong )", shown, re.MULTILINE)
            output = place.run(command, code=None if refused else 0)
            found = re.search(pattern(shown), output, re.DOTALL)
            assert found, f"{command}\nwas to show:\n{shown}\nand shows:\n{output[-3000:]}"


@pytest.mark.parametrize("block", list(cases()))
def test_a_block_runs(block, place_of):
    if block.not_run:
        pytest.skip(f"{block.where}: {block.not_run}")
    place = place_of(block.page)
    if place.failed:
        pytest.skip(f"{block.where}: after {place.failed[0]}, which failed")
    place.failed.append(block.where)
    run(block, place)
    place.failed.remove(block.where)


def test_what_a_page_shows_is_compared():
    transcript = "$ echo one two \\\n  three\none two\n  three\n$ cat x\nerror: no .. file\n"
    assert list(exchanges(transcript)) == [
        ("echo one two \\\n  three", "one two\n  three"),
        ("cat x", "error: no .. file"),
    ]
    assert re.search(pattern("error: no .. file .."), "a\nerror: no such\nfile", re.DOTALL)
    assert not re.search(pattern("4000 .. records"), "400 bad records", re.DOTALL)
