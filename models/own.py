"""A model function of the user's: package.module:function, or path/to/file.py:function."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from models.errors import ModelError

IN_MODULE = r"\w+(\.\w+)*:\w+"
IN_FILE = r".+\.py:\w+"
OURS = ("input", "models", "trainer", "scripts")  # top-level packages of samestep


def load(name: str) -> Callable[..., Any]:
    """The function, callable with input_shape= and num_classes=. Raises ModelError."""
    place, _, function_name = name.rpartition(":")
    module = _from_file(name, Path(place)) if re.fullmatch(IN_FILE, name) else _module(name, place)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(
            f"{name}: {module.__file__} has no function {function_name!r}."
            f"{did_you_mean(function_name, vars(module))}"
        )
    try:
        inspect.signature(function).bind(input_shape=None, num_classes=None)
    except TypeError as error:
        raise ModelError(
            f"{name} must be callable as {function_name}(input_shape=(224, 224, 3), "
            f"num_classes=1000): {error}."
        ) from error
    return function


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence with the names that are spelled nearly like this one, or nothing."""
    spelled = {known.lower(): known for known in names}
    close = [spelled[match] for match in get_close_matches(name.lower(), spelled)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _module(name: str, module_name: str) -> ModuleType:
    # An installed command does not look for modules in the working directory; python -m does.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        first = module_name.partition(".")[0]
        if first in OURS:
            file = f"{module_name.replace('.', '/')}.py:{name.rpartition(':')[2]}"
            way_out = (
                f"{first} is a package of samestep's own, and hides a folder of yours of that "
                f"name. Give the file instead: --model={file}"
            )
        else:
            way_out = (
                "Start in the folder that holds it, put that on PYTHONPATH, or pip install it."
            )
        raise ModelError(f"{name}: importing {module_name} failed: {error}. {way_out}") from error


def _from_file(name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"{name}: there is no file {path} here, in {Path.cwd()}.")
    # Modules that lie beside the file can be imported; after all others, so that they hide none.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"samestep_model_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses of the file look for their own names
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ModelError(f"{name}: loading {path} failed: {error}.") from error
    return module
