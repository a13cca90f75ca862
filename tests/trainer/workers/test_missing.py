"""The process that names peers that have not connected, and aborts the worker."""

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.trainer.workers.runs import free_addresses
from trainer.workers import missing


@pytest.fixture
def listening():
    """The address of somebody who answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent() -> str:
    return free_addresses(1)[0]


def test_those_that_do_not_answer_are_named(listening, silent):
    refused, unknown = missing.unreachable([listening, silent, "nowhere.invalid:1"])
    assert refused == f"worker 1 at {silent} (Connection refused)"
    assert unknown.startswith("worker 2 at nowhere.invalid:1 (")  # as the resolver puts it


def test_addresses_of_ipv6_are_reached():
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server:
        assert missing.unreachable([f"[::1]:{server.getsockname()[1]}"]) == []


@contextmanager
def watching(seconds: float, *addresses: str):
    """A worker that waits, and the process that looks after it."""
    with subprocess.Popen(["sleep", "600"]) as worker:
        argv = [sys.executable, "-I", "-S", missing.__file__, str(worker.pid), str(seconds)]
        with subprocess.Popen(
            [*argv, *addresses], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watch:
            try:
                yield worker, watch
            finally:
                worker.kill()


def test_a_worker_whose_peers_do_not_come_is_aborted(listening, silent):
    with watching(0.2, listening, silent) as (worker, watch):
        assert worker.wait(timeout=60) == -signal.SIGABRT
        assert watch.stderr.read() == (
            "error: The 2 workers have not connected in 0 s; missing: "
            f"worker 1 at {silent} (Connection refused). Stacks of all threads:\n"
        )


def test_where_all_answer_and_the_worker_waits_it_says_so(listening):
    with watching(0.2, listening) as (worker, watch):
        assert worker.wait(timeout=60) == -signal.SIGABRT
        assert "missing: none, all can be reached." in watch.stderr.read()


def test_a_worker_that_has_connected_goes_on(silent):
    with watching(600, silent) as (worker, watch):
        watch.stdin.close()
        assert watch.wait(timeout=60) == 0
        assert worker.poll() is None
        assert watch.stderr.read() == ""
