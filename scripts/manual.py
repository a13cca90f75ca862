"""What --help prints: every flag by what it belongs to, or one flag alone."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Collection, Iterator, Sequence

from input.foundation.settings import REQUIRED, Setting
from scripts import flags, foreign

COLUMN = 26  # where the texts begin
_EVERYWHERE = {
    "flagfile": "A file of flags, one a line; # starts a comment line.",
    "help": "This text. --help=NAME explains one flag.",
    "completion": "bash or zsh: what makes the Tab key complete the flags of every command, once "
    'it has run: eval "$(PROGRAM --completion=bash)" in ~/.bashrc.',
    "version": "Versions of samestep, TensorFlow, Keras and Python.",
}
EVERYWHERE = tuple(_EVERYWHERE)  # the flags of every command


def width() -> int:
    """Columns of the terminal, within what reads well; 80 where there is none."""
    return min(max(shutil.get_terminal_size(fallback=(80, 24)).columns, 60), 100)


def prose(description: str, columns: int) -> Iterator[str]:
    """A docstring's paragraphs in lines of so many columns; its commands stay as they are typed."""
    for paragraph in inspect.cleandoc(description).split("\n\n"):
        typed = re.match(r"samestep-|python |\s", paragraph)
        yield from paragraph.split("\n") if typed else textwrap.wrap(paragraph, columns)
        yield ""


def everything(
    config_types: Sequence[type], columns: int, required: Collection[str], program: str
) -> Iterator[str]:
    """The lines of all flags of a command, in at most so many columns where words allow it.

    required: flags that this command needs, beside those whose setting says so.
    """
    for title, own in flags.sections(config_types).items():
        yield from textwrap.wrap(title, columns)
        for setting in own:
            yield from _entry(setting, columns, setting.name in required)
        yield ""
    yield "Of every command"
    for name, text in _EVERYWHERE.items():
        yield from _lines(f"  --{name}", text.replace("PROGRAM", program), columns)


def explained(
    config_types: Sequence[type],
    name: str,
    columns: int,
    required: Collection[str],
    program: str,
) -> Iterator[str]:
    """The lines of one flag, which may have the name that another framework gives to it.

    Raises FlagError where there is no such flag.
    """
    by_title = flags.sections(config_types)
    settings = {each.name: (title, each) for title, own in by_title.items() for each in own}
    found = flags.meant(name, list(settings))
    if found is None and name in EVERYWHERE:
        yield from _lines(f"  --{name}", _EVERYWHERE[name].replace("PROGRAM", program), columns)
        return
    if found is None:
        raise flags.unknown(name.strip("-"), list(settings))
    title, setting = settings[found]
    yield f"{title.removesuffix('.')}:"
    yield from _entry(setting, columns, found in required)
    if theirs := foreign.THEIRS.get(found):
        called = ", ".join(f"--{each}" for each in theirs.split() if each not in settings)
        yield from textwrap.wrap(f"Other frameworks call it {called}.", columns)


def _entry(setting: Setting, columns: int, required: bool) -> list[str]:
    """One flag's lines: name on the left; what it takes, help, range and default on the right."""
    name = f"  --[no]{setting.name}" if setting.kind is bool else f"  --{setting.name}"
    default = setting.default
    if default is None or default in ("", ()):
        default = "unset"
    elif isinstance(default, bool):
        default = str(default).lower()
    notes = [setting.range, f"default:\N{NO-BREAK SPACE}{default}"]
    if required or REQUIRED in setting.bounds:
        notes = ["required"]
    words = flags.choices(setting)
    # Of a number or a word the help says which word.
    takes = f"<{'|'.join(words)}>: " if words and not setting.range else ""
    return _lines(name, f"{takes}{setting.help} ({'; '.join(filter(None, notes))})", columns)


def _lines(name: str, text: str, columns: int) -> list[str]:
    lines = textwrap.wrap(text, columns - COLUMN, break_on_hyphens=False)
    lines = [" " * COLUMN + line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
    if len(name) + 2 > COLUMN:
        return [name, *lines]
    return [name.ljust(COLUMN) + lines[0].lstrip(), *lines[1:]]
