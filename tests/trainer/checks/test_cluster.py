"""Workers that could not find each other are named before anybody waits for them."""

import json
import socket

import pytest

from trainer.checks import cluster


def tf_config(*addresses: str, index: int = 0) -> dict[str, str]:
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}


@pytest.fixture
def taken():
    """A port of this machine that somebody listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def free(taken):
    """One that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    assert port != taken
    return port


def test_one_worker_needs_nothing():
    found, workers = cluster.examine({})
    assert (found.verdict, cluster.machines(workers)) == ("ok", 1)


def test_workers_that_can_meet_are_ok(free):
    found, workers = cluster.examine(tf_config(f"localhost:{free}", "localhost:1"))
    assert (found.verdict, found.found) == ("ok", f"worker 0 of 2, at localhost:{free}")
    assert (len(workers.addresses), cluster.machines(workers)) == (2, 1)


def test_a_port_that_is_looked_at_is_free_afterwards(free):
    for _ in range(2):
        assert cluster.examine(tf_config(f"127.0.0.1:{free}", "127.0.0.1:1"))[0].verdict == "ok"


@pytest.mark.parametrize(
    ("environ", "verdict", "words"),
    [
        ({"TF_CONFIG": '{"cluster":'}, "wrong", "TF_CONFIG cannot be read"),
        (tf_config("h:1", "g:2", index=2), "wrong", "has no worker 2"),
        (
            tf_config("localhost:1", "no.such.invalid:2"),
            "wrong",
            "worker 1 is at no.such.invalid:2",
        ),
        (tf_config("localhost:1", "localhost:99999999"), "wrong", "worker 1 is at localhost:99"),
        (
            tf_config("192.0.2.1:9", "127.0.0.1:9"),
            "wrong",
            "worker 1 is at 127.0.0.1:9, where only",
        ),
        # 192.0.2.0/24 is for documentation: nobody has it.
        (tf_config("192.0.2.1:9", "192.0.2.2:9"), "warning", "this machine does not have"),
        ({"SLURM_NTASKS": "4"}, "warning", "Start all with srun"),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, "wrong", "variables are incomplete"),
        ({"SLURM_NTASKS": "1"}, "ok", "one: "),
    ],
)
def test_what_is_wrong_with_workers_is_named(environ, verdict, words):
    found, _ = cluster.examine(environ)
    assert found.verdict == verdict
    assert words in found.found


def test_a_port_that_is_taken_is_wrong(taken):
    found, _ = cluster.examine(tf_config(f"127.0.0.1:{taken}", "127.0.0.1:1"))
    assert found.verdict == "wrong"
    assert found.found == (
        f"worker 0 of 2, at 127.0.0.1:{taken}, a port that another process has. Give it another "
        "one, or end that process"
    )
