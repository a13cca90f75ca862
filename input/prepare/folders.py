"""A folder of class folders, or of splits of them -> the images to write."""

import os
from collections.abc import Iterator
from pathlib import Path

from input.config import SPLITS
from input.errors import InputError
from input.prepare.config import WriteConfig
from input.prepare.conversion import SUFFIXES, read_image
from input.prepare.sources import UNDIVIDED, Classes, Listing, Source, bytes_of, listed, listing

_LITTER = ("thumbs.db", "desktop.ini", "__macosx")  # that file managers leave; and every .name


def list_folder(config: WriteConfig) -> Listing:
    """The images of a folder. Raises InputError.

    The folder holds splits when train lies in it next to validation, val or test; else classes.
    """
    images = Path(config.images)
    names = _folders(images)
    has_splits = "train" in names and len(SPLITS.keys() & set(names)) > 1
    if has_splits:
        found = _find_splits(images, names)
    else:
        found = {UNDIVIDED: _find_classes(images, images)}

    def read(source: Source) -> bytes:
        return read_image(images / source.name)

    return listing(config, found, read)


def _find_splits(images: Path, names: list[str]) -> dict[str, Classes]:
    found = {}
    for name in names:
        split = SPLITS.get(name)
        if split is None or split in found:
            raise InputError(
                f"--images={images} has the splits train and validation or test, so {name} cannot "
                "be there too. Move it elsewhere."
            )
        found[split] = _find_classes(images, images / name)
    for split, own in found.items():
        if different := sorted(own.keys() ^ found["train"].keys()):
            raise InputError(
                f"The splits train and {split} in {images} must have the same classes; only one "
                f"of them has {listed(different)}."
            )
    return found


def _find_classes(images: Path, folder: Path) -> Classes:
    """Class -> its images; the classes are sorted. Raises InputError."""
    if not (classes := _folders(folder)):
        raise InputError(f"{folder} has no class folders: one folder of images per class.")
    found = {}
    for label, name in enumerate(classes):
        found[name] = [
            Source(str(path.relative_to(images)), label, bytes_of(path))
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
            f"Images in {folder} are not in a class folder: {listed(astray)}. "
            "Move them into one, or elsewhere."
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
            raise InputError(
                f"Folder {parent} is in {folder} twice, through a link. Remove the link."
            )
        seen.add(real)
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(parent, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER
