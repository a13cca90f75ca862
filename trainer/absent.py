"""Ends a worker whose fellows do not come, and names them. A process of its own, without our code.

TensorFlow waits for all workers inside of one call, with Python's lock held: no thread of the
worker itself could do it.

python -I -S trainer/absent.py PID SECONDS HOST:PORT ..., until its stdin is closed.
"""

import os
import select
import signal
import socket
import sys


def unreachable(addresses: list[str]) -> list[str]:
    """Workers that nobody answers for: worker 2 at node9:20001 (Connection refused)."""
    missing = []
    for number, address in enumerate(addresses):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError as error:
            missing.append(f"worker {number} at {address} ({error.strerror or error})")
    return missing


def main() -> None:
    worker, seconds, addresses = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    assembled, _, _ = select.select([sys.stdin], [], [], seconds)
    if not assembled:
        missing = ", ".join(unreachable(addresses)) or "none that cannot be reached"
        print(
            f"error: The {len(addresses)} workers have not assembled in {seconds:.0f} s; missing: "
            f"{missing}. Where the threads are:",
            file=sys.stderr,
            flush=True,
        )
        os.kill(worker, signal.SIGABRT)  # faulthandler shows the stacks


if __name__ == "__main__":
    main()
