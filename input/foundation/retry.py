"""Reads from a file system that fails for a moment, as those of networks do."""

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from input.foundation.text import one_line

Content = TypeVar("Content")

log = logging.getLogger(__name__)

# What may be gone at the next try: a server that restarts, a path that moves to another adapter, a
# handle that has grown stale. No such file, no permission and the like stay.
PASSING = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EREMOTEIO, errno.ENOLINK),
        *(errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.ENOTCONN, errno.ECOMM),
    }
)
PAUSE_SECONDS = (0.1, 1.0, 5.0)  # before the second try, the third, ..


def patiently(read: Callable[[], Content], path: Path) -> Content:
    """What `read` returns, tried again after errors that may pass; each is logged.

    Raises its OSError: at once where it does not pass by itself, else the last one.
    """
    for pause in PAUSE_SECONDS:
        try:
            return read()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            place = one_line(str(path))
            log.warning("%s: %s; reading it again in %g s", place, error.strerror, pause)
            time.sleep(pause)
    return read()
