"""JSON -> dataclasses, by their type hints: one strictness for all files that samestep reads back.

An unknown key, a missing key, a value of another type, NaN or a setting out of its range is an
error that names the file, the key and what came. What `dump` writes ends with a digest of its
values, so that a changed one is an error even where it would make sense.
"""

import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from input.foundation import durable
from input.foundation.errors import UserError
from input.foundation.text import one_line

Content = TypeVar("Content")

DIGEST = "sha256"  # the last key: of all the others
SHOWN = 60  # characters of a wrong value in an error
MOST = 64 * 2**20  # bytes of a file; ImageNet's manifest has 0.3 MB
# Annotated[T | None, MAY_BE_MISSING]: files of an earlier version lack it. None.
MAY_BE_MISSING = "may be missing"


class JsonError(UserError):
    """A file's content is not what its type says; the message names the file and the key."""

    def __init__(self, message: str):
        super().__init__(_cut(one_line(message), 500))


def load(content_type: type[Content], path: Path) -> Content:
    """Reads a file that `dump` has written. Raises JsonError; OSError where it cannot be read."""
    return loads(content_type, durable.read(path, MOST), str(path))


def loads(content_type: type[Content], content: bytes, name: str) -> Content:
    """As load; `name` stands for the file in errors."""
    try:
        value = json.loads(content, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise JsonError(f"{name} is not JSON: it is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, a number of 5,000 digits
        raise JsonError(f"{name} is not JSON: {error}") from None
    try:
        _check_digest(value)
        return _convert(content_type, value, "")
    except _WrongValueError as error:
        raise JsonError(f"{name}: {error}") from None


def dump(content: Any) -> str:
    """A dataclass as JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    value = dataclasses.asdict(content)
    return json.dumps(value | {DIGEST: digest(value)}, indent=1, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of what JSON can hold: of its values, whatever their order, spaces and escapes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _check_digest(value: Any) -> None:
    """Takes the digest away; files that an earlier version or a person has written have none."""
    if isinstance(value, dict) and DIGEST in value:
        written = value.pop(DIGEST)
        try:
            found = digest(value)
        except (ValueError, RecursionError):  # NaN, or nested too deeply: the types will name it
            return
        if found != written:
            raise _WrongValueError("", f"was changed after it was written: {DIGEST} does not match")


class _WrongValueError(ValueError):
    def __init__(self, key: str, problem: str):
        super().__init__(f"{key} {problem}" if key else f"it {problem}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_shown(twice)} occurs twice")
    return content


def _convert(kind: Any, value: Any, key: str) -> Any:
    """A value as the type hint `kind` wants it. Raises _WrongValueError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _convert(arguments[0], value, key)
    if origin in (Union, UnionType):  # only `T | None`
        (present,) = (member for member in arguments if member is not NoneType)
        return None if value is None else _convert(present, value, key)
    if origin is Literal:
        if (type(value), value) not in [(type(each), each) for each in arguments]:
            allowed = " or ".join(_shown(each) for each in arguments)
            raise _WrongValueError(key, f"is {_shown(value)}, not {allowed}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, key)
    if origin is dict:
        _expect(dict, value, key)
        kind_of_name, kind_of_value = arguments
        return {
            _convert(kind_of_name, name, key): _convert(kind_of_value, each, _inside(key, name))
            for name, each in value.items()
        }
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, key)
    if kind is float and type(value) is int:
        value = _float(value, key)
    _expect(kind, value, key)
    if kind is float and not math.isfinite(value):
        raise _WrongValueError(key, f"is {value}, not a finite number")
    if kind is str and re.search("[\0\ud800-\udfff]", value):
        raise _WrongValueError(key, f"is {_shown(value)}, which is not text")
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    _expect(list, value, key)
    kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
    if len(kinds) != len(value):
        raise _WrongValueError(key, f"has {len(value)} entries, not {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_convert(kind, each, f"{key}[{place}]") for place, (kind, each) in pairs)


def _dataclass(kind: Any, value: Any, key: str) -> Any:
    _expect(dict, value, key)
    hints = get_type_hints(kind, include_extras=True)
    fields = {}
    for field in dataclasses.fields(kind):
        inside = _inside(key, field.name)
        hint = hints[field.name]
        if field.name in value:
            fields[field.name] = _convert(hint, value[field.name], inside)
        elif MAY_BE_MISSING in get_args(hint):
            fields[field.name] = None
        else:
            raise _WrongValueError(inside, "is missing")
    for name in value:
        if name not in fields:
            raise _WrongValueError(_inside(key, name), "is not known")
    try:
        return kind(**fields)
    except UserError as error:  # a setting out of its range
        raise _WrongValueError(key, f"holds a wrong setting: {error}".rstrip(".")) from None


def _expect(kind: type, value: Any, key: str) -> None:
    if type(value) is not kind:  # isinstance would take true for a whole number
        raise _WrongValueError(key, f"is {_shown(value)}, not {_WORDS[kind]}")


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


def _float(value: int, key: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _WrongValueError(key, f"is {_shown(value)}, too large for a number") from None


def _inside(key: str, name: str) -> str:
    shown = name if name.isidentifier() else _shown(name)
    return f"{key}.{shown}" if key else shown


def _shown(value: Any) -> str:
    """What came, in one line of printable characters."""
    return _cut(json.dumps(value), SHOWN)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}.."
