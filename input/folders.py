"""A folder of images -> which image goes into which split, with which label, at which place."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from input.config import SPLITS, WriteConfig
from input.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png")
LISTED = 20  # names in an error that has many
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")  # that file managers leave; and every .name


class Source(NamedTuple):
    """One image file."""

    name: str  # path below the images' folder
    label: int
    bytes: int


def find(config: WriteConfig) -> tuple[tuple[str, ...], dict[str, list[Source]]]:
    """The classes, and the images of each split in the order of their records. Raises InputError.

    The folder holds splits when train lies in it next to validation, val or test; else classes.
    """
    images = Path(config.images)
    names = _folders(images)
    if "train" in names and len(SPLITS.keys() & set(names)) > 1:
        found = _find_splits(config, names)
    else:
        found = _divide_classes(config, _find_classes(images, images))
    classes = tuple(next(iter(found.values())))
    if len(classes) < 2:
        raise InputError(
            f"--images={images} has the class {classes[0]} only; a classifier needs 2. "
            "Are the class folders one level higher or deeper?"
        )
    ordered = {}
    for split, own in found.items():
        every = chain.from_iterable(own.values())
        ordered[split] = sorted(every, key=lambda source: _rank(config, "order", source))
    return classes, ordered


def _find_splits(config: WriteConfig, names: list[str]) -> dict[str, dict[str, list[Source]]]:
    images = Path(config.images)
    if config.split != WriteConfig.split:
        raise InputError(
            f"--images={images} has the splits {', '.join(names)} already. Leave --split away."
        )
    found = {}
    for name in names:
        split = SPLITS.get(name)
        if split is None or split in found:
            raise InputError(
                f"--images={images} has the splits train and validation or test, so {name} cannot "
                "be there too. Move it away."
            )
        found[split] = _find_classes(images, images / name)
    for split, own in found.items():
        if different := sorted(own.keys() ^ found["train"].keys()):
            raise InputError(
                f"The splits train and {split} in {images} must have the same classes; only one "
                f"of them has {_listed(different)}."
            )
    return found


def _divide_classes(
    config: WriteConfig, classes: dict[str, list[Source]]
) -> dict[str, dict[str, list[Source]]]:
    """Each class divided by the shares of config.split, in an order of its own."""
    shares = config.shares()
    found = {split: {} for split in shares}
    for name, sources in classes.items():
        if len(sources) < len(shares):
            raise InputError(
                f"Class {name} has too few images ({len(sources)}) for one in each of "
                f"{', '.join(shares)}. Add images or set --split."
            )
        shuffled = iter(sorted(sources, key=lambda source: _rank(config, "split", source)))
        counts = divide(len(sources), list(shares.values()))
        for split, count in zip(shares, counts, strict=True):
            found[split][name] = list(islice(shuffled, count))
    return found


def divide(count: int, shares: Sequence[Fraction]) -> list[int]:
    """How many of `count` things each share gets: by largest remainder, then at least 1.

    The shares sum to 1 and `count` is len(shares) or more.
    """
    parts = [int(count * share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: parts[i] - count * shares[i])
    for i in by_remainder[: count - sum(parts)]:
        parts[i] += 1
    for i in range(len(parts)):
        if parts[i] == 0:
            parts[parts.index(max(parts))] -= 1
            parts[i] = 1
    return parts


def _rank(config: WriteConfig, purpose: str, source: Source) -> bytes:
    # A hash for a random order: the same with every version of Python, unlike random.shuffle.
    key = f"{config.seed}/{purpose}/{source.name}"
    return hashlib.blake2b(os.fsencode(key), digest_size=16).digest()


def _find_classes(images: Path, folder: Path) -> dict[str, list[Source]]:
    """Class -> its images; the classes are sorted. Raises InputError."""
    if not (classes := _folders(folder)):
        raise InputError(f"{folder} has no class folders: one folder of images per class.")
    found = {}
    for label, name in enumerate(classes):
        found[name] = [
            Source(str(path.relative_to(images)), label, _bytes(path))
            for path in _files(folder / name)
        ]
        if not found[name]:
            raise InputError(f"Class folder {folder / name} is empty. Add images or remove it.")
    return found


def _folders(folder: Path) -> list[str]:
    """The visible folders in `folder`, sorted. Raises InputError where images lie beside them."""
    try:
        visible = [path for path in sorted(folder.iterdir()) if not _hidden(path.name)]
    except OSError as error:
        raise InputError(
            f"Folder {folder} cannot be read: {error.strerror}. --images names a folder of class "
            "folders."
        ) from None
    astray = [path.name for path in visible if path.suffix.lower() in SUFFIXES and path.is_file()]
    if astray:
        raise InputError(
            f"Images in {folder} lie in no class folder: {_listed(astray)}. "
            "Move them into one, or away."
        )
    return [path.name for path in visible if path.is_dir()]


def _files(folder: Path) -> Iterator[Path]:
    """The visible files below `folder`; links are followed. Raises InputError."""
    seen = set()

    def fail(error: OSError) -> None:
        raise InputError(f"Folder {error.filename} cannot be read: {error.strerror}.")

    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            raise InputError(f"Folder {parent} is in {folder} twice, through a link. Remove it.")
        seen.add(real)
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(parent, name) for name in files if not _hidden(name))


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing, say: its turn comes in _check
        return 0


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
