"""The splits of a data set, and the names that folders, files and tables give to them."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from input.errors import InputError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
MANIFEST_FILE = "manifest.json"  # of a split's folder; written last

_NAMES = {
    TRAIN: "train trn training",
    VALIDATION: "validation valid val dev eval evaluation",
    TEST: "test tst testing",
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names.split()}
# What else such a name holds: train_images, Test Set, valdata, train2017.
_FILLER = "set sets data dataset image images img imgs picture pictures photo photos split folder"
_WORD = re.compile(rf"({'|'.join(_SPLIT_OF)})?({'|'.join(_FILLER.split())})?")


class Named(NamedTuple):
    """A name that names a split."""

    split: str
    rest: tuple[str, ...]  # its other words: ("seg",) of seg_train


def named(name: str) -> Named | None:
    """The split that a name names, whatever its case: train, Training, seg_train, val2017.

    None where it names none, or two.
    """
    found, rest = _words(name)
    return Named(found[0], tuple(rest)) if len(set(found)) == 1 else None


def all_named(name: str) -> set[str]:
    """Every split that a name names."""
    return set(_words(name)[0])


def _words(name: str) -> tuple[list[str], list[str]]:
    """The splits that the words of a name name, and its other words."""
    found, rest = [], []
    for word in re.findall(r"[^\W\d_]+", name.casefold()):
        whole = _WORD.fullmatch(word)
        if whole is None:
            rest.append(word)
        elif whole[1]:
            found.append(_SPLIT_OF[whole[1]])
    return found, rest


def split_of(name: str) -> str | None:
    """As `named`, for a name with no other words."""
    found = named(name)
    return found.split if found is not None and not found.rest else None


def splits_among(names: Sequence[str]) -> dict[str, str]:
    """Those of some folders' names that name splits -> the split; empty where they are no splits.

    They are splits when one of them is for training, another one is not, and their other words are
    the same: train and val, seg_train and seg_test, but not train, bus and car.
    """
    found = {name: each for name in names if (each := named(name)) is not None}
    for rest in {each.rest for each in found.values() if each.split == TRAIN}:
        alike = {name: each.split for name, each in found.items() if each.rest == rest}
        if len(set(alike.values())) > 1:
            return alike
    return {}


def chosen(names: str, there: Sequence[str]) -> list[str]:
    """Of the splits that are there, those of --splits=name,name; empty: all. Raises InputError."""
    if not names:
        return list(there)
    found = [split_of(name) for name in names.split(",")]
    if None in found or len(set(found)) < len(found):
        raise InputError(f"--splits={names} is not a list of {', '.join(SPLITS)}, each once.")
    if missing := [str(split) for split in found if split not in there]:
        raise InputError(f"--splits={names}: there is no {missing[0]}, only {', '.join(there)}.")
    return [split for split in there if split in found]
