"""Dataclass -> absl flags -> dataclass. No other file knows absl flags.

A setting (input.foundation.settings) is one field, `name: Annotated[T, "help", ..] = default`, and
becomes one flag. T is int, float, str, bool, Literal of strings, int or such a Literal, or one of
these `| None`, where None means that the flag is not on the command line; or tuple[str, ...], whose
flag may be given several times. A field whose type is a dataclass stands for that dataclass's
fields: flags are flat.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from absl import flags

from input.foundation.settings import Setting, settings
from input.foundation.text import did_you_mean
from scripts import foreign

Config = TypeVar("Config")

MOST_USED_TITLE = "Most used"  # of the first section of --help

_NUMBERS = {int: "a whole number", float: "a number"}


class FlagError(ValueError):
    """A command line is wrong; the message is one line that names the flag.

    about: the flag that was meant, where that is known.
    """

    def __init__(self, message: str, about: str = ""):
        super().__init__(message)
        self.about = about


class _Words(flags.ArgumentParser[Any]):
    """One of some words, or a number of a type, where there is one."""

    def __init__(self, words: Sequence[str], number: type | None = None):
        self._words = words
        self._number = number

    def parse(self, argument: Any) -> Any:
        if argument in self._words:
            return argument
        try:
            if self._number is not None:
                return self._number(argument)
        except ValueError:
            pass
        allowed = [*self._words, *([_NUMBERS[self._number]] if self._number else [])]
        known = foreign.WORDS.get(str(argument).lower(), str(argument))
        hint = did_you_mean(known, self._words)
        raise ValueError(f"it must be {' or '.join(allowed)}.{hint}")

    def flag_type(self) -> str:
        return "word"


class _Switch(flags.BooleanParser):
    """true or false."""

    def parse(self, argument: Any) -> bool:
        try:
            return super().parse(argument)
        except ValueError:
            raise ValueError("it must be true or false.") from None


def define(config_type: type, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag per field of a dataclass, those of nested dataclasses included."""
    for group in _groups(config_type):
        for setting in settings(group):
            if setting.default is dataclasses.MISSING:
                raise TypeError(f"{group.__name__}.{setting.name} needs a default to be a flag.")
            flags.DEFINE_flag(_flag(setting), flag_values, sys.argv[0])


def _flag(setting: Setting) -> flags.Flag[Any]:
    name, kind, default, text = setting.name, setting.kind, setting.default, setting.help
    if kind is bool:
        switch = flags.BooleanFlag(name, default, text)
        switch.parser = _Switch()
        return switch
    parser: flags.ArgumentParser[Any] = flags.ArgumentParser()
    serializer: flags.ArgumentSerializer[Any] = flags.ArgumentSerializer()
    if get_origin(kind) is tuple:
        return flags.MultiFlag(parser, serializer, name, default or None, text)
    if words := choices(setting):
        number = get_args(kind)[0] if get_origin(kind) is Union else None
        parser = _Words(words, number)
    elif kind in _NUMBERS:
        parser = _Words((), kind)
    return flags.Flag(parser, serializer, name, default, text)


def choices(setting: Setting) -> tuple[str, ...]:
    """The words that a setting's value may be; () where it may be any, or is a number."""
    kind = setting.kind
    if get_origin(kind) is Union:
        kind = get_args(kind)[1]
    return get_args(kind) if get_origin(kind) is Literal else ()


