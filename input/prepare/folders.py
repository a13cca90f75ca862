"""Class folders, or splits of them, on the disk or in an archive -> the images to write."""

from pathlib import Path

from input.errors import InputError
from input.prepare.config import WriteConfig
from input.prepare.conversion import SUFFIXES, has_known_start, read_image
from input.prepare.places import Disk, Place, open_archive
from input.prepare.sources import UNDIVIDED, Classes, Listing, Source, by_number, listed, listing
from input.splits import SPLITS, chosen, splits_among

# What lies beside images in many data sets, and is none unless its first bytes say so.
_SIDECARS = (".txt", ".csv", ".tsv", ".xml", ".json", ".yaml", ".yml", ".md", ".html", ".mat")


def list_folder(config: WriteConfig) -> Listing:
    """The images of a folder. Raises InputError."""
    images = Path(config.images)
    found = _find(config, Disk(images))
    return listing(config, found, lambda source: read_image(images / source.name))


def list_archive(config: WriteConfig) -> Listing:
    """The images of a zip or tar file. Raises InputError."""
    archive = open_archive(Path(config.images))
    return listing(config, _find(config, archive), lambda source: archive.read(source.name))


def _find(config: WriteConfig, place: Place) -> dict[str, Classes]:
    """Split -> its classes.

    There are splits when folders for training and for another split lie in the place; else there
    are classes. Where there is one folder only, that is looked into: archives often have one around
    all.
    """
    place = _unwrapped(place)
    splits = splits_among(_folders(place))
    return _find_splits(config, place, splits) if splits else {UNDIVIDED: _find_classes(place)}


def _find_splits(config: WriteConfig, place: Place, splits: dict[str, str]) -> dict[str, Classes]:
    """splits: name of a folder -> the split it holds."""
    folders: dict[str, str] = {}
    for name in _folders(place):
        split = splits.get(name)
        if split is None and config.splits:
            continue
        if split is None or split in folders:
            there = "" if split is None else f": {folders[split]} is {split} already"
            raise InputError(
                f"{place.path} has the splits {', '.join(splits)}, so {name} cannot be there too"
                f"{there}. Move it elsewhere, or name the splits to write with --splits."
            )
        folders[split] = name
    wanted = chosen(config.splits, sorted(folders, key=SPLITS.index))
    found = {split: _find_classes(_unwrapped(place.inside(folders[split]))) for split in wanted}
    for split, own in found.items():
        if different := sorted(own.keys() ^ found[wanted[0]].keys()):
            raise InputError(
                f"The splits {wanted[0]} and {split} in {place.path} must have the same classes; "
                f"only one of them has {listed(different)}."
            )
    return found


def _unwrapped(place: Place) -> Place:
    """The only folder in a place where that holds folders again; else the place itself."""
    inside = _folders(place)
    if len(inside) == 1 and place.inside(inside[0]).folders():
        return place.inside(inside[0])
    return place


def _find_classes(place: Place) -> Classes:
    """Class -> its images; the classes are in their order. Raises InputError."""
    if not (classes := _folders(place)):
        raise InputError(f"{place.path} has no class folders: one folder of images per class.")
    _refuse_splits(place, classes)
    found = {}
    for label, name in enumerate(by_number(classes)):
        found[name] = [
            Source(path, label, size)
            for path, size in place.inside(name).below()
            if not _is_sidecar(place, path)
        ]
        if not found[name]:
            raise InputError(f"Class folder {place.path / name} is empty. Add images or remove it.")
    return found


def _refuse_splits(place: Place, classes: list[str]) -> None:
    """Two classes with the same folders inside are splits, or parts, of unknown names."""
    holding: dict[tuple[str, ...], str] = {}
    for name in classes:
        inside = place.inside(name).folders()
        other = holding.setdefault(tuple(inside), name) if inside else name
        if other != name:
            raise InputError(
                f"{place.path}: {other} and {name} hold the same folders, {listed(inside)}, and "
                "look like splits, not like classes. Name them train, validation and test, choose "
                "one of them with --images, or list the images in a CSV file."
            )


def _folders(place: Place) -> list[str]:
    """The names of the folders in a place, sorted. Raises InputError where images lie beside."""
    astray = [name for name in place.files() if name.lower().endswith(SUFFIXES)]
    if astray:
        raise InputError(
            f"Images in {place.path} are not in a class folder: {listed(astray)}. Move them into "
            "one, or elsewhere; a split without classes is left out with --splits=train,validation."
        )
    found = place.folders()
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"The name of folder {str(place.path / name)!r} is no UTF-8, so it cannot be a "
                "class's name. Rename it."
            ) from None
    return found


def _is_sidecar(place: Place, path: str) -> bool:
    return path.lower().endswith(_SIDECARS) and not has_known_start(place.start(path))
