"""Workers as processes of this machine: started, watched, stopped and restarted together.

TensorFlow has no launcher of its own, and a worker that was killed cannot rejoin: the others wait
for it, or have ended.
"""

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from trainer.errors import INTERRUPTED, ClusterError, PreemptedError, TrainerError
from trainer.launch import guard
from trainer.launch.config import LaunchConfig
from trainer.launch.gpus import divide_gpus, visible_gpus
from trainer.launch.output import Screen, Worker
from trainer.workers import progress
from trainer.workers.discovery import Cluster

# A signal that comes just before the launcher waits would not wake it.
LOOK_SECONDS = 0.5
BACK_OFF_SECONDS = (1, 2, 5, 15, 60)  # before the first restart without a new step, the second, ..
# The last line of a traceback.
_RAISED = re.compile(r"(\w+\.)*\w*(Error|Exception|Warning|Interrupt)\b.*")


# Ends of workers, (number, exit code), and signals that the launcher has received.
Events: TypeAlias = "queue.SimpleQueue[signal.Signals | tuple[int, int]]"


class Ended(NamedTuple):
    """How a worker ended."""

    worker: int
    code: int  # as subprocess counts: -9 is SIGKILL
    stopped: bool  # by us


def launch(command: Sequence[str], config: LaunchConfig) -> int:
    """Runs command in every worker, again after each failure, and returns the exit code.

    0 where all end well. 75 after SIGTERM, SIGHUP or SIGUSR1, which the workers get as SIGTERM; 130
    after Ctrl-C, which they get too. Else the code of the worker that failed first, once no restart
    helps: after 2, a wrong setting; after the same error at the same step twice; after max_restarts
    restarts in a row without a new step saved.
    """
    guard.stand()
    return supervise(command, config)


def supervise(command: Sequence[str], config: LaunchConfig) -> int:
    """As launch, in a process whose end its workers may survive."""
    logs = Path(config.logs)
    gpus = divide_gpus(visible_gpus(os.environ), config.workers, config.gpus_per_worker)
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainerError(
            f"--logs={logs} cannot be written: {error.strerror}. Choose another."
        ) from None
    reports = (logs / f".progress-{os.getpid()}").absolute()
    screen = Screen()
    try:
        with _events() as events:
            return _repeat(command, config, gpus, reports, screen, events)
    finally:
        reports.unlink(missing_ok=True)
        screen.close()


def _repeat(
    command: Sequence[str],
    config: LaunchConfig,
    gpus: Sequence[Sequence[str]],
    reports: Path,
    screen: Screen,
    events: Events,
) -> int:
    """Attempt after attempt. reports: the file in which the command reports its progress."""
    fruitless, before, failure_before = 0, "", None
    while True:
        attempt = _Attempt(command, config, gpus, reports, screen, events)
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
        preempted = code == PreemptedError.exit_code
        if preempted:
            screen.say("preempted and saved")
        else:
            attempt.explain(root)
        saved = progress.read(reports)
        if code == TrainerError.exit_code:
            return code
        failure = None if preempted else (saved, attempt.raised(root))
        if failure is not None and failure == failure_before and failure[1]:
            screen.say("the same error at the same step: another restart does not help")
            return code
        fruitless = 0 if saved != before else fruitless + 1
        before, failure_before = saved, failure
        if fruitless > config.max_restarts:
            screen.say(f"{config.max_restarts} restarts without a new step were not enough")
            return code
        seconds = BACK_OFF_SECONDS[min(max(fruitless - 1, 0), len(BACK_OFF_SECONDS) - 1)]
        counted = f"restart {fruitless} of {config.max_restarts}" if fruitless else "restart"
        after = f"after step {saved}" if saved else "from the start"
        screen.say(f"{counted} in {seconds} s, {after}")
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


