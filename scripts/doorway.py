"""How every command starts and ends: its flags, its exit code, its errors in one line.

    def main():
        enter(__doc__, train, Config)

    def train(config: Config):
        quiet_tensorflow()
        from trainer import loop

        loop.fit(config)

Exit codes: what the command returns (None is 0; of samestep-doctor 3 says that there are warnings);
2 for a wrong command line, setting, file, device or checkpoint, with one line on stderr; 75 for a
run that saved and stopped on a signal; 69 where another worker is gone; 130 for a Ctrl-C that ends
at once; 1 with the traceback for a fault of ours.
"""

import errno
import inspect
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, NoReturn

from input.foundation import retry
from input.foundation.errors import UserError
from input.foundation.text import one_line
from scripts import flags
from trainer.errors import INTERRUPTED, PreemptedError

_HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull")
# What the user's files, folders and disks bring about; other errors of the system are our faults.
_OF_THE_SYSTEM = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        *(errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO),
        *retry.PASSING,
    }
)
_VERSION = ("-version", "--version")


class Command(NamedTuple):
    """What runs, and the dataclasses that its flags are read into."""

    run: Callable[..., int | None]  # of one instance of each dataclass; returns the exit code
    config_types: tuple[type, ...]
    argument: str | None = None  # the flag that an argument without --name= is of


def enter(
    description: str | None,
    run: Callable[..., int | None],
    *config_types: type,
    argument: str | None = None,
) -> NoReturn:
    """Calls run with one instance of each dataclass, read from the command line, and exits.

    --help prints the description and every flag. `run` imports TensorFlow, its module does not.
    argument: as of Command.
    """
    command = Command(run, config_types, argument)
    sys.exit(_perform(_program(), description or "", command, sys.argv))


def enter_command(description: str | None, commands: dict[str, Command]) -> NoReturn:
    """As enter, for a program of several commands: the first argument says which."""
    program, names = _program(), ", ".join(commands)
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name in commands:
        command = commands[name]
        help_text = inspect.getdoc(command.run) or ""
        argv = [sys.argv[0], *sys.argv[2:]]
        sys.exit(_perform(f"{program} {name}", help_text, command, argv))
    if name in _HELP:
        _show(_command_help(program, description or "", commands))
        sys.exit(0)
    if name in _VERSION:
        _show(_versions())
        sys.exit(0)
    wrong = "A command is missing" if name is None else f"{name!r} is not a command"
    sys.exit(_refuse(f"{wrong}; commands: {names}. {program} --help says more."))


def _perform(program: str, description: str, command: Command, argv: list[str]) -> int | None:
    """Reads the flags, runs the command, and returns the exit code."""
    for config_type in command.config_types:
        flags.define(config_type)
    if any(argument in _HELP for argument in argv[1:]):
        usage = f"{program} {command.argument.upper()}" if command.argument else program
        _show(_flag_help(usage, description, command.config_types))
        return 0
    if any(argument in _VERSION for argument in argv[1:]):
        _show(_versions())
        return 0
    if command.argument:
        argv = flags.named(command.argument, argv)
    try:
        flags.parse(argv)
        return command.run(*(flags.read(config_type) for config_type in command.config_types))
    except flags.FlagError as error:
        return _refuse(f"{error} {program} --help lists the flags.")
    except PreemptedError as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        path = error.filename or "a file"
        return _refuse(f"{path} cannot be used: {error.strerror}. Repair that, or use another.")
    except UserError as error:
        return _refuse(error.message, error.exit_code, error.details)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _show(text: str) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head is nobody's fault
    print(text)


def _refuse(message: str, exit_code: int = 2, details: Sequence[str] = ()) -> int:
    lines = [f"error: {message}", *(f"  {detail}" for detail in details)]
    print(*map(one_line, lines), sep="\n", file=sys.stderr)
    return exit_code


def _versions() -> str:
    lines = []
    for package in ("samestep", "tensorflow", "keras"):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:  # python -m in a clone that is not installed
            version = "not installed"
        lines.append(f"{package} {version}")
    return "\n".join([*lines, f"python {platform.python_version()}"])


def _program() -> str:
    """The command as the user types it: samestep-train, or python -m scripts.train."""
    module = sys.modules["__main__"].__spec__
    return f"python -m {module.name}" if module else Path(sys.argv[0]).name


def _flag_help(program: str, description: str, config_types: tuple[type, ...]) -> str:
    width = min(max(shutil.get_terminal_size(fallback=(90, 24)).columns, 60), 100)
    lines = [inspect.cleandoc(description), "", f"Usage: {program} [--name=value ...]", ""]
    for config_type in config_types:
        lines += flags.manual(config_type, width)
    lines += [
        "Of every command:",
        "  --flagfile              A file of flags, one a line; # starts a comment line.",
        "  --help                  This text.",
        "  --version               Versions of samestep, TensorFlow, Keras and Python.",
    ]
    return "\n".join(lines)


def _command_help(program: str, description: str, commands: dict[str, Command]) -> str:
    lines = [inspect.cleandoc(description), "", f"Usage: {program} COMMAND [--name=value ...]", ""]
    for name, command in commands.items():
        lines.append(f"  {name:<22}  {(inspect.getdoc(command.run) or '').splitlines()[0]}")
    return "\n".join([*lines, "", f"{program} COMMAND --help lists the flags of a command."])
