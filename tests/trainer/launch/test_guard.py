"""All that was started below a process is killed; test_local.py kills launchers themselves."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from trainer.launch import guard

# A process with children of every kind: prints how many, kills them, prints how many are left.
STARTED = """
import os, subprocess
from trainer.launch import guard
guard._become_subreaper()
kinds = ["sleep 600 &", "setsid sleep 600 &", "env -i setsid sleep 600 &", "(env -i sleep 600 &)"]
subprocess.run(["bash", "-c", "exec >&- 2>&-; " + " ".join(kinds)])
print(len(guard._descendants(os.getpid())))
guard.kill_descendants()
print(len(guard._descendants(os.getpid())))
"""


def test_descendants_are_killed_whatever_they_have_become():
    done = subprocess.run(
        [sys.executable, "-c", STARTED], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["4", "0"], done.stderr


def test_no_other_process_is_killed():
    with subprocess.Popen(["sleep", "600"]) as other:
        assert other.pid in guard._descendants(os.getpid())
        subprocess.run([sys.executable, "-c", STARTED], cwd=ROOT, check=True, timeout=60)
        assert other.poll() is None
        other.kill()


# A launcher that restarts between the last look for what it has started and its end.
RESTARTING = """
import os, sys, threading
from trainer.launch import guard
looked, started, end = threading.Event(), threading.Event(), os._exit
def ending(code):
    looked.set()
    started.wait(timeout=2)
    end(code)
guard.stand()
os._exit = ending
print("ready", flush=True)
looked.wait()
guard.start(["sleep", sys.argv[1]], os.environ)
started.set()
"""


def test_nothing_is_started_after_the_last_look():
    """The one that waits is killed, so that the other one ends."""
    seconds = f"87{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-c", RESTARTING, seconds], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.kill()
        process.stdout.read()  # until the other one has ended
    left = subprocess.run(["pkill", "-KILL", "-fx", f"sleep {seconds}"])
    assert left.returncode == 1  # none was found


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), 11)", 128 + signal.SIGSEGV),
        ("print('done')", 0),
        ("raise ValueError", 1),
    ],
)
def test_the_exit_code_is_that_of_the_work(work, code):
    program = f"import os, sys; from trainer.launch import guard; guard.stand(); {work}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == code


def test_closed_standard_streams_are_not_taken_for_pipes():
    program = (
        "import os; from trainer.launch import guard; guard.stand()\n"
        "os.write(1, b'into nothing'); os.write(2, b'into nothing')"
    )
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program],
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0
