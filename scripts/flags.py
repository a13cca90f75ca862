"""Dataclass -> absl flags -> dataclass. No other file knows absl flags.

A setting (input.foundation.settings) is one field, `name: Annotated[T, "help", ..] = default`, and
becomes one flag. T is int, float, str, bool, Literal of strings, int or such a Literal, or one of
these `| None`, where None means that the flag is not on the command line; or tuple[str, ...], whose
flag may be given several times. A field whose type is a dataclass stands for that dataclass's
fields: flags are flat.
"""

import dataclasses
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from absl import flags

from input.foundation.settings import REQUIRED, Setting, settings

Config = TypeVar("Config")

_DEFINE: dict[type, Any] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    bool: flags.DEFINE_bool,
}


class _NumberOrWord(flags.ArgumentParser[int | str]):
    """An integer, or one of some words."""

    def __init__(self, words: Sequence[str]):
        self._words = words

    def parse(self, argument: int | str) -> int | str:
        if argument in self._words:
            return argument
        try:
            return int(argument)
        except ValueError:
            words = " or ".join(self._words)
            raise ValueError(f"{argument!r} is neither an integer nor {words}") from None

    def flag_type(self) -> str:
        return "int or word"


class FlagError(ValueError):
    """A command line is wrong; the message is one line that names the flag."""


def define(config_type: type, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag per field of a dataclass, those of nested dataclasses included."""
    for group in _groups(config_type):
        for setting in settings(group):
            if setting.default is dataclasses.MISSING:
                raise TypeError(f"{group.__name__}.{setting.name} needs a default to be a flag.")
            # absl's own --help lists the flags of the module that is called like the program.
            where: dict[str, Any] = {"flag_values": flag_values, "module_name": sys.argv[0]}
            if get_origin(setting.kind) is tuple:
                none = setting.default or None
                flags.DEFINE_multi_string(setting.name, none, setting.help, **where)
            elif get_origin(setting.kind) is Literal:
                choices = get_args(setting.kind)
                flags.DEFINE_enum(setting.name, setting.default, choices, setting.help, **where)
            elif get_origin(setting.kind) is Union:
                parser = _NumberOrWord(get_args(get_args(setting.kind)[1]))
                where["serializer"] = flags.ArgumentSerializer()
                flags.DEFINE(parser, setting.name, setting.default, setting.help, **where)
            else:
                _DEFINE[setting.kind](setting.name, setting.default, setting.help, **where)


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
    except (flags.Error, ValueError) as error:  # ValueError: --nosuch=1, a flagfile that is no text
        message = str(error)
        end = "" if message.endswith(("?", ".")) else "."
        raise FlagError(message + end) from error
    if rest:
        raise FlagError(f"{rest[0]!r} is not a flag: flags are written --name=value.")


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


def manual(
    config_type: type, width: int, flag_values: flags.FlagValues = flags.FLAGS
) -> Iterator[str]:
    """Help on a dataclass's defined flags: for it and each nested dataclass its docstring, then
    every flag with help and default, in lines of at most width columns where words allow it."""
    for group in _groups(config_type):
        yield from textwrap.wrap(" ".join((group.__doc__ or "").split()), width)
        for setting in settings(group):
            yield from _entry(setting, flag_values[setting.name], width)
        yield ""


def _entry(setting: Setting, flag: flags.Flag[Any], width: int, column: int = 26) -> list[str]:
    """One flag's lines: name on the left; help, range and default from the given column on."""
    name = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}"
    several = isinstance(flag, flags.MultiFlag)
    unset = several or flag.default is None or flag.default == ""
    # absl quotes every default, '256' too.
    default = "unset" if unset else str(flag.default_as_str).strip("'")
    notes = [setting.range, f"default:\N{NO-BREAK SPACE}{default}"]
    if REQUIRED in setting.bounds:
        notes = ["required"]
    text = setting.help if several else flag.help  # absl adds a sentence to the former
    text = f"{text} ({'; '.join(filter(None, notes))})"
    lines = textwrap.wrap(text, width - column, break_on_hyphens=False)
    lines = [" " * column + line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
    if len(name) + 2 > column:
        return [name, *lines]
    return [name.ljust(column) + lines[0].lstrip(), *lines[1:]]


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
