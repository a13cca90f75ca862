"""Workers as processes of this machine: started, watched, stopped and restarted together.

TensorFlow has no launcher of its own, and a worker that was killed cannot rejoin: the others wait
for it, or have ended.
"""

import contextlib
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from trainer.errors import INTERRUPTED, ClusterError, PreemptedError, TrainerError
from trainer.launch import reaper
from trainer.launch.config import LaunchConfig
from trainer.workers.discovery import Cluster

MARK = "SAMESTEP_LAUNCH"  # environment variable by which a launch finds its processes
TAIL_LINES = 40  # of the worker that failed, shown again
BACK_OFF_SECONDS = (1, 2, 5, 15, 60)  # before the first restart, the second, ..
INTERRUPT_SECONDS = 3  # from Ctrl-C to SIGKILL


# Ends of workers, (number, exit code), and signals that the launcher has received.
Events: TypeAlias = "queue.SimpleQueue[signal.Signals | tuple[int, int]]"


class Ended(NamedTuple):
    """How a worker ended."""

    worker: int
    code: int  # as subprocess counts: -9 is SIGKILL
    stopped: bool  # by us


def launch(command: Sequence[str], config: LaunchConfig) -> int:
    """Runs command in every worker, again after each failure, and returns the exit code.

    0 where all end well. 75 after SIGTERM, which is passed on to the workers. 130 after Ctrl-C.
    Else the code of the worker that failed first, once there are no restarts left; after 2, a wrong
    setting, there is no restart.
    """
    logs, restarts = Path(config.logs), 0
    logs.mkdir(parents=True, exist_ok=True)
    gpus = divide_gpus(visible_gpus(os.environ), config.workers, config.gpus_per_worker)
    with _events() as events:
        while True:
            attempt = _Attempt(command, config.workers, gpus, logs, events)
            try:
                ends, received = attempt.run(config.grace_seconds)
            finally:
                attempt.end()
            if all(end.code == 0 for end in ends):
                return 0
            root = root_cause(ends)
            code = root.code if root.code >= 0 else 128 - root.code
            if received is not None:
                return INTERRUPTED if received == signal.SIGINT else code
            if code == PreemptedError.exit_code:
                print("samestep-launch: preempted and saved; restarting", flush=True)
                continue
            attempt.explain(root)
            if code == TrainerError.exit_code:
                return code
            if restarts == config.max_restarts:
                print(f"samestep-launch: {restarts} restarts were not enough", flush=True)
                return code
            seconds = BACK_OFF_SECONDS[min(restarts, len(BACK_OFF_SECONDS) - 1)]
            restarts += 1
            print(
                f"samestep-launch: restart {restarts} of {config.max_restarts} in {seconds} s",
                flush=True,
            )
            with contextlib.suppress(queue.Empty):  # only signals come now: all workers have ended
                stop = events.get(timeout=seconds)
                return INTERRUPTED if stop == signal.SIGINT else PreemptedError.exit_code


def root_cause(ends: Sequence[Ended]) -> Ended:
    """The worker whose failure ended the others. ends: in the order in which they ended."""
    failed = [end for end in ends if end.code != 0]
    own = [e for e in failed if not e.stopped and e.code != ClusterError.exit_code]
    # Where all others report a lost worker, it is the one that had to be killed.
    hung = [end for end in failed if end.stopped and end.code == -signal.SIGKILL]
    return (own or hung or failed)[0]


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that a process of this environment may use; TensorFlow is not asked."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name not in ("", "-1")]
    driver = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i in range(len(list(driver.iterdir())))] if driver.is_dir() else []


def divide_gpus(gpus: Sequence[str], workers: int, per_worker: int | None) -> list[list[str]]:
    """The GPUs of each worker. Raises TrainerError where there are too few."""
    count = len(gpus) // workers if per_worker is None else per_worker
    if count * workers > len(gpus) or (per_worker is None and count * workers < len(gpus)):
        raise TrainerError(
            f"{len(gpus)} GPUs cannot be divided evenly over {workers} workers"
            + (f" of {per_worker}" if per_worker else "")
            + ". Set --workers or --gpus_per_worker."
        )
    return [list(gpus[i * count : (i + 1) * count]) for i in range(workers)]


