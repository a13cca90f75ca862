"""Settings: fields of a frozen dataclass that carry their help and their range.

    epochs: Annotated[int, "Passes over the training records.", AtLeast(1)] = 10

`__post_init__` calls `check`. Flags, --help, errors and the checks all follow from the field.
"""

import dataclasses
import math
import operator
import re
from collections.abc import Callable
from functools import partial
from types import NoneType, UnionType
from typing import Any, NamedTuple, Protocol, Union, get_args, get_origin, get_type_hints

from input.foundation.errors import UserError


class Bound(Protocol):
    """One condition on a value; str() completes "must be", as in "at least 1"."""

    def holds(self, value: Any) -> bool: ...


class Limit(NamedTuple):
    """A number that a value is compared with."""

    words: str
    compare: Callable[[float, float], bool]
    limit: float

    def holds(self, value: float) -> bool:
        return self.compare(value, self.limit)

    def __str__(self) -> str:
        return f"{self.words} {self.limit}"


AtLeast = partial(Limit, "at least", operator.ge)
Above = partial(Limit, "above", operator.gt)
AtMost = partial(Limit, "at most", operator.le)
Below = partial(Limit, "below", operator.lt)


class Matching(NamedTuple):
    """A text that matches `pattern` as a whole; `words` says in English what that is."""

    pattern: str
    words: str

    def holds(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


class Section(NamedTuple):
    """What this setting and the next ones of its dataclass belong to; a heading of --help."""

    title: str


class MostUsed(NamedTuple):
    """One of the few settings that nearly every command line has: --help begins with them."""


MOST_USED = MostUsed()
REQUIRED = Matching(r"(?s).+", "given")
# An object store has no reads at a position, no rename of a folder, no lock; a mount has them.
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Setting(NamedTuple):
    """A field of a dataclass that a user can set."""

    name: str
    kind: Any  # int, float, str, bool, a Literal of strings, or Union[int, such a Literal]
    help: str
    default: Any  # None also where the field is `| None` and unset
    bounds: tuple[Bound, ...]
    section: str = ""  # the title of its Section; empty where there is none
    most_used: bool = False

    @property
    def range(self) -> str:
        """The bounds in words: at least 0 and below 1."""
        return " and ".join(str(bound) for bound in self.bounds)


def settings(config_type: type) -> list[Setting]:
    """The settings of a dataclass, without those of the dataclasses nested in it."""
    hints, found, section = get_type_hints(config_type, include_extras=True), [], ""
    for field in dataclasses.fields(config_type):
        if dataclasses.is_dataclass(hints[field.name]):
            continue
        kind, text, *notes = get_args(hints[field.name])
        if get_origin(kind) in (Union, UnionType):
            members = [member for member in get_args(kind) if member is not NoneType]
            kind = members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007
        section = next((each.title for each in notes if isinstance(each, Section)), section)
        bounds = tuple(each for each in notes if not isinstance(each, Section | MostUsed))
        found.append(
            Setting(
                field.name, kind, text, field.default, bounds, section, most_used=MOST_USED in notes
            )
        )
    return found


def check(config: Any, error: type[UserError]) -> None:
    """Raises `error` for the first setting that is out of its range, or a float that is not finite.

    None, an unset setting, is never out of its range.
    """
    for setting in settings(type(config)):
        value = getattr(config, setting.name)
        if value is None:
            continue
        if REQUIRED in setting.bounds and not value:
            raise error(f"--{setting.name} is missing: {setting.help}")
        if isinstance(value, str) and _REMOTE.match(value):
            raise error(
                f"--{setting.name}={value} is not on a file system, and nothing here reads or "
                "writes elsewhere. Copy it, or mount it and name the mount; docs/data.md shows how."
            )
        if get_origin(setting.kind) is Union and isinstance(value, str):
            continue  # a word, which has no bounds
        if isinstance(value, float) and not math.isfinite(value):
            raise error(f"--{setting.name} must be a finite number, not {value}.")
        if not all(bound.holds(value) for bound in setting.bounds):
            raise error(f"--{setting.name} must be {setting.range}, not {value!r}.")
