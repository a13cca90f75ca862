"""What README, the map and the other texts name is there, and their commands can be typed."""

import importlib
import re
import shlex
import subprocess

import pytest
from absl.flags import FlagValues

from scripts import demo, flags, manual, sweep
from scripts.flags import FlagError
from tests.conftest import ROOT
from tests.documents import PAGES, anchors, blocks, broken_links
from tests.scripts.conftest import console_scripts, parsed
from tests.test_layout import MODULES, mirrored

# The map says once where the tests of a module are, and what its folder's tests share.
MIRRORING = {f"tests/{mirrored(module)}" for module in MODULES}
MIRRORING |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("*/**/conftest.py")}

OTHERS = ("WORKSPACE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
TEXTS = [*PAGES, *(ROOT / name for name in OTHERS)]

OTHERS_FLAGS = frozenset(
    [
        # Slurm's, torchrun's, TensorBoard's
        *"kill kill-on-bad-exit partition requeue signal nproc_per_node logdir".split(),
        # Model Garden's
        *"experiment mode config_file model_dir params_override".split(),
        # timm's
        *"aa amp aug-repeats clip-grad crop-pct data-dir dist-bn drop-path".split(),
        *"lr lr-base model-ema model-ema-decay opt pretrained reprob resume smoothing".split(),
        *"grad-accum-steps sync-bn batch_size".split(),
    ]
)

MAP = ROOT / "WORKSPACE.md"

ARGUMENTS = {}  # command as it is typed -> the flag that its first arguments are of


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


def typed(text: str) -> list[list[str]]:
    """Shell text -> the words of each command of ours in it, without redirections and pipes."""
    text = re.sub(r"(^|\s)#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    words = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    words.whitespace, words.whitespace_split = " \t", True
    commands: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set(words.punctuation_chars):
            commands.append([])
        elif commands[-1] or re.match(r"samestep-|python$", word):  # after A=1, do and the like
            commands[-1].append(word)
    return [each for each in commands if each and (each[0] != "python" or each[1] == "-m")]


def examples() -> list[tuple[str, list[str]]]:
    """Where it stands and the words of each command in the texts' blocks, and at the demo's end."""
    shell = [("scripts/demo.py", demo.OWN_IMAGES)]
    for block in (block for path in TEXTS for block in blocks(path)):
        shown = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)  # else output
        if block.language == "sh" or shown:
            shell.append((block.where, "\n".join(shown) or block.text))
    return [(where, words) for where, text in shell for words in typed(text)]


def check(words: list[str]) -> None:
    """Reads the flags of a command as the command would. Raises as it would."""
    line = shlex.join(words)
    named = max(
        (each for each in COMMANDS if f"{line} ".startswith(f"{each} ")), key=len, default=""
    )
    assert named, f"{line}: there is no such command; there are {', '.join(COMMANDS)}"
    arguments = words[len(named.split()) :]
    if "--" in arguments:  # samestep-launch: what comes after it is a command too
        inner = arguments.index("--")
        if re.match("samestep-|python", arguments[inner + 1]):
            check(arguments[inner + 1 :])
        arguments = arguments[:inner]
    arguments = [a for a in arguments if a.strip(".")]  # "..": and so on
    # A preset must be there; a reader's own file of flags is made in the page.
    own = ("--flagfile=[a-z]+.flags", "--version", "--help")
    arguments = [a for a in arguments if not any(re.fullmatch(each, a) for each in own)]
    if named == "samestep-sweep":
        arguments = sweep.separate(arguments)[1]  # of each list the first
    if ARGUMENTS.get(named):
        flag_values = FlagValues()
        for config_type in COMMANDS[named]:
            flags.define(config_type, flag_values)
        arguments = flags.named(ARGUMENTS[named], ["", *arguments], flag_values)[1:]
    parsed(arguments, *COMMANDS[named])


@pytest.mark.parametrize("words", [pytest.param(w, id=f"{at} {w[0]}") for at, w in examples()])
def test_an_example_can_be_typed(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    check(words)


def test_a_wrong_example_is_found():
    line = "A=1 samestep-launch --workers=2 -- samestep-train --epochs=2 --epoch=3 | tee log && ls"
    (words,) = typed(line)
    assert words[-1] == "--epoch=3"
    with pytest.raises(FlagError, match="epoch"):
        check(words)
    with pytest.raises(AssertionError, match="no such command"):
        check(["samestep-trane", "--epochs=2"])


def missing_files(text: str) -> list[str]:
    """Files of ours that a text names and that are not there."""
    text = re.sub(r"https?://\S+", "", text)
    files = re.findall(r"\b(?:input|models|trainer|scripts|tests)/[\w/]+\.\w+", text)
    return [file for file in files if not (ROOT / file).is_file()]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_a_text_names_is_there(path):
    text = path.read_text()
    defined = {*manual.EVERYWHERE, *OTHERS_FLAGS}
    for config_types in COMMANDS.values():
        flag_values = FlagValues()
        for config_type in config_types:
            flags.define(config_type, flag_values)
        defined |= set(flag_values)
    defined |= set(re.findall(r"^\+    (\w+): Annotated\[", text, re.MULTILINE))  # in a diff
    assert set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", text)) <= defined
    programs = {typed.split()[0] for typed in COMMANDS}
    assert set(re.findall(r"samestep-[a-z]+", text)) <= programs
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert missing_files(text) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_a_link_leads_somewhere(path):
    assert list(broken_links(path)) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n\n[a](#a-b-c) [b](#a-b) [c](no.md) [d](http://no.org)\n")
    assert anchors(page) == {"a-b-c"}
    assert list(broken_links(page)) == [
        "#a-b: page.md has no heading a-b",
        "no.md: there is no no.md",
    ]


@pytest.mark.parametrize(
    "block", [b for p in PAGES for b in blocks(p) if b.language == "diff"], ids=lambda b: b.where
)
def test_a_diff_can_be_applied(block):
    argv = ["patch", "--strip=1", "--dry-run", f"--directory={ROOT}"]
    done = subprocess.run(argv, input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_block_says_what_it_is(path):
    """make docs runs a block by its language; what it exchanges must be there."""
    for block in blocks(path):
        assert block.language in ("", "sh", "python", "diff", "console", "yaml"), block.where
        assert block.language or "$ samestep" not in block.text or path.name == "README.md"
        assert block.as_run
        assert "```" not in block.not_run + str(block.exchanges), block.where


def test_what_the_makefile_names_is_there():
    assert missing_files((ROOT / "Makefile").read_text()) == []


def test_the_map_shows_every_file():
    block = re.search(r"^## Files\n+```\n(.*?)^```", MAP.read_text(), re.DOTALL | re.MULTILINE)
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
