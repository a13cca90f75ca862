"""Tab completion, in a real bash and, where there is one, a real zsh."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import completion
from tests.conftest import ROOT
from tests.scripts.conftest import console_scripts, python

# In a terminal of its own, for completion works in the shells' line editors alone: types the
# line, presses Tab (another key, bound to the same), and has the shell write what it has become.
TERMINAL = """
import os, pty, sys
line, *shell = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(shell[0], shell)
seen = b""
while b"ready" not in seen:
    seen += os.read(terminal, 1000)
os.write(terminal, line.encode() + b"\\x14\\x18")
try:
    while os.read(terminal, 1000):
        pass
except OSError:  # the shell has ended
    os.waitpid(pid, 0)
"""
BASH = """
eval "$(samestep-train --completion=bash)"
report() { printf %s "$READLINE_LINE" > "$FOLDER/line"; exit; }
bind '"\\C-t": complete'
bind -x '"\\C-x": report'
PS1=ready
"""
ZSH = """
eval "$(samestep-train --completion=zsh)"
report() { print -rn -- "$BUFFER" > $FOLDER/line; exit }
zle -N report
bindkey '^T' complete-word
bindkey '^X' report
PS1=ready
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder of the commands, as pip would install them from this checkout, and their script."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in console_scripts().items():
        path = folder / name
        path.write_text(
            f"#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -c \\\n"
            f'\'import sys; sys.argv[0] = "{name}"; from {module} import main; main()\' "$@"\n'
        )
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("samestep-train --opt", "samestep-train --optimizer="),
        ("samestep-train --seed=1 --optimizer=rms", "samestep-train --seed=1 --optimizer=rmsprop "),
        ("samestep-train --data_dir=rec", "samestep-train --data_dir=records"),
        ("samestep-evaluate --optimizer", "samestep-evaluate --optimizer"),
        ("samestep-records write x --enc", "samestep-records write x --encoding="),
    ],
)
def test_the_tab_key_completes_a_line(programs, shell, line, becomes, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "records").write_text("")
    (tmp_path / ".zshrc").write_text(ZSH)
    (tmp_path / "bashrc").write_text(BASH)
    starts = {"bash": ["bash", "--rcfile", "bashrc", "-i"], "zsh": ["zsh", "-i"]}
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FOLDER": str(tmp_path),
        "ZDOTDIR": str(tmp_path),
        "TERM": "dumb",
    }
    subprocess.run(
        [sys.executable, "-c", TERMINAL, line, *starts[shell]],
        env={**os.environ, **environment},
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    found = (tmp_path / "line").read_text()
    # A shell may end the name of a file with a space.
    assert (found.rstrip() if becomes.endswith("records") else found) == becomes


def test_every_command_is_completed():
    assert completion.programs() == sorted(console_scripts())
    for text in (completion.script("bash"), completion.script("zsh")):
        assert all(name in text for name in console_scripts())


def test_another_shell_is_refused_by_name():
    done = python("-m", "scripts.train", "--completion=fish")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --completion=fish: it must be bash or zsh. ")
