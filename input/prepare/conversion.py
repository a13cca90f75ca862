"""One image's way from its file, or from pixels, to what a record stores.

Bytes are kept where nothing has to change: TensorFlow's decoders (channels=3) read the usual JPEG
and PNG as Pillow does, grey, palette, 1 to 16 bits, CMYK (tried with TensorFlow 2.21 and Pillow
13). What they would read otherwise, or not at all, is known by its header and encoded again:
arithmetic JPEG, CMYK without Adobe's marker, PNG with unknown parts. They do not read the EXIF
orientation: a rotated image is stored upright, encoded again.
Alpha is dropped, not blended: a TensorFlow program gets the same from the same file when it serves.
"""

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from input.records import start_of_frame

# Pillow's names; what a file is, is decided by its content.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
# What every decoder of training reads: baseline, extended and progressive JPEG (SOF0 to SOF2), so
# neither arithmetic nor lossless; PNG's chunks in their order (5.6), so none that must be known.
_JPEG_FRAMES = (b"\xc0", b"\xc1", b"\xc2")
_PNG_CHUNKS = re.compile(
    rb"IHDR(?: (?:PLTE|[a-z][A-Za-z]{3}))*(?: IDAT)+(?: [a-z][A-Za-z]{3})* IEND"
)
_LONGEST_SIDE = 1_000_000  # of a PNG: libpng's limit
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4: 1 is upright, 2 to 8 are rotated or mirrored
# A JPEG marker that is not part of entropy-coded data (ITU T.81, B.1.1): not 00, not a restart.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class Conversion(NamedTuple):
    """How images are stored."""

    encoding: Literal["keep", "jpeg", "raw"]
    short_side: int | None  # pixels; larger images are downscaled to it
    quality: int  # of what is encoded as JPEG
    max_pixels: int


class Converted(NamedTuple):
    """What a record stores of an image."""

    content: bytes  # JPEG or PNG; or uint8[h, w, 3], row by row
    size: tuple[int, int]  # width and height in pixels, upright
    raw: bool


def read_image(path: Path) -> bytes:
    """A file's bytes. Raises ValueError where it can be no image, OSError."""
    if not path.is_file():  # opening a named pipe would wait for ever
        raise ValueError("neither a file nor a link to one")
    return path.read_bytes()


def convert(image: bytes | np.ndarray, how: Conversion) -> Converted:
    """A file's bytes, or pixels uint8[h, w, 1 or 3], -> Converted. Raises for a bad image.

    Pillow raises ValueError, OSError, SyntaxError, struct.error, zlib.error, .. for damaged files.
    """
    if isinstance(image, np.ndarray):
        _check_pixels(image.shape[1], image.shape[0], how)
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        return _encode(_shrunk(Image.fromarray(pixels), how), "PNG", how, subsampling=0)
    picture, plain = _open(image, how)
    kind, size = picture.format or "", picture.size
    upright = picture.getexif().get(_ORIENTATION, 1) not in range(2, 9)
    short_side = how.short_side or min(size)
    fits = min(size) <= short_side
    stays = how.encoding == "keep" or (how.encoding == "jpeg" and kind == "JPEG")
    if kind in ("JPEG", "PNG") and plain and upright and fits and stays:
        picture.load()
        return Converted(image, size, raw=False)
    # Chroma stays halved where it was, else whole: 4:2:2 would be halved in the other direction.
    sampling = JpegImagePlugin.get_sampling(picture) if kind == "JPEG" else 0
    if kind == "JPEG" and not fits:
        # libjpeg makes it smaller while decoding, but stays twice as large as what is wanted:
        # what the antialiasing then sees is 2 x 2 or 4 x 4 pixels averaged.
        scale = 2 * short_side / min(size)
        picture.draft(None, (round(size[0] * scale), round(size[1] * scale)))
    picture.load()
    picture = _shrunk(_plain(ImageOps.exif_transpose(picture)), how)
    return _encode(picture, kind, how, subsampling=2 if sampling == 2 else 0)


