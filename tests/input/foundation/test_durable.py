"""Whole or not there. tests/test_crashes.py tries what a crash can leave, call by call."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from input.foundation import durable
from tests.conftest import ROOT


@pytest.fixture
def no_fsync(monkeypatch):
    """A disk that fails when it is synced."""

    def fail(descriptor):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)


def test_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "f"
    durable.write(path, "a long text\n")
    durable.write(path, b"bytes")
    assert path.read_bytes() == b"bytes"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, no_fsync):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(OSError, match="no space"):
        durable.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_append_adds_lines(tmp_path):
    for line in ("a\n", "b\n"):
        durable.append(tmp_path / "f", line)
    assert (tmp_path / "f").read_text() == "a\nb\n"


def test_publish_gives_the_folder_its_name_at_the_end(tmp_path):
    folder = tmp_path / "out.v1"
    left = durable.incomplete(folder)
    left.mkdir()
    (left / "of an earlier attempt").touch()
    with durable.publish(folder) as temporary:
        (temporary / "f").write_text("x")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["f"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_publish_leaves_nothing_when_the_body_raises(tmp_path, kind):
    with pytest.raises(kind), durable.publish(tmp_path / "out") as temporary:
        (temporary / "f").write_text("x")
        raise kind
    assert list(tmp_path.iterdir()) == []


def test_publish_leaves_nothing_when_it_cannot_sync(tmp_path, no_fsync):
    with (
        pytest.raises(OSError, match="no space"),
        durable.publish(tmp_path / "out") as temporary,
    ):
        (temporary / "f").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_publish_replaces_no_folder_that_holds_something(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(OSError), durable.publish(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_publish_syncs_all_before_the_name(tmp_path, monkeypatch):
    done, fsync = [], os.fsync
    rename = type(tmp_path).rename
    monkeypatch.setattr(
        type(tmp_path), "rename", lambda old, new: (done.append(new.name), rename(old, new))
    )
    monkeypatch.setattr(os, "fsync", lambda d: (done.append("sync"), fsync(d)))
    (tmp_path / "out").mkdir()  # an empty one is replaced
    with durable.publish(tmp_path / "out") as temporary:
        (temporary / "f").write_text("x")
    assert done == ["sync", "sync", "out", "sync"]


def test_remove(tmp_path):
    folder = tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    durable.incomplete(folder).mkdir()  # of a removal that was killed
    durable.remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_make_makes_all_that_is_missing(tmp_path):
    for _ in range(2):
        durable.make(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "f").touch()
    with pytest.raises(OSError):
        durable.make(tmp_path / "f" / "g")


def test_what_was_made_goes_with_what_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), durable.made(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), durable.made(tmp_path / "a" / "b"):
        (tmp_path / "a" / "other").touch()  # somebody else's
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "other"]
    with durable.made(tmp_path / "c"):
        pass
    assert (tmp_path / "c").is_dir()


def test_a_lock_is_one_processs_until_it_closes_or_dies(tmp_path):
    code = (
        "import sys; from pathlib import Path; from input.foundation import durable\n"
        "file = durable.lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / ".lock"
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            durable.lock(path)
        holder.kill()
    with durable.lock(path), pytest.raises(BlockingIOError):
        durable.lock(path)
    durable.lock(path).close()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, flock = tmp_path / ".lock", fcntl.flock
    held = durable.lock(path)

    def removed_first(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        held.close()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with durable.lock(path), pytest.raises(BlockingIOError):
        durable.lock(path)


def test_a_log_is_its_lines_but_for_one_that_was_cut_short(tmp_path):
    def number(line):
        return int(line) if line.isdigit() else None

    path = tmp_path / "log"
    assert durable.log(path, 99, number) == (b"", [])
    for content, lines in (
        (b"", []),
        (b"1\nx\n\n2\n", [(b"1", 1), (b"x", None), (b"", None), (b"2", 2)]),
        (b"1\n2", [(b"1", 1), (b"2", 2)]),
        (b"1\n2x", [(b"1", 1)]),
        (b"\n", [(b"", None)]),
    ):
        path.write_bytes(content)
        assert durable.log(path, 99, number) == (content, lines)


@pytest.fixture
def odd(tmp_path) -> dict[str, Path]:
    """What may stand in place of a file."""
    found = {name: tmp_path / name for name in ("folder", "pipe", "loop", "nowhere")}
    found["folder"].mkdir()
    os.mkfifo(found["pipe"])
    found["loop"].symlink_to("loop")
    return found | {"device": Path("/dev/zero"), "long": tmp_path / ("x" * 300)}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "Is a directory"),
        ("pipe", "Not a regular file"),
        ("device", "Not a regular file"),
        ("loop", "Too many levels of symbolic links"),
        ("nowhere", "No such file or directory"),
        ("long", "File name too long"),
    ],
)
def test_read_takes_nothing_but_files(odd, name, words):
    with pytest.raises(OSError, match=words) as refused:
        durable.read(odd[name], 10)
    assert refused.value.strerror == words


def test_read_takes_no_more_than_can_be_right(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert durable.read(path, 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, and at most 4 can be right"):
        durable.read(path, 4)
    assert [link for link in Path("/proc/self/fd").iterdir() if link.resolve() == path] == []
