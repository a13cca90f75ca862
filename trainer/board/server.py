"""TensorBoard beside a run: a process of its own, on loopback, that ends with the run."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(folder: Path, wanted: bool) -> Iterator[None]:
    """Prints the address once it is there, or why it is not; the body does not wait for that.

    The server ends when its stdin closes, so at the latest with this process. Ctrl-C does not
    reach it.
    """
    if not wanted:
        yield
        return
    with subprocess.Popen(
        # -P: the modules of this folder are not to be taken for others of their names.
        [sys.executable, "-P", str(Path(__file__).with_name("serving.py")), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        ending = threading.Event()
        thread = threading.Thread(target=_announce, args=(process, ending), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            process.terminate()
            thread.join()


def _announce(process: subprocess.Popen[str], ending: threading.Event) -> None:
    assert process.stdout is not None
    address, last = "", "it was killed"
    for line in process.stdout:  # to the end: nobody else empties the pipe
        last = line.strip() or last
        if not address and line.startswith("http://"):
            address = last
            print(f"TensorBoard: {address}", flush=True)
    if not ending.is_set():
        print(f"TensorBoard has ended, and the training goes on: {last}", flush=True)
