"""The file of a model function of the user's, found without running it. No TensorFlow here."""

import hashlib
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from models.names import IN_FILE


def find(name: str) -> Path | None:
    """The file of a model function, as an import would find it; nothing is run."""
    place = name.rpartition(":")[0]
    if re.fullmatch(IN_FILE, name):
        return Path(place).resolve()
    search, origin = [str(Path.cwd()), *sys.path], None
    for part in place.split("."):
        spec = PathFinder.find_spec(part, search)
        if spec is None:
            return None
        search, origin = list(spec.submodule_search_locations or []), spec.origin
    return Path(origin) if origin else None


def digest(name: str) -> str:
    """SHA-256 of the file of a model function; empty where there is none that can be read."""
    path = find(name)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def short(digest: str) -> str:
    """As a line shows it."""
    return digest[:16] or "unknown"
