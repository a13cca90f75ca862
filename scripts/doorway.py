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
at once, 143 for a SIGTERM to a command that writes files; 1 with the traceback for a fault of ours.
"""

import errno
import inspect
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, NoReturn

from input.foundation import retry
from input.foundation.errors import UserError
from input.foundation.text import did_you_mean, one_line
from scripts import completion, flags, manual
from trainer.errors import PreemptedError

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
_COMPLETION = "--completion="


class Command(NamedTuple):
    """What runs, and the dataclasses that its flags are read into."""

    run: Callable[..., int | None]  # of one instance of each dataclass; returns the exit code
    config_types: tuple[type, ...]
    argument: str | None = None  # the flag that an argument without --name= is of
    required: tuple[str, ...] = ()  # flags that it needs, beside those whose setting says so


def enter(
    description: str | None,
    run: Callable[..., int | None],
    *config_types: type,
    argument: str | None = None,
    required: tuple[str, ...] = (),
) -> NoReturn:
    """Calls run with one instance of each dataclass, read from the command line, and exits.

    argument, required: see Command.
    --help prints the description and every flag. `run` imports TensorFlow, its module does not, and
    what it can refuse it refuses before that.
    """
    command = Command(run, config_types, argument, required)
    sys.exit(_perform(_program(), description or "", command, sys.argv))


def enter_command(description: str | None, commands: dict[str, Command]) -> NoReturn:
    """As enter, for a program of several commands: the first argument says which."""
    program = _program()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in commands:
        command = commands[name]
        help_text = inspect.getdoc(command.run) or ""
        argv = [sys.argv[0], *sys.argv[2:]]
        sys.exit(_perform(f"{program} {name}", help_text, command, argv))
    if name.partition("=")[0] in _HELP:
        sys.exit(_show(_command_help(program, description or "", commands)))
    if name in _VERSION:
        sys.exit(_show(_versions()))
    if name.startswith(_COMPLETION):
        sys.exit(_complete(program, name.removeprefix(_COMPLETION), (), commands))
    wrong = f"{name!r} is not a command" if name else "A command is missing"
    hint = did_you_mean(name, commands)
    sys.exit(
        _refuse(f"{wrong}; commands: {', '.join(commands)}.{hint} {program} --help says more.")
    )


def _perform(program: str, description: str, command: Command, argv: list[str]) -> int | None:
    """Reads the flags, runs the command, and returns the exit code."""
    for config_type in command.config_types:
        flags.define(config_type)
    for place, argument in enumerate(argv[1:], 1):
        option, _, about = argument.partition("=")
        if option in _HELP:
            if option == "--help" and not about and not "".join(argv[place + 1 :]).startswith("-"):
                about = "".join(argv[place + 1 : place + 2])  # --help NAME
            return _help(program, description, command, about)
        if argument in _VERSION:
            return _show(_versions())
        if argument.startswith(_COMPLETION):
            shell = argument.removeprefix(_COMPLETION)
            return _complete(program, shell, command.config_types)
    if command.argument:
        argv = flags.named(command.argument, argv)
    try:
        flags.parse(argv)
        return command.run(*(flags.read(config_type) for config_type in command.config_types))
    except flags.FlagError as error:
        return _refuse_flag(program, error)
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
    except KeyboardInterrupt as stop:
        print("interrupted", file=sys.stderr)
        return 128 + (stop.args or (signal.SIGINT,))[0]  # as shells count


def _help(program: str, description: str, command: Command, about: str) -> int:
    """Prints the help of a command, or of the flag that it is asked about."""
    columns = manual.width()
    if about:
        try:
            lines = list(
                manual.explained(command.config_types, about, columns, command.required, program)
            )
        except flags.FlagError as error:
            return _refuse_flag(program, error)
        return _show("\n".join(lines))
    usage = f"{program} {command.argument.upper()}" if command.argument else program
    lines = [*manual.prose(description, columns), f"Usage: {usage} [--name=value ...]", ""]
    lines += manual.everything(command.config_types, columns, command.required, program)
    return _show("\n".join(lines))


def _complete(
    program: str, shell: str, config_types: tuple[type, ...], commands: Iterable[str] = ()
) -> int:
    if shell == completion.WORDS:
        return _show("\n".join(completion.words(config_types, commands)))
    try:
        return _show(completion.script(shell))
    except flags.FlagError as error:
        return _refuse_flag(program, error)


def _show(text: str) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head is nobody's fault
    print(text)
    return 0


def _refuse_flag(program: str, error: flags.FlagError) -> int:
    more = f"--help={error.about} explains it" if error.about else "--help lists the flags"
    return _refuse(f"{error} {program} {more}.")


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


def _command_help(program: str, description: str, commands: dict[str, Command]) -> str:
    lines = [*manual.prose(description, manual.width())]
    lines += [f"Usage: {program} COMMAND [--name=value ...]", ""]
    for name, command in commands.items():
        lines.append(f"  {name:<22}  {(inspect.getdoc(command.run) or '').splitlines()[0]}")
    return "\n".join([*lines, "", f"{program} COMMAND --help lists the flags of a command."])
