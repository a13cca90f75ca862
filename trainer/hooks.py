"""--on_metrics: a function of the user's that gets each line of metrics.jsonl as a dict.

It is called by worker 0, after the line is on the disk, and waited for. An exception in it is said
once and changes nothing: the run goes on, and the next line is given to it again.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from input.foundation import modules
from input.foundation.text import one_line
from trainer.errors import TrainerError
from trainer.workers import discovery

Hook = Callable[[dict[str, Any]], object]


def load(name: str) -> Hook | None:
    """The function of --on_metrics=package.module:function. Raises TrainerError.

    None for "", and for all workers but the first: importing it may begin a run elsewhere.
    """
    if not name or discovery.discover(os.environ).index > 0:
        return None
    module_name, _, function_name = name.partition(":")
    try:
        module = modules.load(module_name)
    except Exception as error:
        raise TrainerError(
            f"--on_metrics={name}: importing {module_name} failed: {_words(error)}. "
            f"{modules.WAY_OUT}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise TrainerError(f"--on_metrics={name}: {module_name} has no function {function_name}.")
    try:
        inspect.signature(function).bind({})
    except (TypeError, ValueError) as error:
        raise TrainerError(
            f"--on_metrics={name} must be callable with one dict: {_words(error)}."
        ) from error
    return function


class Observer:
    """Gives lines to a hook, whatever it does with them."""

    def __init__(self, hook: Hook | None, say: Callable[[str], None]):
        self._hook = hook
        self._say = say
        self._failed = False

    def __call__(self, line: Mapping[str, Any]) -> None:
        """The hook gets a copy."""
        if self._hook is None:
            return
        try:
            self._hook(dict(line))
        except (Exception, SystemExit) as error:
            if not self._failed:
                self._say(
                    f"--on_metrics failed at step {line.get('step')}: {_words(error)}. The run "
                    "goes on; it gets the next lines too, and later failures are not said"
                )
            self._failed = True


def _words(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}")
