"""What every command promises at its door: help, versions, exit codes, errors in one line."""

import functools
import json
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import version

import pytest

from input.config import InputConfig
from models.config import ModelConfig
from scripts import manual
from tests.conftest import CLASSES, ROOT
from tests.scripts.conftest import console_scripts, probed, python
from trainer import preflight, run_dir
from trainer.config import Config, ResolvedConfig, ResolvedRun, RunConfig, RunDefinition
from trainer.recipe import OptimizerConfig

COMMANDS = [(program, ()) for program in console_scripts() if program != "samestep-records"]
COMMANDS += [("samestep-records", ("write",))]


def processor_seconds() -> float:
    """Of all children so far: what other processes do on this machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@functools.cache
def asked(program: str, *arguments: str) -> tuple[subprocess.CompletedProcess, float]:
    """A probed run, and its processor's seconds."""
    before = processor_seconds()
    done = probed(program, *arguments)
    return done, processor_seconds() - before


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_help_lists_every_flag_at_once(program, command):
    asks = [asked(program, *command, option) for option in ("--help", "--helpfull")]
    for help_text, _ in asks:
        assert help_text.returncode == 0, help_text.stderr
    help_text, _ = asks[1]
    defined, booleans, loaded = json.loads(help_text.stderr)
    listed = {line.split()[0] for line in help_text.stdout.splitlines() if line.startswith("  --")}
    expected = {f"--[no]{name}" if name in booleans else f"--{name}" for name in defined}
    assert expected
    assert listed == expected | {f"--{name}" for name in manual.EVERYWHERE}
    assert " ".join(["Usage:", program, *command]) in help_text.stdout
    lines = [line for line in help_text.stdout.splitlines() if not line.startswith("samestep-")]
    assert max(map(len, lines)) <= 80
    assert loaded == []
    assert min(seconds for _, seconds in asks) < 1


@pytest.mark.parametrize(
    ("program", "command", "entries"),
    [
        (
            "samestep-train",
            (),
            [
                "--global_batch_size Images per optimizer step, all replicas together. "
                "(at least 1; default: 256)",
                "kept from then on. (at least 1; default: unset)",
                "--seed Seed of initial weights, order, augmentation and dropout. "
                "(at least 0 and at most 4294967295; default: 0)",
                "--momentum Momentum of sgd, lars, muon and rmsprop. "
                "(at least 0 and below 1; default: 0.9)",
            ],
        ),
        ("samestep-evaluate", (), ["--run_dir Folder of the run. (required)"]),
        (
            "samestep-train",
            (),
            [
                "--validation_share do without validation/. (required)",
                "A run that is in it already is resumed. (required)",
            ],
        ),
        (
            "samestep-records",
            ("write",),
            [
                "--out Folder to write; gets one folder of shards per split. (required)",
                "(at least 1 and at most 95; default: 90)",
            ],
        ),
        (
            "samestep-launch",
            (),
            ["(1 to 40 lower-case letters, digits and -, a letter first; default: samestep)"],
        ),
    ],
)
def test_help_says_what_may_be_set(program, command, entries):
    text = " ".join(asked(program, *command, "--help")[0].stdout.split())
    for entry in entries:
        assert entry in text


@pytest.mark.parametrize(("program", "command"), [*COMMANDS, ("samestep-records", ())])
def test_version_is_said_at_once(program, command):
    """Without loading what it names, and whatever else is on the command line."""
    done, _ = asked(program, *command, "--version", "--no_such_flag=3")
    assert done.returncode == 0, done.stderr
    packages = [f"{name} {version(name)}" for name in ("samestep", "tensorflow", "keras")]
    assert done.stdout.splitlines() == [*packages, f"python {platform.python_version()}"]
    assert json.loads(done.stderr)[2] == []


