"""Class folders on the disk and in archives: the same images, and no litter."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from input.prepare import places
from input.prepare.places import Disk, hidden, open_archive
from tests.conftest import error
from tests.input.prepare.conftest import put, refused, stored, written


@pytest.fixture
def tree(tmp_path) -> Path:
    tree = tmp_path / "tree"
    for name in ("b/2.png", "b/1.png", "a/deep/3.png", "note.txt"):
        put(tree / name, name.encode())
    for name in (
        ".git/x",
        "a/.x",
        "__MACOSX/a/1.png",
        "@eaDir/1.png",
        "lost+found/1",
        "b/Thumbs.db",
    ):
        put(tree / name, b"litter")
    put(tree / "$RECYCLE.BIN" / "x", b"litter")
    put(tree / "System Volume Information" / "x", b"litter")
    return tree


def packed(tree: Path, kind: str) -> Path:
    suffix = {"zip": "zip", "tar": "tar", "gztar": "tar.gz"}[kind]
    return Path(shutil.make_archive(str(tree), kind, tree)).rename(tree.parent / f"p.{suffix}")


@pytest.mark.parametrize("kind", ["disk", "zip", "tar", "gztar"])
def test_what_is_visible(tree, kind):
    place = Disk(tree) if kind == "disk" else open_archive(packed(tree, kind))
    assert place.folders() == ["a", "b"]
    assert place.files() == ["note.txt"]
    inside = place.inside("a")
    assert (inside.folders(), inside.files()) == (["deep"], [])
    assert inside.path.name == "a"
    assert sorted(inside.below()) == [("a/deep/3.png", 12)]
    assert sorted(place.inside("b").below()) == [("b/1.png", 7), ("b/2.png", 7)]
    assert place.start("b/1.png") == b"b/1.png"


@pytest.mark.parametrize("name", ["archive.zip", "archive.tar", "archive.tgz", "archive.TAR.GZ"])
def test_a_damaged_archive_is_one_line(tmp_path, name):
    put(tmp_path / name, b"PK no archive" * 99)
    assert "is damaged, or no archive" in error(open_archive, tmp_path / name)
    (tmp_path / name).unlink()
    assert "cannot be read: No such file" in error(open_archive, tmp_path / name)


def test_a_gzip_that_is_cut_is_one_line(tree, tmp_path):
    content = packed(tree, "gztar").read_bytes()
    put(tmp_path / "cut.tgz", content[: len(content) // 2])
    assert "is damaged, or no archive" in error(open_archive, tmp_path / "cut.tgz")


def test_members_outside_and_links_are_no_files(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("./a/1.png", "/b/1.png"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("a/2.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    place = open_archive(tmp_path / "x.tar")
    assert sorted(place.below()) == [("a/1.png", 3), ("b/1.png", 3)]


def test_a_bomb_is_a_bad_image(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(1001))
    with pytest.raises(ValueError, match="1001 bytes are no image"):
        open_archive(tmp_path / "x.zip").read("a/1.png")


def test_a_folder_that_holds_itself_is_refused(tree):
    (tree / "a" / "loop").symlink_to(tree / "a")
    assert "twice, through a link" in error(list, Disk(tree).inside("a").below())


def test_hidden():
    assert all(map(hidden, (".x", "Thumbs.DB", "@eaDir", "$RECYCLE.BIN", "lost+found")))
    assert not any(map(hidden, ("cat", "x.png", "thumbs")))


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_an_archive_gives_the_records_of_its_folder(images, tmp_path, kind):
    folder = Path(images)
    (folder.parent / "wrapped").mkdir()
    wrapped = folder.rename(folder.parent / "wrapped" / "pictures")
    expected = written(wrapped, split="train:1")["train"]
    os.rename(tmp_path / "wrapped" / "out", tmp_path / "expected")  # noqa: PTH104
    found = written(packed(wrapped.parent, kind), split="train:1")["train"]
    assert found.classes == expected.classes == ("cat", "dog", "eel")
    expected = expected.load(tmp_path / "expected" / "train")
    assert sorted(stored(found)) == sorted(stored(expected))


def test_an_archive_of_splits(tmp_path, images):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for split in ("Training", "Testing"):
            for path in sorted(Path(images).rglob("*.*")):
                archive.write(path, f"data/{split}/{path.parent.name}/{path.name}")
    found = written(tmp_path / "x.zip")
    assert {name: each.records for name, each in found.items()} == {"train": 40, "test": 40}


def test_a_bad_image_in_an_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}/1.png", b"no image")
    assert "b/1.png: none of JPEG" in refused(tmp_path / "x.zip", split="train:1")


def test_gzip_of_something_else(tmp_path):
    put(tmp_path / "x.tgz", gzip.compress(b"no tar file"))
    assert "is damaged, or no archive" in error(open_archive, tmp_path / "x.tgz")
