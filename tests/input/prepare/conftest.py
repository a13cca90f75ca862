"""Class folders of images, and what a write has made of them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from input.manifest import Manifest, load_index
from input.prepare.config import WriteConfig
from input.prepare.writer import write
from input.reader import RecordReader
from input.records import parse, unframe
from tests.conftest import encoded, error, picture


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


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
    """Every file below."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def values(manifest) -> dict[int, int]:
    """Value of an image -> its label."""
    contents, _, labels, weights = RecordReader(manifest).read(np.arange(manifest.records))
    assert weights.all()
    pixels = [np.asarray(Image.open(io.BytesIO(content))) for content in contents]
    return {int(p.flat[0]): int(label) for p, label in zip(pixels, labels, strict=True)}


def written(path, **options):
    return write(WriteConfig(images=str(path), out=str(path.parent / "out"), **options))


def refused(path, **options) -> str:
    message = error(written, path, **options)
    assert not (path.parent / "out" / "train").exists()
    return message


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
# File -> its bytes and why they are no image.
BAD = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"<html>404</html>", "none of JPEG, PNG, WEBP, BMP, GIF inside"),
    "tiff.png": (encoded(picture(), "TIFF"), "none of JPEG, PNG, WEBP, BMP, GIF inside"),
    "notes": (b"hello", "none of JPEG, PNG, WEBP, BMP, GIF inside"),
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
    "png_no_data.png": (png(b"sums are right"), "its pixels are damaged"),
    "png_bit.png": (PNG[:99] + bytes([PNG[99] ^ 1]) + PNG[100:], "bad header checksum"),
}
