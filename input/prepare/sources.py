"""Images to write: where each comes from, its label, its split and its place in the order."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from input.errors import InputError
from input.foundation.text import one_line
from input.prepare.config import WriteConfig
from input.splits import chosen

log = logging.getLogger(__name__)

LISTED = 20  # names that an error lists at most
UNDIVIDED = ""  # the only split of images that have none


class Source(NamedTuple):
    """One image."""

    name: str  # a file's path, below the folder of --images; or its place in an array
    label: int
    bytes: int


class Listing(NamedTuple):
    """All images of one write."""

    classes: tuple[str, ...]
    splits: dict[str, list[Source]]  # in the order of their records
    # A file's bytes or pixels uint8[h, w, 1 or 3]; raises OSError or ValueError for a bad image.
    read: Callable[[Source], bytes | np.ndarray]


# Class -> its images; all splits have the same classes, in the same order.
Classes = dict[str, list[Source]]


def listing(
    config: WriteConfig,
    found: dict[str, Classes],
    read: Callable[[Source], bytes | np.ndarray],
) -> Listing:
    """Splits of classes -> a Listing, shuffled; the only split UNDIVIDED is divided by --split.

    Raises InputError.
    """
    has_splits = UNDIVIDED not in found
    if has_splits and config.split != WriteConfig.split:
        raise InputError(
            f"--images={config.images} has the splits {', '.join(found)} already. "
            "Leave --split out."
        )
    splits = found if has_splits else _divide_classes(config, found[UNDIVIDED])
    splits = {split: splits[split] for split in chosen(config.splits, list(splits))}
    classes = tuple(next(iter(splits.values())))
    if len(classes) < 2:
        raise InputError(
            f"--images={config.images} has the class {classes[0]} only; a classifier needs 2. "
            "Are the class folders one level higher or deeper?"
        )
    for split, own in splits.items():
        if empty := [name for name, sources in own.items() if not sources]:
            log.warning("No image of %s is in %s", one_line(listed(empty)), split)
    ordered = {
        split: sorted(
            chain.from_iterable(own.values()), key=lambda source: _rank(config, "order", source)
        )
        for split, own in splits.items()
    }
    return Listing(classes, ordered, read)


def _divide_classes(config: WriteConfig, classes: Classes) -> dict[str, Classes]:
    """Each class divided by the shares of config.split, in an order of its own."""
    shares = config.shares()
    found: dict[str, Classes] = {split: {} for split in shares}
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


def by_number(names: Iterable[str]) -> list[str]:
    """Names of classes in their order: as numbers where all are whole numbers, else as text."""
    names = sorted(names)
    try:
        return sorted(names, key=int)
    except ValueError:
        return names


def listed(names: Sequence[str]) -> str:
    """The first LISTED names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