def named(name: str, argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """argv with what is no flag as the flag of that name: a, --x=1, b -> --name=a, --x=1, --name=b.

    All arguments, also those behind a --, where the flag may be given several times; else the
    first.
    """
    several = isinstance(flag_values[name], flags.MultiFlag)
    found, arguments, taken = [argv[0]], iter(argv[1:]), False
    for argument in arguments:
        if argument == "--" and several:
            found += (f"--{name}={each}" for each in arguments)
        elif argument.startswith("-"):
            found.append(argument)
            if _takes_another(argument, flag_values):
                found += islice(arguments, 1)
        else:
            found.append(argument if taken and not several else f"--{name}={argument}")
            taken = True
    return found


def _takes_another(argument: str, flag_values: flags.FlagValues) -> bool:
    """Whether the value of a flag is the next argument: --shots 3."""
    name = argument.lstrip("-")
    return name in flag_values and not flag_values[name].boolean


def parse(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Sets the flags from argv, whose first element is the program. --flagfile works.

    Raises FlagError for an unknown flag, a value of the wrong type, an argument that is no flag, or
    a flagfile that cannot be read.
    """
    try:
        rest = flag_values(argv)[1:]
    except flags.CantOpenFlagFileError as error:
        cause = error.__context__  # absl's own text says ERROR:: and an errno
        assert isinstance(cause, OSError)
        raise FlagError(f"--flagfile={cause.filename}: {cause.strerror}.") from error
    except flags.UnrecognizedFlagError as error:
        raise unknown(error.flagname, list(flag_values)) from error
    except flags.IllegalFlagValueError as error:
        message = str(error).removeprefix("flag ")
        if "=" in argv:
            message = "'=' stands alone: flags are written --name=value, without spaces."
            raise FlagError(message) from error
        raise FlagError(message, message.partition("=")[0].removeprefix("--")) from error
    except (flags.Error, ValueError) as error:  # ValueError: --nosuch=1, a flagfile that is no text
        message = str(error)
        end = "" if message.endswith(("?", ".")) else "."
        raise FlagError(message + end) from error
    if rest:
        raise FlagError(f"{rest[0]!r} is not a flag: flags are written {_written(rest, argv)}.")


def _written(rest: Sequence[str], argv: Sequence[str]) -> str:
    """--name=value; where it can be seen what was meant, that."""
    name, equals, _ = rest[0].partition("=")
    place = argv.index(rest[0]) if rest[0] in argv else 0  # 0: in a flagfile
    if equals and name.isidentifier():
        return f"--name=value, as in --{rest[0]}"
    if rest[0].lower() in ("true", "false") and place > 1:
        return f"--name=value, as in {argv[place - 1]}={rest[0].lower()}"
    return "--name=value, without spaces around the =" if "=" in argv else "--name=value"


def meant(name: str, defined: Sequence[str]) -> str | None:
    """The flag that a name stands for: itself, or what another framework calls it; else None."""
    name = name.strip("-").replace("-", "_").lower()
    return name if name in defined else foreign.ours(name, defined)


def unknown(name: str, defined: Sequence[str]) -> FlagError:
    said = f"There is no flag --{name}"
    if found := meant(name, defined):
        return FlagError(f"{said}: here it is --{found}.", found)
    if reason := foreign.NONE_NEEDED.get(name.replace("-", "_").lower()):
        return FlagError(f"{said}, and none is needed: {reason}.")
    return FlagError(f"{said}.{did_you_mean(name, defined, '--')}")


def read(config_type: type[Config], flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """Parsed flags -> an instance of the dataclass, which checks itself and may raise."""
    values: dict[str, Any] = {
        name: read(nested, flag_values) for name, nested in _nested(config_type)
    }
    for setting in settings(config_type):
        value = flag_values[setting.name].value
        values[setting.name] = tuple(value or ()) if get_origin(setting.kind) is tuple else value
    return config_type(**values)


def given(config_type: type, flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """A dataclass's flags that the command line or a flagfile sets, as one types them."""
    names = [setting.name for group in _groups(config_type) for setting in settings(group)]
    return [flag_values[name].serialize() for name in names if flag_values[name].present]


def sections(config_types: Sequence[type]) -> dict[str, list[Setting]]:
    """Heading -> the settings below it, of some dataclasses and those nested in them.

    First the most used ones, then by what they belong to: their Section, or else their dataclass.
    """
    found: dict[str, list[Setting]] = {MOST_USED_TITLE: []}
    for config_type in config_types:
        for group in _groups(config_type):
            for setting in settings(group):
                title = setting.section or " ".join((group.__doc__ or "").split())
                title = MOST_USED_TITLE if setting.most_used else title
                found.setdefault(title, []).append(setting)
    return {title: own for title, own in found.items() if own}


def _groups(config_type: type) -> Iterator[type]:
    """A dataclass that has flags of its own, then the dataclasses nested in it."""
    if settings(config_type):
        yield config_type
    for _, nested in _nested(config_type):
        yield from _groups(nested)


def _nested(config_type: type) -> list[tuple[str, type]]:
    hints = get_type_hints(config_type, include_extras=True)
    names = [field.name for field in dataclasses.fields(config_type)]
    return [(name, hints[name]) for name in names if dataclasses.is_dataclass(hints[name])]
