"""Aborts this worker if its peers have not connected in time, and names them. A separate process.

TensorFlow waits for all workers inside one call that holds Python's global lock, so no thread of
the worker could do it. Imports nothing of ours.

python -I -S trainer/workers/missing.py PID SECONDS HOST:PORT ..., until its stdin is closed.
"""

import os
import select
import signal
import socket
import sys


def unreachable(addresses: list[str]) -> list[str]:
    """Workers whose address does not answer: worker 2 at node9:20001 (Connection refused)."""
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
    connected, _, _ = select.select([sys.stdin], [], [], seconds)
    if not connected:
        missing = ", ".join(unreachable(addresses)) or "none, all can be reached"
        print(
            f"error: The {len(addresses)} workers have not connected in {seconds:.0f} s; missing: "
            f"{missing}. Stacks of all threads:",
            file=sys.stderr,
            flush=True,
        )
        os.kill(worker, signal.SIGABRT)  # faulthandler shows the stacks


if __name__ == "__main__":
    main()
