"""A CSV or JSONL file of images and labels, or a NumPy file of both -> the images to write.

The classes are the distinct labels in their order: as numbers where all are whole numbers, else as
text. The label of a class is its place in that order.
"""

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from input.arrays import ArrayReader
from input.config import SPLITS
from input.errors import InputError
from input.prepare.config import WriteConfig
from input.prepare.conversion import read_image
from input.prepare.sources import UNDIVIDED, Classes, Listing, Source, bytes_of, listing

COLUMNS = ("path", "label", "split")


class _Row(NamedTuple):
    line: int  # in the file, from 1
    path: str
    label: str
    split: str  # UNDIVIDED where the file has none


def list_table(config: WriteConfig) -> Listing:
    """The images that a CSV or JSONL file lists, with paths from its own folder. InputError."""
    table = Path(config.images)
    try:
        read = _jsonl if table.suffix.lower() == ".jsonl" else _csv
        rows = [_checked(table, row) for row in read(table)]
    except OSError as error:
        raise InputError(f"--images={table} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--images={table} is not UTF-8 text: {error}.") from None
    if not rows:
        raise InputError(f"--images={table} lists no images.")
    _refuse_twice(table, rows)
    with_split = [row for row in rows if row.split]
    if with_split and len(with_split) < len(rows):
        line = next(row.line for row in rows if not row.split)
        raise InputError(f"{table}, line {line}: a split is missing; others have one.")
    names = _in_order({row.label for row in rows})
    labels = {name: label for label, name in enumerate(names)}
    splits: dict[str, Classes] = {
        split: {name: [] for name in names} for split in sorted({row.split for row in rows})
    }
    for row in rows:
        size = bytes_of(table.parent / row.path)
        splits[row.split][row.label].append(Source(row.path, labels[row.label], size))
    if with_split and "train" not in splits:
        raise InputError(f"--images={table} has the splits {', '.join(splits)}, but no train.")

    def read_source(source: Source) -> bytes:
        return read_image(table.parent / source.name)

    return listing(config, splits, read_source)


def list_arrays(config: WriteConfig) -> Listing:
    """The images of a .npz file: images uint8 [n, h, w], [n, h, w, 1 or 3], labels int [n].

    class_names [classes], text, is optional. Raises InputError.
    """
    path = Path(config.images)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"--images={path} cannot be read: {error}.") from None
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"--images={path} is not a .npz file of plain arrays: {error}.") from None
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise InputError(
            f"--images={path} has no {' and no '.join(missing)}, only {', '.join(arrays)}. "
            "numpy.savez(FILE, images=.., labels=..) makes one."
        )
    names = [str(name) for name in arrays.get("class_names", ())]
    reader = ArrayReader(arrays["images"], arrays["labels"], names)
    if reader.pixels.dtype != np.uint8:
        raise InputError(f"Images in {path} must be uint8, not {reader.pixels.dtype}.")
    classes: dict[str, list[Source]] = {name: [] for name in reader.classes}
    if len(classes) < len(reader.classes):
        raise InputError(f"{path}: class_names has a duplicate name.")
    labels = arrays["labels"].tolist()
    size = reader.pixels[0].nbytes
    for number, label in enumerate(labels):
        classes[reader.classes[label]].append(Source(f"{number:09d}", label, size))

    def read(source: Source) -> np.ndarray:
        return reader.pixels[int(source.name)]

    return listing(config, {UNDIVIDED: classes}, read)


def _csv(table: Path) -> Iterator[_Row]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header = [name.strip().lower() for name in next(lines, [])]
        if set(header) < {"path", "label"} or not {"path", "label"} <= set(header):
            raise InputError(
                f"{table}, line 1: the columns must be path,label or path,label,split, not "
                f"{','.join(header) or 'nothing'}."
            )
        places = [header.index(name) if name in header else None for name in COLUMNS]
        for cells in lines:
            if cells:
                if len(cells) != len(header):
                    raise InputError(
                        f"{table}, line {lines.line_num}: {len(cells)} cells for {len(header)} "
                        "columns."
                    )
                values = ["" if place is None else cells[place].strip() for place in places]
                yield _Row(lines.line_num, *values)


def _jsonl(table: Path) -> Iterator[_Row]:
    with table.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                values = [content["path"], content["label"], content.get("split", "")]
            except (ValueError, KeyError, TypeError, AttributeError):
                values = []
            good = [isinstance(value, str | int) and value is not True for value in values]
            if not values or not all(good) or not isinstance(values[0], str):
                raise InputError(
                    f'{table}, line {number}: not {{"path": .., "label": ..}}, with a label that '
                    "is a text or a whole number."
                )
            yield _Row(number, *(str(value) for value in values))


def _checked(table: Path, row: _Row) -> _Row:
    where = f"{table}, line {row.line}"
    if not row.path or not row.label:
        raise InputError(f"{where}: {'the label' if row.path else 'the path'} is empty.")
    if row.split and row.split not in SPLITS:
        raise InputError(f"{where}: split {row.split!r} is none of {', '.join(SPLITS)}.")
    return row._replace(split=SPLITS.get(row.split, UNDIVIDED))


def _refuse_twice(table: Path, rows: list[_Row]) -> None:
    lines: dict[str, int] = {}
    for row in rows:
        first = lines.setdefault(row.path, row.line)
        if first != row.line:
            raise InputError(f"{table}, lines {first} and {row.line}: both list {row.path}.")


def _in_order(labels: set[str]) -> list[str]:
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)
