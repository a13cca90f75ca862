"""JPEG and PNG files that follow their standards to the edge, and beyond it."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence

from tests.conftest import encoded, picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG, 11.2.2)
JPEG = encoded(picture(), "JPEG")
ADOBE = b"\xff\xee\x00\x0eAdobe\x00d\0\0\0\0"  # and a byte: the transform

Chunks = Sequence[tuple[bytes, bytes]]


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def header(width=8, height=8, bits=8, colour=2, compression=0, filtering=0, interlaced=0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, colour, compression, filtering, interlaced)


def png(
    ihdr: bytes | None = None,
    *,
    before: Chunks = (),
    pixels: bytes | None = None,
    data: Chunks | None = None,
    after: Chunks = (),
) -> bytes:
    """before, data and after: what stands before, for and after the chunk of pixels."""
    ihdr = header() if ihdr is None else ihdr
    width, height, bits, colour = struct.unpack(">IIBB", ihdr[:10])
    if pixels is None:
        pixels = bytes((1 + (width * bits * CHANNELS.get(colour, 3) + 7) // 8) * height)
    data = [(b"IDAT", zlib.compress(pixels))] if data is None else data
    chunks = [(b"IHDR", ihdr), *before, *data, *after, (b"IEND", b"")]
    return SIGNATURE + b"".join(itertools.starmap(chunk, chunks))


def pngs() -> Iterator[tuple[str, bytes]]:
    yield "CgBI", SIGNATURE + chunk(b"CgBI", b"\x50\x00\x20\x02") + png()[8:]
    for name in (b"ABCD", b"abCd", b"abcd", b"a1Cd"):
        yield f"chunk {name.decode()} before", png(before=[(name, b"xx")])
        yield f"chunk {name.decode()} after", png(after=[(name, b"xx")])
    grey, palette = header(colour=0), header(colour=3)
    yield "palette missing", png(palette)
    yield "palette late", png(palette, after=[(b"PLTE", b"abc")])
    for name, content in (
        ("short", b"abc"),
        ("of 257", b"abc" * 257),
        ("uneven", b"abcd"),
        ("empty", b""),
    ):
        yield f"palette {name}", png(palette, before=[(b"PLTE", content)])
    yield "palette twice", png(palette, before=[(b"PLTE", b"abc"), (b"PLTE", b"abc")])
    yield "palette of grey", png(grey, before=[(b"PLTE", b"abc")])
    yield "palette of colours", png(before=[(b"PLTE", b"abc")])
    yield "palette of colours, 300", png(before=[(b"PLTE", b"abc" * 300)])
    pixels = b"\0" + bytes(range(8)) + bytes(7 * 9)
    yield "pixels outside the palette", png(palette, before=[(b"PLTE", b"abc")], pixels=pixels)
    yield "pixels end early", png(pixels=bytes(25 * 4))
    yield "no pixels", png(pixels=b"")
    yield "more pixels", png(pixels=bytes(25 * 9))
    yield "interlaced", png(header(interlaced=1), pixels=bytes(25 * 8 + 30))
    yield "interlaced ends early", png(header(interlaced=1), pixels=bytes(100))
    for bits, colour in itertools.product((1, 2, 3, 4, 8, 16), (0, 2, 3, 4, 5, 6)):
        before = [(b"PLTE", b"abc" * 256)] if colour == 3 else []
        yield f"{bits} bits of colour {colour}", png(header(8, 8, bits, colour), before=before)
    yield "compression 1", png(header(compression=1))
    yield "filter 1", png(header(filtering=1))
    yield "filter of a row 9", png(pixels=(b"\x09" + bytes(24)) * 8)
    yield "interlaced 2", png(header(interlaced=2))
    yield "IHDR too long", png(header() + b"x")
    yield "IHDR twice", png(before=[(b"IHDR", header())])
    yield "no columns", png(header(width=0))
    yield "no rows", png(header(height=0))
    yield "a million columns", png(header(1_000_000, 1, colour=0))
    yield "a million and one columns", png(header(1_000_001, 1, colour=0))
    yield "a million and one rows", png(header(1, 1_000_001, colour=0))
    sound = zlib.compress(bytes(200))
    halves = [(b"IDAT", sound[:8]), (b"IDAT", sound[8:])]
    yield "a chunk within the pixels", png(data=[halves[0], (b"tEXt", b"a\0b"), halves[1]])
    yield "an empty part of the pixels", png(data=[(b"IDAT", b""), (b"IDAT", sound)])
    for name, content in (
        ("another Adler", sound[:-1] + bytes([sound[-1] ^ 1])),
        ("no Adler", sound[:-4]),
        ("a small window", b"\x08\x1d" + sound[2:]),
        ("a dictionary", b"\x78\xbb" + sound[2:]),
    ):
        yield name, png(data=[(b"IDAT", content)])
    for name, content in (
        *((b"gAMA", bytes(4)), (b"gAMA", b"x"), (b"iCCP", b"abc"), (b"tRNS", b"")),
        *((b"iCCP", b"a\0\0" + zlib.compress(b"x" * 200)), (b"tRNS", b"x" * 300)),
        *((b"tRNS", bytes(6)), (b"cHRM", b"x" * 32), (b"sBIT", b"xxx"), (b"bKGD", b"x")),
        *((b"hIST", b"x"), (b"pHYs", b"x"), (b"tIME", b"x"), (b"zTXt", b"a\0\0bad")),
        *((b"iTXt", b"a\0\1\0\0\0bad"), (b"sRGB", b"\x09"), (b"eXIf", b"bad")),
        *((b"acTL", b"\0\0\0\2\0\0\0\0"), (b"acTL", b"\0\0"), (b"fcTL", b"\0")),
        *((b"IEND", b""), (b"sPLT", b"bad"), (b"tEXt", b"\0"), (b"tEXt", b"x" * 200_000)),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(3 * 10**6))),
    ):
        what = f"{name.decode()} of {len(content)} bytes, {content[:3].hex()}"
        yield f"{what}, before", png(before=[(name, content)])
        yield f"{what}, after", png(after=[(name, content)])


def jpegs() -> Iterator[tuple[str, bytes]]:
    yield (
        "lossless",
        b"\xff\xd8\xff\xc3\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00\xff\xc4\x00\x14\x00\x01"
        + bytes(16)
        + b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00"
        + bytes(8)
        + b"\xff\xd9",
    )
    for marker in {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}:
        yield f"SOF{marker - 0xC0}", JPEG.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    for mode, name, options in (
        *itertools.product(("L", "RGB", "CMYK"), ("",), ({},)),
        *itertools.product(("L", "RGB", "CMYK"), ("progressive",), ({"progressive": True},)),
        *itertools.product(("RGB", "CMYK"), ("4:2:2",), ({"subsampling": 1},)),
        *itertools.product(("RGB", "CMYK"), ("4:2:0",), ({"subsampling": 2},)),
        *itertools.product(("L", "RGB"), ("restarts",), ({"restart_marker_blocks": 1},)),
    ):
        file = io.BytesIO()
        picture().convert(mode).save(file, "JPEG", **options)
        content = file.getvalue()
        yield f"{mode} {name}", content
        if mode == "CMYK":
            at = content.index(b"\xff\xee")
            end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
            yield f"CMYK {name} without Adobe's marker", content[:at] + content[end:]
            for transform in range(4):
                changed = content[: end - 1] + bytes([transform]) + content[end:]
                yield f"CMYK {name} of transform {transform}", changed
    at = JPEG.index(b"\xff\xe0")
    end = at + 2 + int.from_bytes(JPEG[at + 2 : at + 4], "big")
    start, rest = JPEG[:at], JPEG[end:]
    yield "without JFIF", start + rest
    for transform in range(4):
        yield f"RGB of Adobe's transform {transform}", start + ADOBE + bytes([transform]) + rest
    named = bytearray(start + rest)
    frame, scan = named.index(b"\xff\xc0"), named.index(b"\xff\xda")
    for place, letter in enumerate(b"RGB"):
        named[frame + 10 + 3 * place] = named[scan + 5 + 2 * place] = letter
    yield "components called R, G and B", bytes(named)
    frame = JPEG.index(b"\xff\xc0")
    for name, place, content in (
        ("12 bits", 4, b"\x0c"),
        ("no rows", 5, b"\0\0"),
        ("no columns", 7, b"\0\0"),
        ("more rows than there are", 5, b"\4\0"),
        ("more columns than there are", 7, b"\4\0"),
        ("sampled 3 x 1", 11, b"\x31"),
        ("sampled 0 x 0", 11, b"\0"),
    ):
        yield name, JPEG[: frame + place] + content + JPEG[frame + place + len(content) :]
    yield "two in one", JPEG + JPEG
    yield "bytes behind it", JPEG + b"x" * 1000
    yield "fill bytes", JPEG[:2] + b"\xff\xff\xff" + JPEG[2:]
    yield "bytes between the markers", JPEG[:2] + b"xx" + JPEG[2:]
    for cut in range(20, len(JPEG) - 2, 37):
        yield f"cut at {cut}, with an end", JPEG[:cut] + JPEG[-2:]


ODD = dict(itertools.chain(pngs(), jpegs()))
