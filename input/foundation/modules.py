"""Modules of the user's, found as Python finds them where a command is started."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

WAY_OUT = "Start in the folder that holds it, put that on PYTHONPATH, or pip install it."


def load(name: str) -> ModuleType:
    """Imports a module, which may raise anything.

    An installed command does not look for modules in the working directory; python -m does.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)
