"""Folders of classes and of splits: what is found in them, and what is refused."""

import os
from pathlib import Path

import pytest

from input.prepare.config import WriteConfig
from input.prepare.writer import write
from tests.conftest import encoded, error, picture
from tests.input.prepare.conftest import put, stored


def refused(**options) -> str:
    return error(write, WriteConfig(**options))


@pytest.mark.parametrize("validation", ["validation", "val", "test"])
def test_folders_of_splits(images, out, tmp_path, validation):
    for split in ("train", validation):
        for name in ("a", "b"):
            put(tmp_path / "splits" / split / name / "x.png", encoded(picture(ord(name)), "PNG"))
    put(tmp_path / "splits" / "train" / "a" / "deeper" / "y.PNG", encoded(picture(1), "PNG"))
    manifests = write(WriteConfig(images=f"{tmp_path}/splits", out=str(out)))
    assert {name: each.records_per_class for name, each in manifests.items()} == {
        "train": (2, 1),
        "validation" if validation == "val" else validation: (1, 1),
    }
    assert {image for image, _ in stored(manifests["train"])} == {
        path.read_bytes() for path in (tmp_path / "splits" / "train").rglob("*.*")
    }


def test_folders_of_splits_that_are_refused(tmp_path, out):
    splits = tmp_path / "splits"
    content = encoded(picture(), "PNG")
    for name in ("train/a", "train/b", "test/a", "test/b"):
        put(splits / name / "x.png", content)

    def message(**options):
        return refused(images=str(splits), out=str(out), **options)

    assert "has the splits train, test already. Leave --split out" in message(split="train:1")
    extra = put(splits / "other" / "x.png", content)
    assert "so other cannot be there too" in message()
    extra.unlink()
    extra.parent.rmdir()
    for name in ("val", "validation"):
        put(splits / name / "a" / "x.png", content)
    assert "so validation cannot be there too" in message()
    (splits / "validation").rename(tmp_path / "away")
    put(splits / "val" / "c" / "x.png", content)
    different = message()
    assert "The splits train and validation in" in different
    assert "only one of them has b, c." in different


def test_hidden_files_are_skipped_and_links_followed(images, out, tmp_path):
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini", ".cache/x.jpg"):
        put(Path(images, "cat", name), b"not an image")
    put(Path(images, ".git", "x.jpg"), b"not an image")
    put(Path(images, "__MACOSX", "x.jpg"), b"not an image")
    put(Path(images, "LICENSE.txt"), b"text")
    put(tmp_path / "elsewhere" / "new.png", encoded(picture(77), "PNG"))
    Path(images, "dog", "linked").symlink_to(tmp_path / "elsewhere")
    Path(images, "eel", "linked.png").symlink_to(tmp_path / "elsewhere" / "new.png")
    manifest = write(WriteConfig(images=images, out=str(out), split="train:1"))["train"]
    assert manifest.classes == ("cat", "dog", "eel")
    assert manifest.records_per_class == (20, 13, 9)


def test_folders_that_are_refused(images, out, tmp_path):
    assert f"Folder {tmp_path}/nowhere cannot be read" in refused(
        images=f"{tmp_path}/nowhere", out=str(out)
    )
    (tmp_path / "empty").mkdir()
    assert "empty has no class folders" in refused(images=f"{tmp_path}/empty", out=str(out))
    put(tmp_path / "single" / "a" / "x.png", encoded(picture(), "PNG"))
    assert "has the class a only; a classifier needs 2" in refused(
        images=f"{tmp_path}/single", out=str(out), split="train:1"
    )
    assert f"--out={images}/out is inside --images" in refused(images=images, out=f"{images}/out")
    empty = Path(images, "ant")
    put(empty / ".hidden", b"")
    assert f"Class folder {empty} is empty" in refused(images=images, out=str(out))
    put(empty / "x.png", encoded(picture(), "PNG"))
    stray = put(Path(images, "stray.JPG"), b"")
    assert "are not in a class folder: stray.JPG." in refused(images=images, out=str(out))
    stray.unlink()
    (empty / "loop").symlink_to(empty)
    assert f"Folder {empty}/loop is in {empty} twice, through a link" in refused(
        images=images, out=str(out)
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("training", "other", "split"),
    [
        ("train", "valid", "validation"),
        ("Training", "Testing", "test"),
        ("TRAIN", "dev", "validation"),
        ("train_images", "val_images", "validation"),
        ("seg_train", "seg_test", "test"),
        ("data/train", "data/eval", "validation"),
        ("train", "test/test", "test"),  # an archive that was unpacked into a folder of its name
    ],
)
def test_folders_of_splits_by_any_usual_name_are_no_classes(out, tmp_path, training, other, split):
    for folder in (training, other):
        for i in range(16):
            path = tmp_path / "images" / folder / ("cat", "dog")[i % 2] / f"{i}.png"
            put(path, encoded(picture(i), "PNG"))
    manifests = write(WriteConfig(images=f"{tmp_path}/images", out=str(out)))
    assert {name: each.records for name, each in manifests.items()} == {"train": 16, split: 16}
    assert {each.classes for each in manifests.values()} == {("cat", "dog")}


def test_splits_of_unknown_names_are_refused(out, tmp_path):
    for folder in ("lot1", "lot2"):
        for name in ("cat", "dog"):
            put(tmp_path / "images" / folder / name / "x.png", encoded(picture(), "PNG"))
    message = refused(images=f"{tmp_path}/images", out=str(out))
    assert "lot1 and lot2 hold the same folders, cat, dog, and look like splits" in message


def test_a_chosen_split_is_written_alone(out, tmp_path):
    for folder in ("train", "val", "unlabelled"):
        for name in ("cat", "dog"):
            put(tmp_path / "images" / folder / name / "x.png", encoded(picture(), "PNG"))
    manifests = write(WriteConfig(images=f"{tmp_path}/images", out=str(out), splits="valid"))
    assert list(manifests) == ["validation"]


def test_what_lies_beside_images_is_no_image(images, out):
    for name in ("1.txt", "boxes.XML", "meta.json", "labels.csv", "info.yaml"):
        put(Path(images, "cat", name), b"<boxes/>")
    put(Path(images, "cat", "picture.txt"), encoded(picture(500), "PNG"))  # the content decides
    for name in ("@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"):
        put(Path(images, name, "x.jpg"), b"not an image")
        put(Path(images, "dog", name, "x.jpg"), b"not an image")
    manifest = write(WriteConfig(images=images, out=str(out), split="train:1"))["train"]
    assert manifest.classes == ("cat", "dog", "eel")
    assert manifest.records_per_class == (21, 12, 8)


def test_folders_of_numbers_are_classes_in_their_order(out, tmp_path):
    for number in range(11):
        put(tmp_path / "images" / str(number) / "x.png", encoded(picture(number), "PNG"))
    config = WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1")
    assert write(config)["train"].classes == tuple(str(number) for number in range(11))


def test_names_that_are_no_utf8_are_refused_and_quoted(images, out):
    put(Path(images, os.fsdecode(b"caf\xe9"), "x.png"), encoded(picture(), "PNG"))
    message = refused(images=images, out=str(out))
    assert r"caf\udce9" in message and "UTF-8" in message
    message.encode()
