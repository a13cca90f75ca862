"""What is shown: texts of others made fit for it, numbers of things, names that were meant."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def one_line(text: str) -> str:
    """The text with everything escaped that is no printable character.

    A class or a file may be called anything: escape sequences drive a terminal, line ends forge
    lines, marks of direction reorder what is read (CVE-2021-42574), lone surrogates have no bytes.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """0:09:59"""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def counted(number: float, thing: str) -> str:
    """1 step, 1,000 steps, 0.5 epochs: a number of things, of which `thing` is one."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {thing if number == 1 else plural(thing)}"


def one_of(numbers: Sequence[int], thing: str) -> str:
    """1 device, 1, 2 or 4 devices: how many things there may be."""
    *others, last = numbers
    before = f"{', '.join(map(str, others))} or " if others else ""
    return before + counted(last, thing)


def plural(thing: str) -> str:
    """The plural of a regular English noun, the last word of `thing`: epoch -> epochs."""
    if thing.endswith(("s", "x", "sh", "nch", "tch")):  # the ch of epoch is a k
        return f"{thing}es"
    if thing.endswith("y") and thing[-2] not in "aeiou":
        return f"{thing[:-1]}ies"
    return f"{thing}s"


def did_you_mean(name: str, names: Iterable[str], before: str = "") -> str:
    """A sentence with the names that are spelled nearly like this one, or nothing.

    before: what each of them is shown with, as in "--".
    """
    spelled = {known.lower(): known for known in names}
    close = [before + spelled[match] for match in get_close_matches(name.lower(), spelled)]
    return f" Did you mean {' or '.join(close)}?" if close else ""
