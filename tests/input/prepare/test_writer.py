"""What a write stores, refuses and leaves behind."""

import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps, JpegImagePlugin

from input.config import WriteConfig
from input.errors import InputError
from input.manifest import Manifest, load_index
from input.prepare import writer
from input.prepare.conversion import Conversion, convert
from input.prepare.sources import divide
from input.prepare.writer import LOCK_FILE, write
from input.records import parse, unframe

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tf():
    import tensorflow

    return tensorflow


def picture(seed: int = 0, height: int = 24, width: int = 40) -> Image.Image:
    """RGB, smooth (JPEG keeps it), and no two of its eight turns are alike."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 / width, y * 255 / height, 120 + 100 * np.sin((x + seed) / 9) * (y > 9)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def stored(manifest: Manifest) -> list[tuple[bytes, int]]:
    """Image bytes and label of every record, in order."""
    index = load_index(manifest)
    shards, offsets, lengths = index.locate(np.arange(manifest.records))
    content = [(manifest.folder / shard.file).read_bytes() for shard in manifest.shards]
    return [
        parse(unframe(content[shard][offset : offset + length]))[:2]
        for shard, offset, length in zip(shards, offsets, lengths, strict=True)
    ]


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below, but for the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


def error(**options) -> str:
    with pytest.raises(InputError) as caught:
        write(WriteConfig(**options))
    return str(caught.value)


@pytest.fixture
def images(tmp_path) -> str:
    """Class folders cat, dog and eel with 20, 12 and 8 images."""
    for number, (name, count) in enumerate([("dog", 12), ("cat", 20), ("eel", 8)]):
        for seed in range(count):
            kind = ("JPEG", "PNG")[seed % 2]
            path = tmp_path / "images" / name / f"{seed}.{kind.lower()}"
            put(path, encoded(picture(100 * number + seed), kind))
    return str(tmp_path / "images")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


# What is stored

TENSORFLOW_READS = {
    "grey.png": encoded(picture().convert("L"), "PNG"),
    "grey_alpha.png": encoded(picture().convert("LA"), "PNG"),
    "rgb.png": encoded(picture(), "PNG"),
    "rgba.png": encoded(Image.merge("RGBA", [*picture().split(), picture().split()[1]]), "PNG"),
    "palette.png": encoded(picture().quantize(50), "PNG"),
    "palette_alpha.png": encoded(picture().quantize(50), "PNG", transparency=bytes(range(50))),
    "palette_2_bits.png": encoded(picture().quantize(4), "PNG", bits=2),
    "1_bit.png": encoded(picture().convert("1"), "PNG"),
    "grey.jpg": encoded(picture().convert("L"), "JPEG"),
    "rgb.jpg": encoded(picture(), "JPEG"),
    "rgb_444_progressive.jpg": encoded(picture(), "JPEG", subsampling=0, progressive=True),
    "cmyk.jpg": encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "animated.png": encoded(picture(), "PNG", save_all=True, append_images=[picture(9)]),
    "two_pictures.jpg": encoded(picture(), "MPO", save_all=True, append_images=[picture(9)]),
    "png_inside.jpg": encoded(picture(), "PNG"),
    "upright.jpg": encoded(picture(), "JPEG", exif=b"Exif\0\0II*\0broken"),
}
GREY_16 = encoded(Image.fromarray(np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68), "PNG")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the test's own decoding with Pillow
@pytest.mark.parametrize("name", [*TENSORFLOW_READS, "grey_16_bits.png"])
def test_what_tensorflow_reads_as_pillow_does_is_kept_byte_for_byte(tf, tmp_path, out, name):
    content = TENSORFLOW_READS.get(name, GREY_16)
    put(tmp_path / "images" / "a" / name, content)
    put(tmp_path / "images" / "b" / name, content)
    manifest = write(WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1"))
    assert [image for image, _ in stored(manifest["train"])] == [content, content]
    if name == "grey_16_bits.png":  # Pillow's own conversion to 8 bits cuts off at 255
        grey = np.asarray(Image.open(io.BytesIO(content)))
        expected = np.stack([grey >> 8] * 3, -1).astype(int)
    else:
        expected = pixels(content)
    decode = tf.io.decode_png if content.startswith(b"\x89") else tf.io.decode_jpeg
    difference = np.abs(decode(content, channels=3).numpy() - expected)
    # JPEG: TensorFlow asks libjpeg for its fast inverse transform, Pillow for the exact one.
    assert difference.max() <= (0 if content.startswith(b"\x89") else 10)
    assert difference.mean() <= 2


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("I;16", "PNG"),
    ],
)
def test_turned_images_are_stored_upright(tf, tmp_path, out, mode, kind, orientation):
    image = Image.open(io.BytesIO(GREY_16)) if mode == "I;16" else picture().convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    content = encoded(image, kind, exif=exif, icc_profile=b"colours")
    put(tmp_path / "images" / "a" / f"x.{kind.lower()}", content)
    put(tmp_path / "images" / "b" / f"x.{kind.lower()}", content)
    manifest = write(WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1"))
    (kept, _), _ = stored(manifest["train"])
    if orientation in (0, 1, 9):  # upright, or no orientation at all
        assert kept == content
        return
    assert not {"exif", "icc_profile"} & Image.open(io.BytesIO(kept)).info.keys()
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if mode == "I;16":
        expected = np.stack([np.asarray(upright) >> 8] * 3, -1).astype(int)
    else:
        expected = np.asarray(upright.convert("RGB")).astype(int)
    decoded = tf.io.decode_image(kept, channels=3).numpy()
    assert decoded.shape == expected.shape
    # A JPEG is encoded again; turned the wrong way, the mean is above 20.
    assert np.abs(decoded - expected).mean() <= (0 if kind == "PNG" else 3)


@pytest.mark.parametrize(("subsampling", "kept"), [(0, 0), (1, 0), (2, 2)])
def test_turned_jpeg_keeps_its_chroma(subsampling, kept):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture(), "JPEG", exif=exif, subsampling=subsampling, quality=80)
    turned = convert(content, Conversion("keep", None, 90, 10**6)).content
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(turned))) == kept


def test_tensorflow_reads_the_shards(tf, images, out):
    manifest = write(WriteConfig(images=images, out=str(out), shards=3))["train"]
    files = [str(manifest.folder / shard.file) for shard in manifest.shards]
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(files).map(
        lambda record: tf.io.parse_single_example(record, features)
    )
    read = [
        (each["image/encoded"], int(each["image/class/label"]))
        for each in records.as_numpy_iterator()
    ]
    assert read == stored(manifest)
    assert len(read) == 36


def test_labels_are_the_places_of_the_sorted_class_names(images, out):
    labels = {
        path.read_bytes(): ["cat", "dog", "eel"].index(path.parent.name)
        for path in Path(images).rglob("*.*")
    }
    assert len(labels) == 40
    manifests = write(WriteConfig(images=images, out=str(out)))
    for manifest in manifests.values():
        assert manifest.classes == ("cat", "dog", "eel")
        assert all(labels[image] == label for image, label in stored(manifest))
        counted = np.bincount([label for _, label in stored(manifest)])
        assert manifest.records_per_class == tuple(counted.tolist())


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(8, 8), (8, 8)], 8), ([(8, 8), (9, 9)], None), ([(8, 9), (8, 9)], None)],
)
def test_image_size_is_the_one_square_size(tmp_path, out, sizes, expected):
    for name, size in zip("ab", sizes, strict=True):
        put(tmp_path / "images" / name / "x.png", encoded(picture().resize(size), "PNG"))
    manifests = write(WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:1"))
    assert manifests["train"].image_size == expected


# Order, shards, splits


def test_jobs_do_not_change_a_byte_and_the_seed_does(images, tmp_path):
    options = {"a": {"jobs": 1}, "b": {"jobs": 4}, "c": {"jobs": 4, "seed": 1}}
    a, b, c = (
        write(WriteConfig(images=images, out=str(tmp_path / name), shards=2, **more))
        for name, more in options.items()
    )
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")
    for split in ("train", "validation"):
        assert a[split].fingerprint == b[split].fingerprint != c[split].fingerprint
        assert sorted(stored(a[split])) != sorted(stored(c[split]))  # divided differently


def test_records_are_shuffled_over_shards(images, out, tmp_path):
    labels = [
        [label for _, label in stored(manifest["train"])]
        for manifest in (
            write(
                WriteConfig(
                    images=images, out=str(tmp_path / str(seed)), split="train:1", seed=seed
                )
            )
            for seed in range(2)
        )
    ]
    assert labels[0] != labels[1]
    for each in labels:
        assert sorted(each) == [0] * 20 + [1] * 12 + [2] * 8
        assert 0 < sum(each[:10]) < sum(each)
        changes = sum(a != b for a, b in pairwise(each))
        assert changes > 12  # about 25 in a random order; sorted by class it is 2


def test_number_of_shards(images, tmp_path, monkeypatch):
    def records(**options):
        manifest = write(WriteConfig(images=images, split="train:1", **options))["train"]
        assert sorted(path.name for path in manifest.folder.iterdir()) == sorted(
            ["manifest.json"] + [f for s in manifest.shards for f in (s.file, s.index_file)]
        )
        assert Manifest.load(manifest.folder) == manifest
        return [shard.records for shard in manifest.shards]

    assert records(out=str(tmp_path / "default")) == [40]
    assert records(out=str(tmp_path / "three"), shards=3) == [13, 13, 14]
    assert records(out=str(tmp_path / "many"), shards=99) == [1] * 40
    total = sum(path.stat().st_size for path in Path(images).rglob("*.*"))
    monkeypatch.setattr(writer, "SHARD_BYTES", total // 4)
    assert records(out=str(tmp_path / "bytes")) == [8] * 5


def test_split_divides_each_class(images, out):
    whole = {path.read_bytes() for path in Path(images).rglob("*.*")}
    manifests = write(
        WriteConfig(images=images, out=str(out), split="train:0.7, val:0.2 ,test:0.1")
    )
    assert list(manifests) == ["train", "validation", "test"]
    assert [each.records_per_class for each in manifests.values()] == [
        (14, 9, 6),  # of 20, 12 and 8: 14, 8.4, 5.6
        (4, 2, 1),  # 4, 2.4, 1.6
        (2, 1, 1),  # 2, 1.2, 0.8
    ]
    parts = [image for each in manifests.values() for image, _ in stored(each)]
    assert len(parts) == len(whole)
    assert set(parts) == whole
    assert all(each == Manifest.load(out / split) for split, each in manifests.items())


def test_divide():
    tenths = [Fraction(9, 10), Fraction(1, 10)]
    assert [divide(count, tenths) for count in (2, 3, 10, 14, 15, 16, 100)] == [
        [1, 1],
        [2, 1],
        [9, 1],
        [13, 1],
        [14, 1],
        [14, 2],
        [90, 10],
    ]
    assert divide(3, [Fraction(98, 100), Fraction(1, 100), Fraction(1, 100)]) == [1, 1, 1]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=3), st.integers(0, 1000))
def test_divide_gives_everything_and_is_fair(weights, more):
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    count = len(shares) + more
    parts = divide(count, shares)
    assert sum(parts) == count
    assert min(parts) >= 1
    assert all(
        abs(part - count * share) < 1 or 1 in parts
        for part, share in zip(parts, shares, strict=True)
    )


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("train:0.9,validation:0.2", "sum to 1.1, not 1"),
        ("train:0.9", "sum to 0.9, not 1"),
        ("train:0.9,validation:0.100002", "not 1"),
        ("train", "is not name:share"),
        ("", "is not name:share"),
        ("train:x,test:1", "is not name:share"),
        ("train:1/0", "is not name:share"),
        ("train:nan", "is not name:share"),
        ("train:1,validation:0", "is not name:share"),
        ("train:2,validation:-1", "is not name:share"),
        ("train:0.5,train:0.5", "is not name:share"),
        ("val:0.5,validation:0.5", "is not name:share"),
        ("train:0.5,holdout:0.5", "is not name:share"),
    ],
)
def test_split_settings_that_are_refused(split, reason):
    with pytest.raises(InputError, match=reason):
        WriteConfig(images="x", out="y", split=split)


def test_shares_are_exact():
    config = WriteConfig(images="x", out="y", split="train:0.3333333,val:0.6666666")
    assert sum(config.shares().values()) == 1
    assert WriteConfig(images="x", out="y").shares() == {
        "train": Fraction(9, 10),
        "validation": Fraction(1, 10),
    }


def test_a_class_too_small_for_the_split(images, out):
    put(Path(images, "fox", "only.png"), encoded(picture(), "PNG"))
    message = error(images=images, out=str(out))
    assert "Class fox has too few images (1) for one in each of train, validation" in message
    assert not out.exists()


# Folders


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
        return error(images=str(splits), out=str(out), **options)

    assert "has the splits test, train already. Leave --split away" in message(split="train:1")
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
    assert "--images is missing" in error(out="x")
    assert f"Folder {tmp_path}/nowhere cannot be read" in error(
        images=f"{tmp_path}/nowhere", out=str(out)
    )
    (tmp_path / "empty").mkdir()
    assert "empty has no class folders" in error(images=f"{tmp_path}/empty", out=str(out))
    put(tmp_path / "single" / "a" / "x.png", encoded(picture(), "PNG"))
    assert "has the class a only; a classifier needs 2" in error(
        images=f"{tmp_path}/single", out=str(out), split="train:1"
    )
    assert f"--out={images}/out lies inside --images" in error(images=images, out=f"{images}/out")
    empty = Path(images, "ant")
    put(empty / ".hidden", b"")
    assert f"Class folder {empty} is empty" in error(images=images, out=str(out))
    put(empty / "x.png", encoded(picture(), "PNG"))
    stray = put(Path(images, "stray.JPG"), b"")
    assert "lie in no class folder: stray.JPG." in error(images=images, out=str(out))
    stray.unlink()
    (empty / "loop").symlink_to(empty)
    assert f"Folder {empty}/loop is in {empty} twice, through a link" in error(
        images=images, out=str(out)
    )
    assert not out.exists()


# Bad images


def png(data: bytes) -> bytes:
    """40 x 24 pixels, RGB, sound but for what `data` may be."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 40, 24, 8, 2, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    framed = [
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


