"""What a folder holds that is taken for one of records, and what to type for it."""

import mimetypes
import os
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from input.foundation import durable
from input.splits import MANIFEST_FILE

DEPTH, MOST = 3, 2_000  # folders below each other, and names, that are looked at


def explain(folder: Path, flag: str) -> str:
    """In one line with the way out: why no records can be read from --flag=folder."""
    given = f"--{flag}={folder}"
    if not os.path.lexists(folder):
        unfinished = durable.incomplete(folder)
        if unfinished.is_dir():
            return (
                f"{given} is not there, only {unfinished}, of a write that has not ended. Run that "
                "samestep-records write again."
            )
        return (
            f"{given} is not there. Give the folder that samestep-records write --out=DIR has made."
        )
    if not folder.is_dir():
        if _is_tfrecord(folder.name):
            return (
                f"{given} is one file. Give the folder that holds the splits, as in --{flag}=data"
            )
        return f"{given} is not a folder. {_write(folder)}"
    if os.path.lexists(folder / MANIFEST_FILE):
        return (
            f"{given} is one split. Give the folder that holds the splits: --{flag}={folder.parent}"
        )
    if any(_is_tfrecord(name) for name in _names(folder)):
        return (
            f"{given} holds TFRecords that are not indexed. Do that, where they lie: "
            f"samestep-records index {shlex.quote(str(folder))}"
        )
    if holds_images(folder):
        return f"{given} holds images, not records. {_write(folder)}"
    return (
        f"{given} holds no records: no {MANIFEST_FILE} in it or below it. Give the folder that "
        "samestep-records write --out=DIR has made."
    )


def holds_images(folder: Path) -> bool:
    """Whether there are images in a folder, or not far below it."""
    return any(_is_image(name) for name in _names(folder))


def _write(images: Path) -> str:
    """Never into the images themselves: their folder would look like one of records."""
    stem = images.name.partition(".")[0] or "data"
    arguments = [f"--images={images}", f"--out={images.with_name(f'{stem}-records')}"]
    return f"Make records of it: samestep-records write {shlex.join(arguments)}"


def _names(folder: Path) -> Iterator[str]:
    """Names of files in a folder and below it, those of the folder itself first."""
    return islice(_all_names(folder), MOST)


def _all_names(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        yield from files
        if len(Path(place).relative_to(folder).parts) == DEPTH:
            folders.clear()


def _is_tfrecord(name: str) -> bool:
    """train-00000.tfrecord, train-00000-of-00001; not weights.data-00000-of-00001."""
    return ".tfrecord" in name or re.search(r"(?<!\.data)-\d+-of-\d+", name) is not None


def _is_image(name: str) -> bool:
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")
