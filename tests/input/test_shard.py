"""An index and checksums say what a shard holds, record by record; odd files are refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from input import shard
from input.foundation import retry
from input.records import FOOTER_BYTES, frame
from input.shard import Summary, check_size, read_checksums, read_index
from tests.conftest import error

RECORDS = [frame(bytes(size)) for size in (5, 300, 0, 17)]


@pytest.fixture
def written(tmp_path) -> shard.Shard:
    """Four records in a folder."""
    summary = Summary()
    for record in RECORDS:
        summary.add(record)
    (tmp_path / "a").write_bytes(b"".join(RECORDS))
    return summary.save(tmp_path, "a")


def test_a_summary_is_what_the_files_say(written, tmp_path):
    check_size(tmp_path, written)
    offsets, lengths = read_index(tmp_path, written).T
    content = (tmp_path / "a").read_bytes()
    assert [content[o : o + n] for o, n in zip(offsets, lengths, strict=True)] == RECORDS
    checksums = read_checksums(tmp_path, written)
    assert checksums.dtype == np.uint32
    assert checksums.tobytes() == b"".join(record[-FOOTER_BYTES:] for record in RECORDS)
    assert (tmp_path / "a.crc32c").stat().st_size == 4 * len(RECORDS)


def test_without_checksums_none_are_read(written, tmp_path):
    (tmp_path / "a.crc32c").unlink()
    assert read_checksums(tmp_path, replace(written, checksums=None)) is None
    assert f"checksums {tmp_path}/a.crc32c is missing" in error(read_checksums, tmp_path, written)


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c[4:] + c[:4], lambda c: b""])
def test_other_checksums_are_refused(written, tmp_path, change):
    path = tmp_path / "a.crc32c"
    path.write_bytes(change(path.read_bytes()))
    assert "are not those that the manifest names" in error(read_checksums, tmp_path, written)


def spoil(path: Path, name: str) -> None:
    path.unlink()
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "loop":
        path.symlink_to(path.name)
    elif name == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"1" * 10**6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "Is a directory"),
        ("pipe", "Not a regular file"),
        ("loop", "Too many levels of symbolic links"),
        ("endless", "Not a regular file"),
        ("huge", "1000000 bytes, and at most"),
    ],
)
def test_odd_files_are_refused_and_not_read(written, tmp_path, name, words):
    """No wait for a pipe, no reading of what is too large to be right."""
    for file, read in (("a.idx", read_index), ("a.crc32c", read_checksums)):
        spoil(tmp_path / file, name)
        said = error(read, tmp_path, written)
        assert f"{tmp_path / file} cannot be read: {words}" in said
    spoil(tmp_path / "a", name)
    said = error(check_size, tmp_path, written)
    shown = {"loop": words, "huge": "has 1000000 bytes, the manifest says"}
    assert f"shard {tmp_path / 'a'} {shown.get(name, 'is not a regular file')}" in said.replace(
        "cannot be read: ", ""
    )


def test_a_file_system_that_fails_for_a_moment(written, tmp_path, monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: None)
    opened, failures = os.open, [OSError(5, "Input/output error")] * 2

    def failing(path, *arguments):
        if failures:
            raise failures.pop()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", failing)
    assert len(read_index(tmp_path, written)) == len(RECORDS)
    assert failures == []