JPEG = encoded(picture(), "JPEG")
PNG = encoded(picture(), "PNG")
GIF, BMP, WEBP = (encoded(picture(), kind) for kind in ("GIF", "BMP", "WEBP"))
BAD = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"<html>404</html>", "none of JPEG, PNG, WEBP, BMP, GIF inside"),
    "tiff.png": (encoded(picture(), "TIFF"), "none of JPEG, PNG, WEBP, BMP, GIF inside"),
    "notes.txt": (b"hello", "not one of .jpg, .jpeg, .png, .webp, .bmp, .gif"),
    "half.gif": (GIF[: len(GIF) // 2], "truncated"),
    "half.bmp": (BMP[: len(BMP) // 2], "truncated"),
    "half.webp": (WEBP[: len(WEBP) // 2], "could not create decoder object"),
    "jpeg_header_only.jpg": (JPEG[:30], "truncated: the JPEG has no end"),
    "jpeg_half.jpg": (JPEG[: len(JPEG) // 2], "truncated: the JPEG has no end"),
    "jpeg_zeros.jpg": (JPEG[:-2] + bytes(99), "truncated: the JPEG has no end"),
    "jpeg_no_table.jpg": (
        JPEG.replace(b"\xff\xda\x00\x0c\x03\x01\x00", b"\xff\xda\x00\x0c\x03\x01\x33"),
        "broken data stream",
    ),
    "png_header_only.png": (PNG[:20], "Truncated File Read"),
    "png_bad_header.png": (PNG[:18] + b"xx" + PNG[20:], "its header cannot be read"),
    "png_half.png": (PNG[: len(PNG) // 2], "Truncated File Read"),
    "png_no_end.png": (PNG[:-12], "truncated"),
    "png_no_data.png": (png(b"sums are right"), "broken data stream"),
    "png_bit.png": (PNG[:99] + bytes([PNG[99] ^ 1]) + PNG[100:], "bad header checksum"),
}


def put_bad(images: str) -> None:
    for name, (content, _) in BAD.items():
        put(Path(images, "cat", name), content)
    Path(images, "cat", "nowhere.jpg").symlink_to("nothing")
    os.mkfifo(Path(images, "cat", "pipe.jpg"))


def test_bad_images_stop_the_write(images, out):
    put_bad(images)
    message = error(images=images, out=str(out), max_bad_images=len(BAD) + 1)
    assert message.startswith(f"Bad images: {len(BAD) + 2}\n")
    for name, (_, reason) in BAD.items():
        line = next(line for line in message.splitlines() if name in line)
        assert line.startswith(f"  {images}/cat/{name}: ")
        assert reason in line
    assert f"{images}/cat/nowhere.jpg: neither a file nor a link to one" in message
    assert f"{images}/cat/pipe.jpg: neither a file nor a link to one" in message
    assert f"--max_bad_images={len(BAD) + 2}" in message
    assert content_of(out) == {}
    assert [path.name for path in out.iterdir()] == [LOCK_FILE]


def test_bad_images_within_the_budget_are_logged_and_left_out(images, out, tmp_path, caplog):
    good = {path.read_bytes() for path in Path(images).rglob("*.*")}
    put_bad(images)
    config = WriteConfig(images=images, out=str(out), max_bad_images=len(BAD) + 2, shards=9)
    manifests = write(config)
    parts = [image for each in manifests.values() for image, _ in stored(each)]
    assert len(parts) == len(good)
    assert set(parts) == good
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == len(BAD) + 2
    assert f"Left out {images}/cat/empty.jpg: empty" in logged


def test_at_most_20_bad_images_are_listed(images, out):
    for number in range(25):
        put(Path(images, "cat", f"bad{number}.jpg"), b"")
    message = error(images=images, out=str(out))
    assert message.startswith("Bad images: 25\n")
    assert message.count(": empty") == 20
    assert "and 5 more" in message


@pytest.mark.parametrize("seed", range(5))  # some with a bad image in the last shard
def test_a_shard_of_bad_images_is_left_away(tmp_path, out, seed):
    for name in ("a/1", "a/2", "a/3", "b/1"):
        put(tmp_path / "images" / f"{name}.png", encoded(picture(ord(name[-1])), "PNG"))
        put(tmp_path / "images" / f"{name}-bad.png", b"")
    manifest = write(
        WriteConfig(
            images=f"{tmp_path}/images",
            out=str(out),
            split="train:1",
            shards=8,
            max_bad_images=4,
            seed=seed,
        )
    )["train"]
    assert [shard.file for shard in manifest.shards] == [
        f"train-0000{i}.tfrecord" for i in range(4)
    ]
    assert Manifest.load(out / "train") == manifest
    assert len(list((out / "train").iterdir())) == 9


def test_a_class_of_bad_images_stops_the_write(images, out):
    for number in range(2):
        put(Path(images, "fox", f"{number}.jpg"), b"")
    message = error(images=images, out=str(out), max_bad_images=2)
    assert "Every image of class fox in train is bad" in message
    assert content_of(out) == {}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(images, out, monkeypatch, kind):
    put(Path(images, "cat", f"huge.{kind.lower()}"), encoded(picture(0, 90, 100), kind))
    load = ImageFile.ImageFile.load

    def decoding(image):
        assert image.size != (100, 90), "decoded"
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    message = error(images=images, out=str(out), max_pixels=8999)
    assert message.startswith("Bad images: 1\n")
    assert "100 x 90 pixels are more than --max_pixels=8999" in message


# Everything or nothing


def test_an_existing_split_is_not_touched(images, out):
    write(WriteConfig(images=images, out=str(out)))
    before = content_of(out)
    assert f"{out}/train exists. Remove it or choose another --out." in error(
        images=images, out=str(out), split="train:1"
    )
    assert "exists" in error(images=images, out=str(out), seed=3)
    assert content_of(out) == before


def test_progress_counts_every_image(images, out):
    calls = []
    write(WriteConfig(images=images, out=str(out)), lambda done, total: calls.append((done, total)))
    assert calls == [(done, 40) for done in range(1, 41)]


@pytest.mark.parametrize("done", [1, 20, 39, 40])
def test_an_interrupt_leaves_nothing(images, out, done):
    def interrupt(now, total):
        if now == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(WriteConfig(images=images, out=str(out)), interrupt)
    assert [path.name for path in out.iterdir()] == [LOCK_FILE]


def test_a_full_disk_leaves_nothing(images, out, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.os, "fsync", full)
    message = error(images=images, out=str(out))
    assert f"Writing to {out} failed: [Errno 28] No space left on device." in message
    assert [path.name for path in out.iterdir()] == [LOCK_FILE]


def test_an_out_that_cannot_be_a_folder(images, tmp_path):
    file = put(tmp_path / "file", b"")
    assert f"Writing to {file} failed: " in error(images=images, out=str(file))


HELD_WRITE = """
import sys
from input.config import WriteConfig
from input.prepare.writer import write

def progress(done, total):
    if done == int(sys.argv[3]):
        print("there", flush=True)
        sys.stdin.read()  # until killed

write(WriteConfig(images=sys.argv[1], out=sys.argv[2], shards=3, jobs=2), progress)
"""


@pytest.mark.parametrize("done", [30, 38])  # in train, and in validation when train is complete
def test_a_killed_write_leaves_nothing_finished_and_a_rerun_is_the_same(
    images, out, tmp_path, done
):
    command = [sys.executable, "-c", HELD_WRITE, images, str(out), str(done)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "there\n"
        assert "Another samestep-records write is writing to" in error(images=images, out=str(out))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert (out / "train.incomplete").is_dir()  # it was in the middle
    (out / "test.incomplete").mkdir()  # of a write that had another --split
    assert not {"train", "validation"} & {path.name for path in out.iterdir()}
    with pytest.raises(InputError, match="samestep-records write"):
        Manifest.load(out / "train")
    for folder in (out, tmp_path / "undisturbed"):
        write(WriteConfig(images=images, out=str(folder), shards=3))
        assert {path.name for path in folder.iterdir()} == {"train", "validation", LOCK_FILE}
    assert content_of(out) == content_of(tmp_path / "undisturbed")
    assert len(content_of(out)) == 2 * (3 + 3 + 1)