def test_a_version_that_is_not_installed_is_said_so():
    done = python(
        "-c",
        "import sys\nfrom importlib import metadata\n"
        "def version(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = version\nsys.argv = ['samestep-train', '--version']\n"
        "from scripts import train\ntrain.main()",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("samestep not installed\ntensorflow not installed\n")


def test_help_may_be_read_in_part():
    part = f"{sys.executable} -u -m scripts.records write --help | head -n 1"
    read = subprocess.run(["sh", "-c", part], capture_output=True, text=True, cwd=ROOT)
    assert read.stdout.count("\n") == 1
    assert read.stderr == ""


DOOR = '''
"""Kiln: fires clay."""
import sys
from dataclasses import dataclass
from typing import Annotated

from input.errors import BadRecordError, InputError
from models.errors import ModelError
from scripts.doorway import enter
from trainer.errors import ClusterError, PreemptedError, TrainerError

@dataclass(frozen=True)
class Kiln:
    """The oven."""
    celsius: Annotated[int, "How hot."] = 1200
    def __post_init__(self):
        if self.celsius > 2000:
            raise InputError("--celsius must be 2000 or less.")

@dataclass(frozen=True)
class Clay:
    """What is fired."""
    grams: Annotated[float, "How much."] = 500

def fire(kiln, clay):
    print(kiln, clay)
    {end}

enter(__doc__, fire, Kiln, Clay)
'''


@pytest.fixture
def door(tmp_path):
    """A program whose command ends with the given line."""

    def enter(end: str, *arguments: str) -> subprocess.CompletedProcess:
        program = tmp_path / "kiln"
        program.write_text(DOOR.replace("{end}", end))
        return python(str(program), *arguments)

    return enter


def test_the_command_gets_the_instances(door):
    done = door("pass", "--grams=3", "--celsius=900")
    assert done.stdout == "Kiln(celsius=900) Clay(grams=3.0)\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_gives_the_exit_code(door):
    assert door("return 3").returncode == 3


@pytest.mark.parametrize(
    ("end", "arguments", "said"),
    [
        ("pass", ["--celsiu=1"], "Did you mean --celsius? kiln --help lists the flags."),
        (
            *("pass", ["--celsius=hot"]),
            "--celsius=hot: it must be a whole number. kiln --help=celsius explains it.",
        ),
        ("pass", ["--help=celsiu"], "There is no flag --celsiu. Did you mean --celsius?"),
        ("pass", ["--completion=tcsh"], "--completion=tcsh: it must be bash or zsh."),
        ("pass", ["hot"], "'hot' is not a flag"),
        ("pass", ["--flagfile=none.flags"], "--flagfile=none.flags: No such file or directory."),
        ("pass", ["--celsius=2001"], "error: --celsius must be 2000 or less.\n"),
        ("raise InputError('no clay')", [], "error: no clay\n"),
        ("raise BadRecordError('a', 1, 2, 'wet')", [], "error: Bad record: shard a"),
        ("raise ModelError('no model')", [], "error: no model\n"),
        ("raise TrainerError('no trainer')", [], "error: no trainer\n"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_2(door, end, arguments, said):
    refused = door(end, *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("raise ClusterError('worker 1 is gone')", 69, "error: worker 1 is gone\n"),
        ("raise PreemptedError('saved at step 7')", 75, "saved at step 7\n"),
    ],
)
def test_an_error_has_its_own_exit_code(door, end, code, said):
    ended = door(end)
    assert (ended.returncode, ended.stderr) == (code, said)


def test_an_interrupt_is_one_line_and_exit_130(door):
    stopped = door("raise KeyboardInterrupt")
    assert (stopped.returncode, stopped.stderr) == (130, "interrupted\n")


def test_any_other_exception_keeps_its_traceback(door):
    failed = door("raise ValueError('cracked')")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback")
    assert failed.stderr.endswith("ValueError: cracked\n")


def test_help_wins_over_a_wrong_flag(door):
    shown = door("raise ValueError", "--celsiu=1", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(
        "Kiln: fires clay.\n\nUsage: kiln [--name=value ...]\n\nThe oven."
    )


@pytest.fixture(scope="module")
def begun(data_dir, tmp_path_factory):
    """The folder of a run that has written its config.json and no more."""
    folder = tmp_path_factory.mktemp("begun")
    run = RunConfig(run_dir=str(folder), intra_op_threads=2)
    inputs = InputConfig(data_dir=str(data_dir), global_batch_size=32)
    prepared = preflight.prepare(Config(inputs, ModelConfig(), OptimizerConfig(), run), None)
    resolved = ResolvedRun(**{**vars(run), "intra_op_threads": 2})
    config = ResolvedConfig(prepared.inputs, ModelConfig(), prepared.optimizer, resolved)
    fingerprints = {split: each.fingerprint for split, each in prepared.manifests.items()}
    decoder = {"decoder": preflight.library.version(prepared.inputs.decoder)}
    run_dir.save(folder, RunDefinition(config, CLASSES, fingerprints, decoder))
    return folder


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("train", "", "--run_dir is missing"),
        ("train", "--run_dir=NEW", "--data_dir is missing"),
        ("train", "--run_dir=NEW --data_dir=/nowhere", "--data_dir=/nowhere is not there"),
        ("train", "--run_dir=NEW --data_dir=DATA/train", "is one split"),
        ("train", "--run_dir=NEW --data_dir=DATA --validation_split=test", "no split test"),
        ("train", "--run_dir=NEW --data_dir=DATA --model=resent50", "no model 'resent50'"),
        ("train", "--run_dir=NEW --data_dir=DATA --global_batch_size=512", "is not filled by 160"),
        ("train", "--run_dir=NEW --data_dir=DATA --epochs=five", "--epochs=five: it must be"),
        (
            *("train", "--run_dir=NEW --data_dir=DATA --global_batch_size=32 --init_weights=NEW"),
            "is the --run_dir itself",
        ),
        ("train", "--run_dir=NEW --data_dir=DATA --class_weights=no.json", "cannot be read"),
        (
            *("train", "--run_dir=NEW --data_dir=DATA --learning_rate=1 --learning_rate_per_256=3"),
            "exclude each other",
        ),
        (
            *("train", "--run_dir=NEW --data_dir=DATA --global_batch_size=32 --virtual_cpus=3"),
            "do not split evenly over 3 replicas",
        ),
        ("train", "--run_dir=RUN --data_dir=DATA --seed=3", "--seed=3 (the run has 0)"),
        ("train", "--lr=1", "here it is --learning_rate"),
        ("evaluate", "", "--run_dir is missing"),
        ("evaluate", "--run_dir=NEW", "holds no run"),
        ("evaluate", "--run_dir=RUN", "holds no checkpoint yet"),
        ("export", "--run_dir=RUN", "--out is missing"),
        ("export", "--run_dir=NEW --out=NEW", "holds no run"),
        ("plan", "--data_dir=DATA --global_batch_size=32 --workers=3", "over 3 replicas"),
        ("records", "show", "--dir is missing"),
        ("records", "show /nowhere", "--dir=/nowhere is not there"),
        ("records", "verify /nowhere", "--dir=/nowhere is not there"),
        ("records", "write", "--images is missing"),
    ],
)
def test_what_is_wrong_is_said_before_tensorflow_is_loaded(
    data_dir, begun, tmp_path, program, arguments, said
):
    places = {"DATA": str(data_dir), "RUN": str(begun), "NEW": str(tmp_path / "new")}
    for name, place in places.items():
        arguments = arguments.replace(name, place)
    done, seconds = asked(f"samestep-{program}", *arguments.split())
    *lines, probe = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(lines) == 1 and said in lines[0], done.stderr
    assert json.loads(probe)[2] == []
    assert seconds < 1.5  # of the processor; TensorFlow alone takes 3
    assert not (tmp_path / "new").exists()


def test_the_doctor_says_what_is_wrong_before_tensorflow_is_loaded():
    done, _ = asked("samestep-doctor", "--data_dir=/nowhere")
    assert done.returncode == 2
    assert re.search(r"^wrong +train +--data_dir=/nowhere is not there", done.stdout, re.MULTILINE)
    assert json.loads(done.stderr.splitlines()[-1])[2] == []
