"""What every command promises at its door: help, exit codes, one line for what is wrong."""

import configparser
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


def console_scripts() -> dict[str, str]:
    """Program -> module, as setup.cfg has them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    pairs = [line.split("=") for line in lines if line]
    return {program.strip(): target.strip().removesuffix(":main") for program, target in pairs}


SCRIPTS = console_scripts()
COMMANDS = [(program, ()) for program in SCRIPTS if program != "samestep-records"]
COMMANDS += [("samestep-records", ("write",))]

# Runs a program's main in-process, then says what it defined and imported.
PROBE = """
import json, sys
module, *sys.argv = sys.argv[1:]
try:
    __import__(module, fromlist=["main"]).main()
finally:
    from absl import flags
    defined = [f.name for f in flags.FLAGS.flags_by_module_dict().get(sys.argv[0], [])]
    booleans = [name for name in defined if flags.FLAGS[name].boolean]
    loaded = sorted({"tensorflow", "keras"} & set(sys.modules))
    print(json.dumps([defined, booleans, loaded]), file=sys.stderr)
    from absl import app, logging  # TensorFlow loads them: one of our flags may be theirs
"""


def run(*command: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, **options
    )


def processor_seconds() -> float:
    """Of all children so far: what other processes do on this machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_help_lists_every_flag_at_once(program, command):
    seconds = []
    for option in ("--help", "--helpfull"):
        before = processor_seconds()
        asked = run("-c", PROBE, SCRIPTS[program], program, *command, option)
        seconds.append(processor_seconds() - before)
        assert asked.returncode == 0, asked.stderr
    defined, booleans, loaded = json.loads(asked.stderr)
    listed = {line.split()[0] for line in asked.stdout.splitlines() if line.startswith("  --")}
    expected = {f"--[no]{name}" if name in booleans else f"--{name}" for name in defined}
    assert expected
    assert listed == expected | {"--flagfile", "--help"}
    assert " ".join(["Usage:", program, *command]) in asked.stdout
    assert max(map(len, asked.stdout.splitlines())) <= 100
    assert loaded == []
    assert min(seconds) < 1


def test_help_of_records_lists_its_commands():
    asked = run("-c", PROBE, SCRIPTS["samestep-records"], "samestep-records", "-h")
    assert asked.returncode == 0
    assert "Usage: samestep-records COMMAND" in asked.stdout
    assert "\n  write  " in asked.stdout
    description = asked.stdout.split("\n  write  ")[1].splitlines()[0].strip()
    of_write = run("-m", "scripts.records", "write", "-h", cwd=ROOT).stdout
    assert of_write.startswith(f"{description}\n\nUsage: python -m scripts.records write ")


def test_help_may_be_read_in_part():
    part = f"{sys.executable} -u -m scripts.records write --help | head -n 1"
    asked = subprocess.run(["sh", "-c", part], capture_output=True, text=True, cwd=ROOT)
    assert asked.stdout.count("\n") == 1
    assert asked.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "A command is missing; commands: write, index, verify, show."),
        (["wirte"], "'wirte' is no command; commands: write, index, verify, show."),
        (
            ["--images=x", "write"],
            "'--images=x' is no command; commands: write, index, verify, show.",
        ),
        (["write", "--image=x"], "Unknown command line flag 'image'. Did you mean: images ?"),
        (["write"], "--images is missing"),
    ],
)
def test_a_wrong_command_line_of_records_is_one_line(arguments, said):
    refused = run("-m", "scripts.records", *arguments, cwd=ROOT)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {said}")
    assert refused.stderr.count("\n") == 1


def test_write_reports_its_tenths_its_splits_and_the_next_command(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (8, 8), (number, 0, 0))
            image.save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "images/dog/9.png").write_bytes(b"no image")
    written = run(
        *("-m", "scripts.records", "write", f"--images={tmp_path}/images"),
        *(f"--out={tmp_path}/my data", "--split=train:0.8,validation:0.2", "--max_bad_images=1"),
        cwd=ROOT,
    )
    assert written.returncode == 0, written.stderr
    shares = [line for line in written.stderr.splitlines() if "%" in line]
    assert shares == [f"{2 * n} of 20 images ({10 * n} %)" for n in range(1, 11)]
    _, train, validation, total, _, following = written.stdout.splitlines()
    assert [row.split()[:2] for row in (train, validation)] == [["train", "2"], ["validation", "2"]]
    assert int(train.split()[2]) + int(validation.split()[2]) == 19
    assert total.startswith("19 records in ")
    assert total.endswith(", 1 images left out")
    data, runs = f"'{tmp_path}/my data'", "'runs/my data'"
    assert following == f"Next: samestep-train --data_dir={data} --run_dir={runs}"


DOOR = '''
"""Kiln: fires clay."""
import sys
from dataclasses import dataclass
from typing import Annotated

from input.errors import BadRecordError, InputError
from models.config import ModelError
from scripts.doorway import enter
from trainer.errors import TrainerError

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
    {deed}

enter(__doc__, fire, Kiln, Clay)
'''


@pytest.fixture
def door(tmp_path):
    """A program whose deed ends with the given line."""

    def enter(deed: str, *arguments: str) -> subprocess.CompletedProcess:
        program = tmp_path / "kiln"
        program.write_text(DOOR.replace("{deed}", deed))
        return run(str(program), *arguments)

    return enter


