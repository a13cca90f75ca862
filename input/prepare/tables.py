"""A CSV or JSONL file of images and labels -> the images to write.

The classes are the distinct labels in their order: as numbers where all are whole numbers, else as
text. The label of a class is its place in that order.
"""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from input.errors import InputError
from input.prepare.config import WriteConfig
from input.prepare.conversion import read_image
from input.prepare.places import bytes_of
from input.prepare.sources import (
    UNDIVIDED,
    Classes,
    Listing,
    Source,
    by_number,
    listing,
)
from input.splits import SPLITS, split_of

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
    except csv.Error as error:  # a NUL byte, a cell of 128 KiB
        raise InputError(f"--images={table} is no CSV file: {error}.") from None
    if not rows:
        raise InputError(f"--images={table} lists no images.")
    _refuse_twice(table, rows)
    with_split = [row for row in rows if row.split]
    if with_split and len(with_split) < len(rows):
        line = next(row.line for row in rows if not row.split)
        raise InputError(f"{table}, line {line}: a split is missing; others have one.")
    names = by_number({row.label for row in rows})
    labels = {name: label for label, name in enumerate(names)}
    splits: dict[str, Classes] = {
        split: {name: [] for name in names} for split in sorted({row.split for row in rows})
    }
    for row in rows:
        size = bytes_of(table.parent / row.path)
        splits[row.split][row.label].append(Source(row.path, labels[row.label], size))
    if with_split and "train" not in splits:
        raise InputError(f"--images={table} has the splits {', '.join(splits)}, but no train.")

    lines = {row.path: row.line for row in rows}

    def read_source(source: Source) -> bytes:
        path = table.parent / source.name
        if not path.exists():
            advice = "; paths are written with /" if "\\" in source.name else ""
            raise ValueError(f"no such file: line {lines[source.name]} of {table.name}{advice}")
        return read_image(path)

    return listing(config, splits, read_source)


def _csv(table: Path) -> Iterator[_Row]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header = [name.strip().lower() for name in next(lines, [])]
        if set(header) < {"path", "label"} or not {"path", "label"} <= set(header):
            found = ",".join(header[:4]) + f",.. ({len(header)} columns)" * (len(header) > 4)
            raise InputError(
                f"{table}, line 1: the columns must be path,label or path,label,split, not "
                f"{found or 'nothing'}. Pixels come from IDX, .npy or .npz files."
            )
        places = [header.index(name) if name in header else None for name in COLUMNS]
        for cells in lines:
            if cells:
                if any("\n" in cell or "\r" in cell for cell in cells):
                    raise InputError(
                        f"{table}, line {lines.line_num}: a cell holds a line break. Is a quote "
                        "missing before it?"
                    )
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
            good = [isinstance(value, str | int) for value in values if not isinstance(value, bool)]
            if not values or good != [True] * 3 or not isinstance(values[0], str):
                raise InputError(
                    f'{table}, line {number}: not {{"path": .., "label": ..}}, with a label that '
                    "is a text or a whole number."
                )
            yield _Row(number, *(str(value) for value in values))


def _checked(table: Path, row: _Row) -> _Row:
    where = f"{table}, line {row.line}"
    if not row.path or not row.label:
        raise InputError(f"{where}: {'the label' if row.path else 'the path'} is empty.")
    if "\0" in row.path + row.label:
        raise InputError(f"{where}: a NUL byte.")
    split = split_of(row.split) if row.split else UNDIVIDED
    if split is None:
        raise InputError(f"{where}: split {row.split!r} is none of {', '.join(SPLITS)}.")
    return row._replace(path=os.path.normpath(row.path), split=split)


def _refuse_twice(table: Path, rows: list[_Row]) -> None:
    lines: dict[str, int] = {}
    for row in rows:
        first = lines.setdefault(row.path, row.line)
        if first != row.line:
            raise InputError(f"{table}, lines {first} and {row.line}: both list {row.path}.")
