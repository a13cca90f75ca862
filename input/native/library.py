"""The native decoder, where it was built: its functions, declared for ctypes, and its version.

ctypes releases the GIL while a function runs.
"""

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from input.errors import InputError

MESSAGE_BYTES = 200  # of a reason; views.c, MESSAGE
PAD_BYTES = 16  # behind an image, that may be read; views.c, PAD
NATIVE, TENSORFLOW = "native", "tensorflow"


class Schema(ctypes.Structure):
    """What the records of a split are: Schema of records.c."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("image_key", "label_key")),
        *((name, ctypes.c_char_p) for name in ("height_key", "width_key")),
        *((name, ctypes.c_int64) for name in ("label_offset", "classes", "max_pixels")),
        *((name, ctypes.c_int32) for name in ("raw_channels", "raw_height", "raw_width")),
    )


class Call(ctypes.Structure):
    """What views are asked for: Call of views.c. Addresses of arrays are numbers."""

    _fields_ = (
        ("n", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("image_at", "image_bytes", "extents", "windows")),
        *((name, ctypes.c_int32) for name in ("raw_channels", "size", "antialias", "simd")),
        ("threads", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("views", "messages")),
        ("next", ctypes.c_int64),
    )


@cache
def load() -> Any:
    """The library. Raises InputError where it was not built, or does not load here."""
    path = Path(__file__).with_name(f"_decode{EXTENSION_SUFFIXES[0]}")
    try:
        return declared(path)
    except OSError as error:
        reason = "was not built" if not path.exists() else f"cannot be loaded: {error}"
        raise InputError(
            f"The native decoder {reason}. With a C compiler, pkg-config and the headers of "
            "libjpeg-turbo and libpng (on Debian and Ubuntu: apt-get install gcc pkg-config "
            "libjpeg-dev libpng-dev), pip install builds it; --decoder=tensorflow does without."
        ) from None


def declared(path: Path) -> Any:  # a ctypes.CDLL, whose functions have no types
    """The library in a file. Raises OSError."""
    found, pointer = ctypes.CDLL(str(path)), ctypes.c_void_p
    found.samestep_records.argtypes = [ctypes.c_int64, *[pointer] * 11]
    found.samestep_records.restype = None
    found.samestep_views.argtypes = [pointer]
    found.samestep_views.restype = None
    found.samestep_version.restype = ctypes.c_char_p
    return found


def available() -> bool:
    """Whether the native decoder can be used."""
    try:
        load()
    except InputError:
        return False
    return True


def resolve(decoder: str) -> str:
    """auto, native or tensorflow -> one of the last two. Raises InputError for what is missing."""
    if decoder == "auto":
        return NATIVE if available() else TENSORFLOW
    if decoder == NATIVE:
        load()
    return decoder


def version(decoder: str) -> str:
    """The decoder, and what its pixels depend on."""
    return load().samestep_version().decode() if decoder == NATIVE else decoder