def reason(error: Exception) -> str:
    """Why an image is bad, from what read_image or convert has raised."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def has_known_start(content: bytes) -> bool:
    """Whether a file begins as one of FORMATS does."""
    if content.startswith(b"BM"):  # as many a text; 4 bytes that are reserved, and 0, make it one
        return content[6:10] == bytes(4)
    return content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF"))


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings, which name no file; its pixel limit is replaced by ours."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _open(content: bytes, how: Conversion) -> tuple[Image.Image, bool]:
    """The image, not decoded yet, and whether training may have its bytes as they are.

    It is checked for damage that Pillow accepts and TensorFlow refuses: a missing end, a wrong
    checksum, pixels that end early. With these checked, no damaged file of 11,000 (bytes changed,
    zeroed, removed, cut off) was taken here and refused there. Zeros inside a JPEG pass in both.
    """
    if content.startswith(b"\xff\xd8\xff") and not _jpeg_ends(content):
        raise ValueError("truncated: the JPEG has no end")
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if has_known_start(content):
            raise ValueError("its header cannot be read") from None
        formats = ", ".join(FORMATS)
        raise ValueError(f"none of {formats} inside" if content else "empty") from None
    _check_pixels(*picture.size, how)
    if picture.format == "MPO":  # a JPEG with more pictures behind it
        picture.format = "JPEG"
    plain = picture.format == "JPEG" and _check_jpeg(picture, content)
    if picture.format == "PNG":
        picture.verify()  # checksums, and that there is an end; it cannot be decoded afterwards
        picture = Image.open(io.BytesIO(content), formats=("PNG",))
        plain = _check_png(picture, content)
    return picture, plain


def _check_jpeg(picture: Image.Image, content: bytes) -> bool:
    """Whether the decoders of training read a JPEG as Pillow does.

    Four components without Adobe's marker are inverted ink for Pillow, and ink for TensorFlow.
    """
    frame = start_of_frame(content)
    known = frame is not None and frame[1] in _JPEG_FRAMES
    return known and (picture.mode != "CMYK" or "adobe" in picture.info)


def _check_png(picture: Image.Image, content: bytes) -> bool:
    """Whether libpng reads a PNG as Pillow does. Raises ValueError where pixels are missing."""
    chunks = list(_png_chunks(content))
    header = dict(reversed(chunks))[b"IHDR"]
    palettes = [data for name, data in chunks if name == b"PLTE"]
    if header[9] == 3 and not palettes:
        raise ValueError("colours of a palette, and no palette")
    bits = header[8] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[9]]  # of a pixel (PNG, 11.2.2)
    passes = _passes(*picture.size, header[12])
    missing = sum(rows * (1 + (bits * columns + 7) // 8) for columns, rows in passes)
    pixels = zlib.decompressobj()
    for name, data in chunks:
        if name == b"IDAT" and missing >= 0:
            try:
                missing -= len(pixels.decompress(data, missing + 1))  # not more: it may be a bomb
            except zlib.error:
                raise ValueError("its pixels are damaged") from None
    if missing > 0:
        raise ValueError("truncated: its pixels end early")
    return (
        missing == 0
        and pixels.eof
        and _PNG_CHUNKS.fullmatch(b" ".join(name for name, _ in chunks)) is not None
        and (len(header), header[10]) == (13, 0)  # the only method of compression
        and len(palettes) <= 1
        and all(palette and len(palette) % 3 == 0 for palette in palettes)
    )


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of each chunk, up to the last (PNG, 5.3)."""
    at = 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        name = content[at + 4 : at + 8]
        yield name, content[at + 8 : at + 8 + length]
        if name == b"IEND":
            return
        at += 12 + length


def _passes(width: int, height: int, interlaced: int) -> Iterator[tuple[int, int]]:
    """Columns and rows of each pass over the pixels (PNG, 8.2)."""
    if not interlaced:
        yield width, height
        return
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            yield columns, rows


def _check_pixels(width: int, height: int, how: Conversion) -> None:
    if max(width, height) > _LONGEST_SIDE:
        raise ValueError(f"{width} x {height} pixels: no side may have more than {_LONGEST_SIDE:,}")
    if width * height > how.max_pixels:
        raise ValueError(
            f"{width} x {height} pixels are more than --max_pixels={how.max_pixels}: decoding it "
            "could take all memory"
        )


def _plain(picture: Image.Image) -> Image.Image:
    """8 bits of grey or of red, green and blue."""
    if picture.mode.startswith("I"):  # 16 bits: the upper 8, as TensorFlow's decoder takes
        return Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
    return picture.convert("L" if picture.mode in ("1", "L", "LA", "La") else "RGB")


def _shrunk(picture: Image.Image, how: Conversion) -> Image.Image:
    if how.short_side is None or min(picture.size) <= how.short_side:
        return picture
    scale = how.short_side / min(picture.size)
    size = [max(how.short_side, round(side * scale)) for side in picture.size]
    # Antialiased, as all of Pillow's; sharper than BILINEAR, without the ringing of LANCZOS.
    return picture.resize(size, Image.Resampling.BICUBIC)


def _encode(picture: Image.Image, kind: str, how: Conversion, subsampling: int) -> Converted:
    if how.encoding == "raw":
        return Converted(picture.convert("RGB").tobytes(), picture.size, raw=True)
    picture.info = {}  # the EXIF among it, whose orientation no longer holds
    encoded = io.BytesIO()
    if how.encoding == "jpeg" or kind == "JPEG":
        picture.save(encoded, "JPEG", quality=how.quality, subsampling=subsampling)
    else:
        picture.save(encoded, "PNG")
    return Converted(encoded.getvalue(), picture.size, raw=False)


def _jpeg_ends(content: bytes) -> bool:
    """Whether the image has its end marker. Pillow stops reading at the last row of pixels."""
    at = 2
    while marker := _MARKER.search(content, at):
        if marker[0] == b"\xff\xd9":
            return True
        length = content[marker.end() : marker.end() + 2]
        at = marker.end() + int.from_bytes(length, "big")
    return False
