"""Class folders of images, and what a write has made of them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from input.manifest import Manifest, load_index
from input.records import parse, unframe
from tests.conftest import encoded, picture


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