class _Attempt:
    """All workers from their start to the end of the last."""

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        gpus: Sequence[Sequence[str]],
        logs: Path,
        events: Events,
    ):
        self._events = events
        self._mark = f"{MARK}={secrets.token_hex(8)}"
        self._tails: list[deque[str]] = [deque(maxlen=TAIL_LINES) for _ in range(workers)]
        self._stopping: set[int] = set()
        # It outlives this process, and then kills the workers.
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, self._mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        addresses = tuple(f"127.0.0.1:{port}" for port in _free_ports(workers))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []
        for worker in range(workers):
            environment = {
                **os.environ,
                "TF_CONFIG": Cluster(addresses, worker).tf_config(),
                "PYTHONUNBUFFERED": "1",
                MARK: self._mark.partition("=")[2],
            }
            if any(gpus):
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[worker])
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is the launcher's to pass on
                )
            except OSError as error:
                self.end()
                raise TrainerError(f"{command[0]} cannot be started: {error.strerror}.") from None
            self._processes.append(process)
            log = (logs / f"worker-{worker}.log").open("ab")
            self._readers.append(self._thread(self._copy, worker, process.stdout, log))
            self._thread(self._wait, worker, process)

    def run(self, grace_seconds: float) -> tuple[list[Ended], signal.Signals | None]:
        """How the workers ended, in this order, and which signal the launcher received, if any."""
        ends: list[Ended] = []
        received: signal.Signals | None = None
        deadline: float | None = None
        while len(ends) < len(self._processes):
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                event = self._events.get(timeout=left)
            except queue.Empty:
                self._stop(signal.SIGKILL)
                deadline = None
                continue
            if isinstance(event, signal.Signals):
                received = received or event
                self._stop(event)
                grace = INTERRUPT_SECONDS if event == signal.SIGINT else grace_seconds
                deadline = time.monotonic() + grace
                continue
            worker, code = event
            ends.append(Ended(worker, code, worker in self._stopping))
            if code != 0 and deadline is None and len(ends) < len(self._processes):
                # A worker that was preempted has told the others, which save and end too.
                if code != PreemptedError.exit_code:
                    self._stop(signal.SIGTERM)
                deadline = time.monotonic() + grace_seconds
        return ends, received

    def end(self) -> None:
        """Kills all processes that the workers have left behind."""
        reaper.kill(self._mark)
        self._reaper.communicate()  # closes its stdin, and waits for it
        for reader in self._readers:
            reader.join(timeout=5)

    def explain(self, root: Ended) -> None:
        """Shows the end of a worker's output."""
        signals = {-number: number.name for number in signal.Signals}
        how = f"by {signals[root.code]}" if root.code in signals else f"with exit code {root.code}"
        if root.stopped:
            how = f"{how}, after it no longer reacted to SIGTERM"
        print(f"\nsamestep-launch: worker {root.worker} ended {how}. Its last lines:")
        for line in self._tails[root.worker]:
            print(f"    {line}")
        sys.stdout.flush()

    def _stop(self, number: signal.Signals) -> None:
        for worker, process in enumerate(self._processes):
            if process.poll() is None:
                self._stopping.add(worker)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def _copy(self, worker: int, output: IO[bytes], log: IO[bytes]) -> None:
        with output, log:
            for line in output:
                log.write(line)
                log.flush()
                text = line.decode(errors="replace").rstrip("\n")
                self._tails[worker].append(text)
                # In one write: print's own newline is another, and a thread may get in between.
                print(f"[{worker}] {text}\n", end="", flush=True)

    def _wait(self, worker: int, process: subprocess.Popen[bytes]) -> None:
        self._events.put((worker, process.wait()))

    @staticmethod
    def _thread(what: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        thread.start()
        return thread


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextlib.contextmanager
def _events() -> Iterator[Events]:
    """A queue for the ends of workers, which SIGINT and SIGTERM are put into too."""
    events: Events = queue.SimpleQueue()  # safe to put into from a signal handler
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda n, _: events.put(signal.Signals(n))) for n in numbers}
    try:
        yield events
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
