"""Interrupted at any system call, a save leaves the old state or the new one, whole."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from input.manifest import Manifest
from input.prepare.config import VerifyConfig
from input.prepare.verify import verify
from input.splits import MANIFEST_FILE
from tests import saves
from tests.conftest import ROOT, encoded, error, picture, write_section
from tests.crashes import CONTENTS_LOST, KILLED, NAMES_LOST, Call, Disk, record
from trainer import launches, monitor, run_dir

OLD, NEW = "old", "new"
VIEWS = (KILLED, CONTENTS_LOST, NAMES_LOST)

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace records the system calls; it is not installed"
)


def config(folder: Path) -> str:
    found = run_dir.find(folder / "run")
    assert found in (None, saves.DEFINITION)
    return OLD if found is None else NEW


def manifest(folder: Path) -> str:
    found = Manifest.load(folder / "data" / "train")
    return NEW if found.classes[0] == saves.NEW_CLASS else OLD


def checkpoint(folder: Path) -> str:
    said: list[str] = []
    _, found = saves.checkpoints(folder / "run")
    state = found.restore(say=said.append)
    assert state is not None and not said
    assert state.evaluation == (saves.RESULT if state.step == 1 else None)
    return OLD if state.step == 1 else NEW


def evaluation(folder: Path) -> str:
    said: list[str] = []
    _, found = saves.checkpoints(folder / "run")
    state = found.restore(say=said.append)
    assert state is not None and state.step == 2 and not said
    return OLD if state.evaluation is None else NEW


def metrics(folder: Path) -> str:
    """A kill may cut the last line; the next start drops it, and no other."""
    path = folder / "run" / "metrics.jsonl"
    monitor._rewind(path, step=10**9)
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(saves.LINE)] * len(lines)
    assert len(lines) in (1, 2)
    return OLD if len(lines) == 1 else NEW


def rewritten_metrics(folder: Path) -> str:
    lines = (folder / "run" / "metrics.jsonl").read_text()
    assert lines in ("", 2 * saves.LINE)
    return NEW if lines == "" else OLD


def launched(folder: Path) -> str:
    found = launches.steps(folder / "run")
    assert found in ([0], [0, 5])
    return OLD if found == [0] else NEW


def records(folder: Path) -> str:
    """All splits are there and whole, or none."""
    out = folder / "more"
    if not out.exists():
        return OLD
    found = verify(VerifyConfig(dir=str(out)))
    assert (not found.problems, list(found.splits)) == (True, ["train", "validation"])
    return NEW


def indexed(folder: Path) -> str:
    """Without the manifest of train there is nothing to train on; what has one is whole."""
    out = folder / "index"
    for name in ("train", "validation"):
        if (out / name / MANIFEST_FILE).exists():
            assert not verify(VerifyConfig(dir=str(out / name))).problems
    return NEW if (out / "train" / MANIFEST_FILE).exists() else OLD


READ = dict(
    zip(
        saves.SAVES,
        (
            *(config, manifest, checkpoint, evaluation, metrics, rewritten_metrics, launched),
            *(records, indexed),
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Recorded:
    """The calls of tests.saves."""

    root: Path
    calls: list[Call]

    def span(self, save: str) -> tuple[int, int]:
        """The places of a save's first call, and of the first after it."""
        paths = [call.path() if call.name == "mkdir" else "" for call in self.calls]
        begin = paths.index(str(self.root / saves.BEGINS / save))
        # The mark itself goes on with an open, an fsync and a close of the folder it is in.
        synced = next(i for i in range(begin, len(paths)) if self.calls[i].name == "fsync")
        return synced + 2, paths.index(str(self.root / saves.ENDS / save))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Recorded:
    folder = tmp_path_factory.mktemp("crashes")
    root, images = folder / "root", folder / "images"
    root.mkdir()
    for i in range(20):
        path = images / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed=i, height=16, width=8), "PNG"))
    argv = [sys.executable, "-m", "tests.saves", str(root), str(images)]
    return Recorded(root, record(argv, root, folder / "trace", cwd=ROOT))


COUNTS: dict[str, dict[str, Counter[str]]] = {}


@pytest.mark.parametrize("save", saves.SAVES)
def test_every_prefix_leaves_the_old_state_or_the_new(recorded, save, tmp_path):
    first, end = recorded.span(save)
    disk = Disk(recorded.root)
    for call in recorded.calls[:first]:
        disk.apply(call)
    seen: dict[str, list[str]] = {view: [] for view in VIEWS}
    for place in range(first, end + 1):
        for view in VIEWS:
            disk.lay(tmp_path / "disk", view)
            seen[view].append(READ[save](tmp_path / "disk"))
        if place < end:
            disk.apply(recorded.calls[place])
    for states in seen.values():
        assert states == sorted(states, key=(OLD, NEW).index)  # never back
        assert (states[0], states[-1]) == (OLD, NEW)
    COUNTS[save] = {view: Counter(states) for view, states in seen.items()}


def test_the_table_is_written(request):
    path = request.config.getoption("--crash-table")
    if path is None:
        pytest.skip("--crash-table names no file")
    lines = [
        "Written by `make test-crash`. Each save ran under strace. After each of its system calls",
        "the disk was laid out as a crash would leave it, and read. A SIGKILL leaves all that was",
        "done; a power cut only the contents of files that were synced, or also only the names in",
        "folders that were synced. Each time there was the whole old state or the whole new one.",
        "",
        "| save | system calls | crashes tried | old, new after SIGKILL "
        "| contents lost | names lost |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for save, views in COUNTS.items():
        cells = [f"{views[view][OLD]}, {views[view][NEW]}" for view in VIEWS]
        tried = sum(views[KILLED].values())
        lines.append(f"| {save} | {tried - 1} | {len(VIEWS) * tried} | {' | '.join(cells)} |")
    write_section(Path(path), "Interrupted saves", lines)


def test_a_save_without_syncs_is_found(recorded, tmp_path):
    """What these tests can see: without its fsyncs the same save leaves an empty file."""
    first, end = recorded.span("manifest.json")
    disk = Disk(recorded.root)
    for place, call in enumerate(recorded.calls[:end]):
        if place < first or call.name != "fsync":
            disk.apply(call)
    disk.lay(tmp_path / "disk", CONTENTS_LOST)
    assert "is not JSON" in error(manifest, tmp_path / "disk")
