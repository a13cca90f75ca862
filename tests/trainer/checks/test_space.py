"""Disks without room, also a real full one, and file systems with another clock."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from trainer.checks import space


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs can be mounted as root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def examine(folder) -> list[tuple[str, str]]:
    return [(finding.check, finding.verdict) for finding in space.examine(str(folder))]


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    assert examine(tmp_path / "runs" / "first") == [("run_dir", "ok")]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_wrong(small_disk):
    assert examine(small_disk / "run") == [("run_dir", "warning")]  # there is little room
    (small_disk / "full").write_bytes(bytes(space.free_bytes(small_disk)))
    (found,) = space.examine(str(small_disk / "run"))
    assert found.verdict == "wrong"
    assert found.found == (
        f"--run_dir={small_disk}/run cannot be written, in {small_disk}: No space left on device. "
        "Make room or repair that, or use another"
    )


def test_checkpoints_that_do_not_fit_are_wrong(small_disk):
    run_dir = str(small_disk / "run")
    assert space.checkpoints(run_dir, each_bytes=2**19, kept=3).verdict == "ok"
    found = space.checkpoints(run_dir, each_bytes=2**20, kept=3)
    assert found.verdict == "wrong"
    assert found.found.startswith("5 at a time of 1.0 MB, 0.0 GB free: 2.1 MB too few")


def test_checkpoints_that_are_there_need_no_more_room(small_disk):
    saved = small_disk / "run" / "checkpoints" / "step-00000001"
    saved.mkdir(parents=True)
    (saved / "weights").write_bytes(bytes(2**20))
    assert space.checkpoints(str(small_disk / "run"), 2**20, kept=1).verdict == "ok"
    (small_disk / "full").write_bytes(bytes(2**19))
    assert space.checkpoints(str(small_disk / "run"), 2**20, kept=1).verdict == "wrong"


def test_a_run_dir_that_is_a_file_is_wrong(tmp_path):
    (tmp_path / "file").write_text("")
    assert examine(tmp_path / "file") == [("run_dir", "wrong")]
    assert examine(tmp_path / "file" / "run") == [("run_dir", "wrong")]


@pytest.mark.parametrize(("offset", "seen"), [(-3600, True), (3600, True), (1, False)])
def test_another_clock_of_the_files_is_a_warning(tmp_path, monkeypatch, offset, seen):
    real = os.fstat

    def elsewhere(descriptor):
        found = real(descriptor)
        names = ("st_mode", "st_size", "st_blksize")
        kept = {name: getattr(found, name) for name in names}
        return SimpleNamespace(**kept, st_mtime=found.st_mtime + offset)

    monkeypatch.setattr(space.os, "fstat", elsewhere)
    found = list(space.examine(str(tmp_path)))
    assert len(found) == 1 + seen
    if seen:
        assert found[1].check == "clock of files"
        assert "3,600 s off" in found[1].found or "3,599 s off" in found[1].found
