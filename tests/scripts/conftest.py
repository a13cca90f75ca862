"""What the commands' tests share: the list of commands, and a process that runs Python."""

import configparser
import os
import re
import subprocess
import sys

import pytest
from absl.flags import FlagValues
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from scripts import flags
from tests.conftest import ROOT

# Runs a program's main as its console script does, then says what it defined and imported.
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


class ByPage(LoadFileScheduling):
    """A page of the documents goes to one process, which runs its blocks in their order."""

    def _split_scope(self, nodeid: str) -> str:
        page = re.search(r"\[(\S+\.md):\d+\]$", nodeid)
        return page[1] if page else super()._split_scope(nodeid)


# Not xdist_group: xdist 3.8 marks tests for it in a way that pytest 9.2 does not see.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByPage | None:
    return ByPage(config, log) if config.getvalue("dist") == "loadfile" else None


def console_scripts() -> dict[str, str]:
    """Program -> module, as setup.cfg has them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    pairs = [line.split("=") for line in lines if line]
    return {program.strip(): target.strip().removesuffix(":main") for program, target in pairs}


def python(
    *arguments: str, columns: int = 80, path: str = "", **environment: str
) -> subprocess.CompletedProcess:
    """Runs Python in the checkout on a terminal of that width; `path` is searched for modules."""
    environment |= {"PYTHONPATH": f"{ROOT}:{path}", "COLUMNS": str(columns)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def probed(program: str, *arguments: str) -> subprocess.CompletedProcess:
    """A console script's run; stderr ends with [its flags, the boolean ones, what it loaded]."""
    return python("-c", PROBE, console_scripts()[program], program, *arguments)


def parsed(arguments: list[str], *config_types: type) -> list:
    """What a command with these dataclasses would read. Raises as the command would."""
    flag_values = FlagValues()
    for config_type in config_types:
        flags.define(config_type, flag_values)
    flags.parse(["command", *arguments], flag_values)
    return [flags.read(config_type, flag_values) for config_type in config_types]
