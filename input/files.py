"""An image file's bytes, whatever its path really is."""

from pathlib import Path

from input.conversion import SUFFIXES


def read_image(path: Path) -> bytes:
    """All of the file. Raises ValueError where it can be no image, OSError."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"not one of {', '.join(SUFFIXES)}")
    if not path.is_file():  # opening a named pipe would wait for ever
        raise ValueError("neither a file nor a link to one")
    return path.read_bytes()