class _Attempt:
    """All workers from their start to the end of the last."""

    def __init__(
        self,
        command: Sequence[str],
        config: LaunchConfig,
        gpus: Sequence[Sequence[str]],
        reports: Path,
        screen: Screen,
        events: Events,
    ):
        self._events = events
        self._screen = screen
        self._stopping: set[int] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._workers: list[Worker] = []
        self._copying: list[threading.Thread] = []
        addresses = tuple(f"127.0.0.1:{port}" for port in _free_ports(config.workers))
        try:
            for number in range(config.workers):
                environment = {
                    **os.environ,
                    "TF_CONFIG": Cluster(addresses, number).tf_config(),
                    "PYTHONUNBUFFERED": "1",
                    progress.VARIABLE: str(reports),
                }
                if any(gpus):
                    environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[number])
                log = Path(config.logs) / f"worker-{number}.log"
                self._start(number, command, environment, Worker(number, log, screen))
        except OSError as error:
            self.end()
            what = error.filename or command[0]
            raise TrainerError(f"{what} cannot be started or written: {error.strerror}.") from None

    def _start(
        self, number: int, command: Sequence[str], environment: Mapping[str, str], worker: Worker
    ) -> None:
        process = guard.start(command, environment)
        self._processes.append(process)
        self._workers.append(worker)
        self._copying.append(self._thread(worker.copy, process.stdout))
        self._thread(self._wait, number, process)

    def run(self, grace_seconds: float) -> tuple[list[Ended], signal.Signals | None]:
        """How the workers ended, in this order, and which signal the launcher received, if any."""
        ends: list[Ended] = []
        received: signal.Signals | None = None
        deadline: float | None = None  # of SIGKILL; nothing postpones it
        while len(ends) < len(self._processes):
            try:
                left = LOOK_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
                event = self._events.get(timeout=left)
            except queue.Empty:
                if deadline is not None:
                    self._stop(signal.SIGKILL)
                    deadline = None
                continue
            if isinstance(event, signal.Signals):
                again = received == event == signal.SIGINT
                received = received or event
                if again:
                    self._stop(signal.SIGKILL)
                    continue
                self._stop(signal.SIGINT if event == signal.SIGINT else signal.SIGTERM)
                deadline = deadline or time.monotonic() + grace_seconds
                continue
            worker, code = event
            ends.append(Ended(worker, code, worker in self._stopping))
            if len(ends) == len(self._processes):
                break
            if code == 0:
                self._screen.say(f"worker {worker} ended with 0, others go on")
            elif deadline is None:
                if code != PreemptedError.exit_code:  # it has told the others, which save too
                    self._stop(signal.SIGTERM)
                deadline = time.monotonic() + grace_seconds
        return ends, received

    def end(self) -> None:
        """Kills all processes that the workers have left behind."""
        guard.kill_descendants()
        for copying in self._copying:
            copying.join(timeout=5)

    def explain(self, root: Ended) -> None:
        """Shows the end of a worker's output."""
        signals = {-number: number.name for number in signal.Signals}
        how = f"by {signals[root.code]}" if root.code in signals else f"with exit code {root.code}"
        if root.stopped:
            how = f"{how}, after it no longer reacted to SIGTERM"
        self._screen.say(f"worker {root.worker} ended {how}. Its last lines:")
        for line in self._workers[root.worker].tail:
            self._screen.show(f"    {line}\n")

    def raised(self, root: Ended) -> str:
        """The exception that ended a worker, as the last line of its traceback says."""
        lines = list(self._workers[root.worker].tail)
        return next((line for line in reversed(lines) if _RAISED.match(line)), "")

    def _stop(self, number: signal.Signals) -> None:
        for worker, process in enumerate(self._processes):
            if process.poll() is None:
                self._stopping.add(worker)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

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
    """A queue for the ends of workers, which signals are put into too."""
    events: Events = queue.SimpleQueue()  # safe to put into from a signal handler
    numbers = [n for n in guard.SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, lambda n, _: events.put(signal.Signals(n)))
    try:
        yield events
    finally:
        for number in numbers:  # a repeated one would change the exit code
            signal.signal(number, signal.SIG_IGN)
