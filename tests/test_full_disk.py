"""A disk that is full at any one system call of a save: one line, and the old state or the new one.

make test-attack. strace lets the calls fail, one after the other, in one process that goes on.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests import saves
from tests.conftest import ROOT, encoded, picture
from tests.test_attack import note, until  # noqa: F401 - a fixture
from tests.test_crashes import NEW, OLD, READ
from tests.trainer.workers.runs import TRAIN, fingerprint, steps_done, train_alone
from trainer import launches

# What makes files or writes them. Not close and unlink, which a full disk lets succeed.
CALLS = (
    "openat,creat,mkdir,mkdirat,write,pwrite64,writev,ftruncate,fallocate,rename,renameat,"
    "renameat2,link,linkat,symlink,fsync,fdatasync,copy_file_range,sendfile"
)
PATIENCE_SECONDS = 120
EPOCHS = 60  # of 5 steps: some seconds, in which the disk fills up

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the errors"),
]


class Saver:
    """tests.saves as a process that saves what it is asked to."""

    def __init__(self, images: Path, folder: Path):
        self._folder = folder
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(address := folder / "socket"))
        listening.listen()
        listening.settimeout(PATIENCE_SECONDS)
        argv = [sys.executable, "-m", "tests.saves", "-", str(images), str(address)]
        self.process = subprocess.Popen(argv, cwd=ROOT)
        self._asked, _ = listening.accept()
        self._asked.settimeout(PATIENCE_SECONDS)
        listening.close()

    def save(self, name: str, root: Path, failing: int | None) -> tuple[str, bool]:
        """The error, and whether a call failed: the failing-th, from 1; None: none does."""
        self._asked.send(json.dumps([name, str(root)]).encode())
        assert self._asked.recv(64) == b"prepared"
        trace = self._folder / "trace"
        with self._failing(failing, trace) if failing else nullcontext():
            self._asked.send(b"go")
            error = json.loads(self._asked.recv(2**20))
        return error, bool(failing) and "(INJECTED)" in trace.read_text()

    def close(self) -> None:
        self._asked.close()
        assert self.process.wait(PATIENCE_SECONDS) == 0

    @contextmanager
    def _failing(self, number: int, trace: Path) -> Iterator[None]:
        said = self._folder / "strace"
        inject = f"--inject={CALLS}:error=ENOSPC:when={number}"
        argv = ["strace", "-f", "-o", str(trace), "-e", CALLS, inject, "-p", str(self.process.pid)]
        with said.open("wb") as file:
            strace = subprocess.Popen(argv, stderr=file)
        end = time.monotonic() + PATIENCE_SECONDS
        while b"attached" not in said.read_bytes():
            assert strace.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.01)
        try:
            yield
        finally:
            strace.terminate()
            strace.wait()


@pytest.fixture(scope="module")
def saver(tmp_path_factory) -> Iterator[Saver]:
    folder = tmp_path_factory.mktemp("full")
    for i in range(20):
        path = folder / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed=i, height=16, width=8), "PNG"))
    found = Saver(folder / "images", folder)
    yield found
    found.close()


def test_a_full_disk_at_every_call_leaves_the_old_state_or_the_new(saver, tmp_path, note):  # noqa: F811
    base, work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    failed, refused = 0, 0
    for name in saves.SAVES:
        number, injected = 0, True
        while injected:
            number += 1
            shutil.copytree(base, work)
            message, injected = saver.save(name, work, failing=number)
            where = f"{name}, call {number}: {message!r}"
            assert "\n" not in message, where
            assert not message or "No space left on device" in message, where
            assert READ[name](work) in ((OLD, NEW) if injected else (NEW,)), where
            assert message or READ[name](work) == NEW, where
            if READ[name](work) == OLD:  # there is room again
                assert saver.save(name, work, failing=None) == ("", False), where
                assert READ[name](work) == NEW, where
            shutil.rmtree(work)
            failed += injected
            refused += bool(message)
        assert number > 2, f"{name}: nothing failed"
        assert saver.save(name, base, failing=None) == ("", False)
    note(
        "full disk at each call",
        f"ENOSPC at each of the {failed} calls of {len(saves.SAVES)} kinds of save",
        f"{refused} one-line errors; the old state or the new one each time; "
        "the same save then works",
    )


HOOK = """
import json

def log(line):
    with open("hook.jsonl", "a") as file:
        file.write(json.dumps(line) + "\\n")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("pages_left", [0, 1, 8])
def test_a_run_on_a_disk_that_fills_up_while_it_logs(data_dir, tmp_path, note, pages_left):  # noqa: F811
    """One line says so; every line of metrics is whole; with room again, the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], check=True)
    try:
        (disk / "hooked.py").write_text(HOOK)
        run, filler = disk / "run", disk / "filler"
        flags = [*TRAIN, f"--data_dir={data_dir}", f"--run_dir={run}", "--virtual_cpus=1"]
        flags += ["--on_metrics=hooked:log", "--checkpoint_every_steps=5"]
        command = [sys.executable, "-m", "scripts.train", *flags, f"--epochs={EPOCHS}"]
        own = {"cwd": disk, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, **own)
            assert until(process, lambda: steps_done(run) >= 12)
            while process.poll() is None:  # what a checkpoint removes leaves room again
                free = shutil.disk_usage(disk).free
                with suppress(OSError), filler.open("ab") as file:
                    file.write(bytes(max(0, free - pages_left * os.sysconf("SC_PAGE_SIZE"))))
                time.sleep(0.001)
        said = (tmp_path / "log").read_text().splitlines()
        assert process.returncode == 2, said
        assert "Traceback" not in "".join(said)
        assert said[-1].startswith("error: ") and "No space left on device" in said[-1]
        lines = (run / "metrics.jsonl").read_text().splitlines()
        assert all(isinstance(json.loads(line), dict) for line in lines), "no line is torn"
        assert launches.steps(run) == [0]
        filler.unlink()
        done = subprocess.run(command, capture_output=True, text=True, **own)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "damaged" not in done.stdout
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()]
        assert sorted(set(steps)) == list(range(1, 5 * EPOCHS + 1))
        assert len(launches.steps(run)) == 2
        assert fingerprint(run) == train_alone(data_dir, tmp_path / "alone", EPOCHS, 1)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    note(
        f"a disk with {pages_left} pages left while a run logs",
        1,
        "one line; every line of metrics whole; with room again: the same weights",
    )
