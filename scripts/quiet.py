"""TensorFlow loaded without the lines it writes to stderr on every machine.

They come from C++ before its log level is read, so only a filter on file descriptor 2 stops them.
The filter is a process of its own: what an import that dies had to say still comes out.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator

LOADING = "loading TensorFlow"
# 303 is a machine without a CUDA driver. Any other number from cuInit is a driver with a fault.
NOISE = re.compile(
    rb"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$"
    rb"|cudart_stub\.cc:\d+\] Could not find cuda drivers on your machine"
    rb"|cuda_platform\.cc:\d+\] failed call to cuInit: .*\(303\)$"
    rb"|cuda_\w+\.cc:\d+\] Unable to register cu\w+ factory: Attempting to register factory for"
    rb"|port\.cc:\d+\] oneDNN custom operations are on\."
    rb"|util\.cc:\d+\] oneDNN supports DT_UINT8 only on platforms with AVX-512\."
    rb"|cpu_feature_guard\.cc:\d+\] This TensorFlow binary is optimized to use available CPU"
    rb"|^To enable the following instructions: .* rebuild TensorFlow with the appropriate"
)


def quiet_tensorflow(say: bool = True) -> None:
    """Imports TensorFlow and lists the physical devices, which is when the lines come.

    say: whether a line tells what the seconds pass with.

    Logical devices stay unset: their number and the threads can still be chosen afterwards. Of what
    TensorFlow logs later, errors are shown; a level that the user has set stays. Keras, imported
    after it, runs on TensorFlow, whatever the environment and ~/.keras/keras.json say. Raises
    UserError where there is no room for the files in which AutoGraph keeps code.
    """
    from input.foundation.errors import UserError  # the filter, which is this file, has no packages

    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise UserError(
            f"{error.strerror}, and TensorFlow needs one. Make room there, or set TMPDIR."
        ) from None
    if say and "tensorflow" not in sys.modules:
        print(LOADING, file=sys.stderr, flush=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with filtered_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Drops the lines of NOISE from file descriptor 2; every other line passes as it comes."""
    sys.stderr.flush()
    filter_process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must not end the filter before the process it listens to
    )
    assert filter_process.stdin is not None  # it is a pipe
    stderr = os.dup(2)
    os.dup2(filter_process.stdin.fileno(), 2)
    filter_process.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        # The filter ends with the last writer: normally now, but a child started meanwhile may
        # still write, and is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            filter_process.wait(timeout=1)


def _filter() -> None:
    for line in sys.stdin.buffer:
        if not NOISE.search(line.rstrip(b"\r\n")):
            os.write(2, line)


if __name__ == "__main__":
    _filter()
