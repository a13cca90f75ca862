"""What README, the map and the other texts name is there, and their commands can be typed."""

import importlib
import re
import shlex

import pytest
from absl.flags import FlagValues

from scripts import demo, flags, manual
from tests.conftest import ROOT
from tests.scripts.conftest import console_scripts, parsed
from tests.test_layout import MODULES, mirrored

# The map says once where the tests of a module are, and what its folder's tests share.
MIRRORING = {f"tests/{mirrored(module)}" for module in MODULES}
MIRRORING |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("*/**/conftest.py")}

TEXTS = [
    ROOT / name
    for name in (
        *("README.md", "WORKSPACE.md", "CHANGELOG.md"),
        *("CONTRIBUTING.md", "SECURITY.md"),
    )
]
TEXTS += sorted((ROOT / "docs").glob("*.md"))

ARGUMENTS = {}  # command as it is typed -> the flag that its first argument may fill


def commands() -> dict[str, tuple[type, ...]]:
    """Every command as it is typed -> the dataclasses of its flags."""
    modules = console_scripts()
    modules |= {f"python -m scripts.{name}": f"scripts.{name}" for name in ("demo", "proof")}
    found = {}
    for typed, module in modules.items():
        with pytest.MonkeyPatch.context() as patch:
            script = importlib.import_module(module)

            def enter(_, run, *config_types, typed=typed, argument=None, required=()):
                found[typed] = config_types
                ARGUMENTS[typed] = argument

            def enter_command(_, commands, typed=typed):
                for name, command in commands.items():
                    found[f"{typed} {name}"] = command.config_types
                    ARGUMENTS[f"{typed} {name}"] = command.argument

            for name, stand_in in (("enter", enter), ("enter_command", enter_command)):
                if hasattr(script, name):
                    patch.setattr(script, name, stand_in)
            script.main()
    return found


COMMANDS = commands()


def examples() -> list[str]:
    """Command lines in the texts' code blocks, and those that the demo ends with."""
    blocks = [
        block
        for path in TEXTS
        for block in re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    ]
    joined = [block.replace("\\\n", " ") for block in [*blocks, demo.OWN_IMAGES]]
    lines = [line for block in joined for line in block.splitlines()]
    lines = [line.strip().removeprefix("$ ") for line in lines]
    return [line for line in lines if re.match(r"samestep-\S+ .*--|python -m", line)]


@pytest.mark.parametrize("line", examples())
def test_an_example_can_be_typed(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    typed = max((typed for typed in COMMANDS if line.startswith(typed)), key=len, default=None)
    assert typed, f"there is no such command; there are {', '.join(COMMANDS)}"
    line, _, inner = line.partition(" -- ")
    if inner:  # samestep-launch: what comes after it is a command too
        test_an_example_can_be_typed(inner.partition(" > ")[0].strip(), monkeypatch)
    arguments = shlex.split(line.removeprefix(typed), comments=True)
    arguments = [a for a in arguments if a.strip(".")]  # "..": and so on
    if ARGUMENTS.get(typed) and not arguments[0].startswith("-"):
        arguments[0] = f"--{ARGUMENTS[typed]}={arguments[0]}"
    arguments = [a for a in arguments if not a.endswith("your.flags")]
    parsed(arguments, *COMMANDS[typed])


def missing_files(text: str) -> list[str]:
    """Files of ours that a text names and that are not there."""
    files = re.findall(r"\b(?:input|models|trainer|scripts|tests)/[\w/]+\.\w+", text)
    return [file for file in files if not (ROOT / file).is_file()]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_a_text_names_is_there(path):
    text = path.read_text()
    defined = {*manual.EVERYWHERE, "logdir"}  # the last one is tensorboard's
    defined |= {"kill", "partition", "requeue", "signal"}  # Slurm's
    defined |= {"lr", "batch_size", "resume"}  # other frameworks', which lead to ours
    for config_types in COMMANDS.values():
        flag_values = FlagValues()
        for config_type in config_types:
            flags.define(config_type, flag_values)
        defined |= set(flag_values)
    assert set(re.findall(r"(?<![\w-])--([a-z]\w*)", text)) <= defined
    programs = {typed.split()[0] for typed in COMMANDS}
    assert set(re.findall(r"samestep-[a-z]+", text)) <= programs
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert missing_files(text) == []


def test_what_the_makefile_names_is_there():
    assert missing_files((ROOT / "Makefile").read_text()) == []


def test_the_map_shows_every_file():
    block = re.search(r"^## Files\n+```\n(.*?)^```", TEXTS[1].read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.split("  ", 1) for line in block[1].splitlines() if line]
    assert all(len(line) == 2 and line[1].strip() for line in lines), "a line says what it is"
    listed = [path for path, _ in lines]
    assert len(set(listed)) == len(listed)
    assert [path for path in listed if not (ROOT / path).exists()] == []
    for folder in ("input", "models", "trainer", "scripts", "tests"):
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".flags")]
        # Only __init__.py files with something in them are worth a line.
        there = {str(path.relative_to(ROOT)) for path in files if path.stat().st_size}
        assert there - set(listed) - MIRRORING == set()
