"""SIGTERM is remembered while it is watched for, ignored once it came, and else as before."""

import os
import signal
import threading

import pytest

from trainer.workers import preemption


@pytest.fixture(autouse=True)
def handler():
    """A handler of ours, which counts; what pytest had is put back."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def send_sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_is_noted_and_further_ones_are_ignored(handler):
    with preemption.watched() as stop_requested:
        assert not stop_requested()
        send_sigterm()
        assert stop_requested()
    send_sigterm()
    assert handler == []


def test_without_a_sigterm_the_handler_before_is_put_back(handler):
    with preemption.watched() as stop_requested:
        pass
    send_sigterm()
    assert handler == [signal.SIGTERM]
    assert not stop_requested()


def test_the_handler_before_is_put_back_after_an_error(handler):
    with pytest.raises(ZeroDivisionError), preemption.watched():
        raise ZeroDivisionError
    send_sigterm()
    assert handler == [signal.SIGTERM]


def test_another_thread_watches_for_nothing(handler):
    said = []

    def run():
        with preemption.watched() as stop_requested:
            send_sigterm()
            said.append(stop_requested())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert said == [False]
    assert handler == [signal.SIGTERM]
