"""What Keras does not promise and the models rely on. Written for Keras 3.15."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras.src.backend.common import global_state

_COUNTERS = "object_name_uids"  # layer class -> how many have been named


@contextmanager
def fresh_names() -> Iterator[None]:
    """Names layers as in a new process: conv2d, conv2d_1, ..; puts the counters back at the end.

    Not keras.utils.clear_session(): inside strategy.scope() it throws away the default graph and
    the strategy with it, so that variables are no longer mirrored. Raises RuntimeError where Keras
    no longer keeps its counters there.
    """
    counters = global_state.get_global_attribute(_COUNTERS)
    _reset(None)
    keras.layers.Identity()
    if not global_state.get_global_attribute(_COUNTERS):
        raise RuntimeError(
            f"Keras {keras.__version__} does not count names in global_state.{_COUNTERS}, as 3.15 "
            "does: variable paths would depend on what was built before. Install keras>=3.15,<3.16."
        )
    _reset(None)
    try:
        yield
    finally:
        _reset(counters)


def _reset(counters: object) -> None:
    global_state.set_global_attribute(_COUNTERS, counters)


def reason(error: ValueError) -> str:
    """Why Keras refused to build a layer, in one line.

    3.15 prints its reason in bold, between two lines about its own call; of any other text, all.
    """
    bold = re.search(r"\x1b\[1m(.*)\x1b\[0m", str(error), re.DOTALL)
    return " ".join((bold[1] if bold else str(error)).split()).rstrip(".")
