"""A signal is remembered, said, and then ignored; a second Ctrl-C ends the process at once."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.conftest import ROOT
from trainer.errors import INTERRUPTED
from trainer.workers import preemption
from trainer.workers.preemption import SIGNALS


@pytest.fixture(autouse=True)
def handler():
    """Handlers of ours, which note; what pytest had is put back."""
    received = []
    before = {n: signal.signal(n, lambda number, _: received.append(number)) for n in SIGNALS}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_further_ones_are_ignored(handler, number, capsys):
    with preemption.watched() as stop:
        assert not stop.requested
        send(number)
        assert stop.requested
        assert str(stop) == signal.Signals(number).name
    for each in SIGNALS:
        send(each)
    assert handler == []
    assert f"{signal.Signals(number).name}: saving and stopping" in capsys.readouterr().err


def test_the_first_signal_is_the_reason_that_is_given(handler):
    with preemption.watched() as stop:
        assert str(stop) == "a signal to another worker"
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
    assert str(stop) == "SIGUSR1"


def test_without_a_signal_the_handlers_before_are_put_back(handler):
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    with preemption.watched() as stop:
        pass
    assert signal.set_wakeup_fd(wakeup) == wakeup
    for number in SIGNALS:
        send(number)
    assert handler == list(SIGNALS)
    assert not stop.requested


def test_the_handlers_before_are_put_back_after_an_error(handler):
    with pytest.raises(ZeroDivisionError), preemption.watched():
        raise ZeroDivisionError
    send(signal.SIGTERM)
    assert handler == [signal.SIGTERM]


def test_what_is_ignored_stays_so(handler):
    """nohup, and the Ctrl-C of a shell's background jobs."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with preemption.watched() as stop:
        send(signal.SIGHUP)
        assert not stop.requested
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_another_thread_watches_for_nothing(handler):
    said = []

    def run():
        with preemption.watched() as stop:
            send(signal.SIGTERM)
            said.append(stop.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert said == [False]
    assert handler == [signal.SIGTERM]


DEAF = """
import sys
from trainer.workers import preemption
with preemption.watched() as stop:
    stop.saved = eval(sys.argv[1])
    print("ready", flush=True)
    # As a long call of TensorFlow: no handler of Python's runs in it.
    import ctypes
    libc = ctypes.CDLL(None)
    while True:
        libc.sleep(600)
"""


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (None, "interrupted; nothing was saved yet"),
        (7, "interrupted; last saved: step 7, from which the same command goes on"),
    ],
)
def test_a_second_ctrl_c_ends_a_process_that_is_inside_a_call(saved, words):
    with subprocess.Popen(
        [sys.executable, "-c", DEAF, str(saved)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's & makes pytest ignore Ctrl-C, and its children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            child.send_signal(signal.SIGINT)
            said = child.stderr.readline()
            assert (
                said == "SIGINT: saving and stopping after this step; Ctrl-C again ends at once\n"
            )
            child.send_signal(signal.SIGINT)
            assert child.wait(timeout=60) == INTERRUPTED
            assert child.stderr.read().strip() == words
        finally:
            child.kill()
