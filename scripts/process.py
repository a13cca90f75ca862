"""Work in a process of its own, in which TensorFlow has not run yet."""

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from scripts.quiet import quiet_tensorflow

T = TypeVar("T")


def in_new_process(function: Callable[..., T], *arguments: Any, say: bool = False) -> T:
    """What a function of a module returns there, or raises. say: as of quiet_tensorflow."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        result: T = pool.submit(_call, pickle.dumps((function, arguments)), say).result()
    return result


def _call(pickled: bytes, say: bool) -> Any:
    quiet_tensorflow(say)  # before the function's module, which may load TensorFlow
    function, arguments = pickle.loads(pickled)
    return function(*arguments)
