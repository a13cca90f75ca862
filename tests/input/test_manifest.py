"""A manifest that loads says what the files hold; anything else is an InputError with a way out."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from input.errors import InputError
from input.foundation import durable
from input.manifest import INDEX_BYTES, Manifest, find_splits, load_index, save
from input.records import RAW, Schema, encode, frame
from input.shard import Shard, Summary
from tests.conftest import error, rewrite


def write_shard(folder: Path, file: str, sizes: list[int]) -> Shard:
    summary = Summary()
    for size in sizes:
        summary.add(frame(encode(bytes(size), len(file))))
        with (folder / file).open("ab") as shard:
            shard.write(frame(encode(bytes(size), len(file))))
    return summary.save(folder, file)


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    folder = tmp_path / "train"
    folder.mkdir()
    shards = (
        write_shard(folder, "a.tfrecord", [10, 2000, 0]),
        write_shard(folder, "b.tfrecord", [7]),
        write_shard(folder, "c.tfrecord", [300, 1]),
    )
    manifest = Manifest(
        folder=folder,
        classes=("cat", "dög"),
        records_per_class=(4, 2),
        shards=shards,
        image_size=32,
    )
    save(manifest)
    return manifest


def refused(folder, **options) -> str:
    return error(Manifest.load, folder, **options)


def edit(manifest, **changes):
    rewrite(manifest.folder / "manifest.json", **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 32},
        {"image_size": None},
        {"schema": RAW},
        {"schema": Schema("key", "label", -1, "float32", (2, 3, 1))},
    ],
)
def test_load_returns_what_was_saved(manifest, changes):
    manifest = replace(manifest, **changes)
    save(manifest)
    assert Manifest.load(manifest.folder) == manifest
    assert Manifest.load(str(manifest.folder), verify_files=False) == manifest
    assert manifest.records == 6


def test_index_is_what_dalis_tfrecord2idx_prints(manifest):
    for shard in manifest.shards:
        lines = []
        with (manifest.folder / shard.file).open("rb") as file:
            while header := file.read(8):
                start = file.tell() - 8
                file.seek(4 + struct.unpack("<q", header)[0] + 4, os.SEEK_CUR)
                lines.append(f"{start} {file.tell() - start}\n")
        assert (manifest.folder / f"{shard.file}.idx").read_text() == "".join(lines)


def test_locate_finds_every_record(manifest):
    expected = []
    for number, shard in enumerate(manifest.shards):
        lines = (manifest.folder / shard.index_file).read_text().splitlines()
        expected += [(number, *map(int, line.split())) for line in lines]
    index = load_index(manifest)
    indices = np.array([5, 0, 3, 3, 4, 2, 1])
    located = list(zip(*(column.tolist() for column in index.locate(indices)), strict=True))
    assert located == [expected[i] for i in indices]
    assert index.first_record.tolist() == [0, 3, 4]
    arrays = (index.offsets, index.lengths, index.checksums)
    assert sum(array.nbytes for array in arrays) / manifest.records == INDEX_BYTES <= 16
    assert [array.shape for array in index.locate(np.array([], np.int64))] == [(0,)] * 3


def test_fingerprint_is_of_the_data_alone(manifest):
    first, *rest = manifest.shards
    same = replace(
        manifest, folder=Path("elsewhere"), shards=(replace(first, file="renamed"), *rest)
    )
    assert same.fingerprint == manifest.fingerprint
    others = [
        replace(manifest, classes=("dög", "cat")),
        replace(manifest, classes=("cat", "dog")),
        replace(manifest, shards=(replace(first, sha256="other"), *rest)),
        replace(manifest, shards=(*rest, first)),
        replace(manifest, shards=tuple(rest)),
        replace(manifest, schema=RAW),
    ]
    fingerprints = {each.fingerprint for each in (manifest, *others)}
    assert len(fingerprints) == 1 + len(others)
    assert all(int(each, 16) >= 0 and len(each) == 64 for each in fingerprints)


def test_save_leaves_the_old_manifest_when_it_fails(manifest, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save(replace(manifest, classes=("other", "names")))
    assert Manifest.load(manifest.folder) == manifest


def test_missing_folder_and_manifest(manifest, tmp_path):
    message = refused(tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'} is not a folder" in message
    assert f"samestep-records write --images=DIR --out={tmp_path}" in message
    (manifest.folder / "manifest.json").unlink()
    message = refused(manifest.folder)
    assert f"{manifest.folder / 'manifest.json'} is missing" in message
    assert f"samestep-records write --images=DIR --out={tmp_path}" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", " is not JSON: "),
        (b'{"version": 1', " is not JSON: "),
        (b"\xff\xfe", " is not JSON: "),
        (b"[]", ": it is [], not an object"),
        (b"{}", ": version is missing"),
        (b'{"version": 2}', ": version is 2, not 1"),
    ],
)
def test_what_is_no_manifest(manifest, content, reason):
    (manifest.folder / "manifest.json").write_bytes(content)
    message = refused(manifest.folder)
    assert f"{manifest.folder / 'manifest.json'}{reason}" in message
    assert f"Copy {manifest.folder} again" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ...}, ": classes is missing"),
        ({"records_per_class": ...}, ": records_per_class is missing"),
        ({"shards": ...}, ": shards is missing"),
        ({"image_size": ...}, ": image_size is missing"),
        ({"more": 1}, ": more is not known"),
        ({"shards": [{"file": "a.tfrecord", "records": 3}]}, ": shards[0].bytes is missing"),
        ({"shards": 3}, ": shards is 3, not a list"),
        ({"records_per_class": ["4", "2"]}, ': records_per_class[0] is "4", not a whole number'),
        ({"records_per_class": [4, 3]}, " contradicts itself: records cannot be so"),
        ({"records_per_class": [7, -1]}, " contradicts itself: records_per_class cannot be so"),
        ({"records_per_class": [6]}, " contradicts itself: classes cannot be so"),
        ({"shards": [], "records_per_class": [0, 0]}, " contradicts itself: records cannot be so"),
        ({"image_size": "32"}, ': image_size is "32", not a whole number'),
        ({"image_size": 0}, " contradicts itself: image_size cannot be so"),
    ],
)
def test_a_manifest_that_lacks_or_contradicts(manifest, changes, reason):
    edit(manifest, **changes)
    message = refused(manifest.folder)
    assert f"{manifest.folder / 'manifest.json'}{reason}" in message


def test_a_shard_may_lie_elsewhere_but_not_at_an_absolute_path(manifest):
    content = json.loads((manifest.folder / "manifest.json").read_text())
    file = content["shards"][0]["file"]
    (manifest.folder / file).rename(manifest.folder.parent / file)
    content["shards"][0]["file"] = f"../{file}"
    edit(manifest, **content)
    assert Manifest.load(manifest.folder).shards[0].index_file == f"{file}.idx"
    content["shards"][0]["file"] = str(manifest.folder.parent / file)
    edit(manifest, **content)
    assert "contradicts itself: shards' files cannot be so" in refused(manifest.folder)


def test_two_shards_of_one_name_are_refused(manifest):
    content = json.loads((manifest.folder / "manifest.json").read_text())
    content["shards"][1] = {**content["shards"][0], "file": f"x/{content['shards'][0]['file']}"}
    content["records_per_class"] = [sum(shard["records"] for shard in content["shards"]), 0]
    edit(manifest, **content)
    assert "contradicts itself: shards' names cannot be so" in refused(manifest.folder)


def test_shards_are_checked_unless_left_to_the_reader(manifest):
    path = manifest.folder / "b.tfrecord"
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"x"):
        path.write_bytes(content)
        message = refused(manifest.folder)
        assert f"shard {path} has {len(content)} bytes, the manifest says {len(whole)}" in message
        assert Manifest.load(manifest.folder, verify_files=False) == manifest
    path.unlink()
    assert f"shard {path} is missing" in refused(manifest.folder)
    assert Manifest.load(manifest.folder, verify_files=False) == manifest


def test_a_path_that_no_file_can_have_is_refused(manifest):
    content = json.loads((manifest.folder / "manifest.json").read_text())
    content["shards"][0]["file"] = "a.tfrecord/x"
    edit(manifest, **content)
    path = manifest.folder / "a.tfrecord/x"
    assert f"shard {path} cannot be read: Not a directory. Copy" in refused(manifest.folder)
    for file in ("", ".", "x" * 256, "x/" * 2048 + "x"):
        content["shards"][0]["file"] = file
        edit(manifest, **content)
        assert "contradicts itself: shards' files cannot be so" in refused(manifest.folder), file


def test_an_index_that_is_a_folder_is_refused(manifest):
    path = manifest.folder / "a.tfrecord.idx"
    path.unlink()
    path.mkdir()
    assert f"index {path} cannot be read: Is a directory. Copy" in refused(manifest.folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "is missing"),
        (lambda lines: lines[:-1], "has 2 lines for 3 records"),
        (lambda lines: [*lines, lines[-1]], "has 4 lines for 3 records"),
        (lambda lines: [], "has 0 lines for 3 records"),
        (lambda lines: [*lines[:-1], lines[-1].split()[0]], "has 2.5 lines for 3 records"),
        (lambda lines: [*lines[:-1], "x y"], 'a line that is not "offset length"'),
        (lambda lines: [*lines[:-1], "1.5 7"], 'a line that is not "offset length"'),
        (lambda lines: lines[::-1], "does not start where the last ends"),
        (lambda lines: [lines[0]] * 3, "does not start where the last ends"),
        (lambda lines: [shift(line, 1, 0) for line in lines], "does not start where the last ends"),
        (lambda lines: [*lines[:-1], shift(lines[-1], 0, 1)], "the shard at"),
        (lambda lines: [*lines[:-1], shift(lines[-1], 0, -1)], "the shard at"),
        (lambda lines: [*lines[:-1], "5 -9"], "a length that no record can have"),
        (lambda lines: [*lines[:-1], f"5 {2**31}"], "a length that no record can have"),
        (lambda lines: [*lines[:-1], f"{2**70} {2**20}"], "does not start where the last ends"),
    ],
)
@pytest.mark.parametrize("verify_files", [True, False])
def test_indexes_are_always_checked(manifest, change, reason, verify_files):
    path = manifest.folder / "a.tfrecord.idx"
    if change is None:
        path.unlink()
    else:
        path.write_text("\n".join(change(path.read_text().splitlines())))
    message = refused(manifest.folder, verify_files=verify_files)
    assert str(path) in message
    assert reason in message
    assert "write it again: samestep-records write" in message
    with pytest.raises(InputError, match="index"):
        load_index(manifest)


def test_splits_are_found_by_their_folders(manifest, tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "train.incomplete").mkdir()
    train, test = (("train", manifest.folder), ("test", tmp_path / "test"))
    assert find_splits(tmp_path) == [train, test]
    assert find_splits(manifest.folder) == [train]
    said = error(find_splits, tmp_path / "val")
    assert said.startswith(f"--dir={tmp_path / 'val'} holds no records: no manifest.json in it")


def shift(line: str, offset: int, length: int) -> str:
    start, size = map(int, line.split())
    return f"{start + offset} {size + length}"