def test_the_deed_gets_the_instances(door):
    done = door("pass", "--grams=3", "--celsius=900")
    assert done.stdout == "Kiln(celsius=900) Clay(grams=3.0)\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_the_deed_gives_the_exit_code(door):
    assert door("return 3").returncode == 3


@pytest.mark.parametrize(
    ("deed", "arguments", "said"),
    [
        ("pass", ["--celsiu=1"], "Did you mean: celsius ? kiln --help lists the flags."),
        ("pass", ["--celsius=hot"], "flag --celsius=hot"),
        ("pass", ["hot"], "'hot' is no flag"),
        ("pass", ["--flagfile=none.flags"], "--flagfile=none.flags: No such file or directory."),
        ("pass", ["--celsius=2001"], "error: --celsius must be 2000 or less.\n"),
        ("raise InputError('no clay')", [], "error: no clay\n"),
        ("raise BadRecordError('a', 1, 2, 'wet')", [], "error: Bad record: shard a"),
        ("raise ModelError('no model')", [], "error: no model\n"),
        ("raise TrainerError('no trainer')", [], "error: no trainer\n"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_2(door, deed, arguments, said):
    refused = door(deed, *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1


def test_an_interrupt_is_one_line_and_exit_130(door):
    stopped = door("raise KeyboardInterrupt")
    assert (stopped.returncode, stopped.stderr) == (130, "interrupted\n")


def test_any_other_exception_keeps_its_traceback(door):
    failed = door("raise ValueError('cracked')")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback")
    assert failed.stderr.endswith("ValueError: cracked\n")


def test_help_wins_over_a_wrong_flag(door):
    asked = door("raise ValueError", "--celsiu=1", "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.startswith(
        "Kiln: fires clay.\n\nUsage: kiln [--name=value ...]\n\nThe oven."
    )


NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1.4  3 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be
I0000 00:00:1.4  3 port.cc:153] oneDNN custom operations are on. You may see slightly different
2025-10-23 23:20:13.7: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on. You may
E0000 00:00:1 cuda_dnn.cc:83] Unable to register cuDNN factory: Attempting to register factory for
I0000 00:00:1  3 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available CPU
To enable the following instructions: AVX2, in others, rebuild TensorFlow with the appropriate
E0000 00:00:1.4  3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)
"""
SIGNAL = """\
E0000 00:00:1.4  3 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_NOT_PERMITTED (800)
W0000 00:00:1.4  3 gpu_device.cc:2342] Cannot dlopen some GPU libraries.
oneDNN, cuInit and cudart are words
"""


@pytest.mark.parametrize(
    ("end", "code", "tail"),
    [
        ("pass", 0, ""),
        ("os.write(2, b'half a line')", 0, "half a line"),
        ("os._exit(7)", 7, ""),
        ("os.abort()", -6, ""),
        ("os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_the_filter_drops_the_known_lines_and_no_others(end, code, tail):
    ended = run(
        "-c",
        "import os\nfrom scripts.quiet import filtered_stderr\n"
        "with filtered_stderr():\n"
        f"    os.write(2, {(NOISE + SIGNAL + NOISE).encode()!r})\n"
        f"    {end}",
    )
    assert ended.returncode == code
    assert ended.stderr == SIGNAL + tail


def test_a_failed_import_keeps_what_it_wrote_and_its_traceback():
    failed = run(
        "-c",
        "import os\nfrom scripts.quiet import filtered_stderr\n"
        "with filtered_stderr():\n"
        "    os.write(2, b'libfoo is broken\\n')\n"
        "    import no_such_module",
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("libfoo is broken\nTraceback")
    assert failed.stderr.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


def test_a_child_started_meanwhile_is_still_heard_and_not_waited_for():
    ended = run(
        "-c",
        "import subprocess, sys\nfrom scripts.quiet import filtered_stderr\n"
        "with filtered_stderr():\n"
        "    subprocess.Popen(['sh', '-c', 'sleep 1.5; echo late >&2'])\n"
        "print('on', file=sys.stderr)",
    )
    assert ended.stderr == "on\nlate\n"


def test_tensorflow_loads_without_its_noise_and_unconfigured():
    loaded = run(
        "-c",
        "from scripts.quiet import quiet_tensorflow\nquiet_tensorflow()\nimport tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "four = [tf.config.LogicalDeviceConfiguration()] * 4\n"
        "tf.config.set_logical_device_configuration(cpu, four)\n"
        "print(len(tf.config.list_logical_devices('CPU')))",
    )
    assert loaded.stdout == "4\n"
    assert loaded.stderr == ""


def test_a_first_argument_stands_for_its_flag(tmp_path):
    refused = run("-m", "scripts.records", "verify", str(tmp_path), cwd=ROOT)
    assert refused.stderr.startswith(f"error: --dir={tmp_path} holds no split")
    same = run("-m", "scripts.records", "verify", f"--dir={tmp_path}", cwd=ROOT)
    assert (same.returncode, same.stderr) == (refused.returncode, refused.stderr)
    assert (
        "verify DIR [--name=value ...]" in run("-m", "scripts.records", "verify", "--help").stdout
    )
