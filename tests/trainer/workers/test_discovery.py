"""Who the workers are: tables of environments."""

import json

import pytest

from trainer.errors import TrainerError
from trainer.workers.discovery import Cluster, discover

ONE = Cluster(("",), 0)


def configured(cluster, task=("worker", 0)) -> dict[str, str]:
    content = {"cluster": cluster, "task": {"type": task[0], "index": task[1]}}
    return {"TF_CONFIG": json.dumps(content)}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ONE),
        ({"TF_CONFIG": ""}, ONE),
        ({"TF_CONFIG": "{}"}, ONE),
        (configured({"worker": ["a:1"]}), Cluster(("a:1",), 0)),
        (configured({"worker": ["a:1", "b:1"]}, ("worker", 1)), Cluster(("a:1", "b:1"), 1)),
        (
            configured({"chief": ["c:1"], "worker": ["a:1", "b:1"]}, ("worker", 1)),
            Cluster(("c:1", "a:1", "b:1"), 2),
        ),
        (
            configured({"chief": ["c:1"], "worker": ["a:1"]}, ("chief", 0)),
            Cluster(("c:1", "a:1"), 0),
        ),
        # As Ray Train sets it, and over Slurm's variables.
        (
            configured({"worker": ["10.0.0.4:45021", "10.0.0.5:38997"]}, ("worker", 1))
            | {"SLURM_STEP_NUM_TASKS": "4"},
            Cluster(("10.0.0.4:45021", "10.0.0.5:38997"), 1),
        ),
    ],
)
def test_tf_config(environment, expected):
    assert discover(environment) == expected


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TF_CONFIG": "{"}, "cannot be read"),
        ({"TF_CONFIG": "[]"}, "cannot be read"),
        (configured({"worker": ["a:1"], "ps": ["b:1"]}), "has ps, not workers"),
        (configured({"worker": ["a:1"]}, ("worker", 1)), "has no worker 1"),
        (configured({"worker": ["a:1"]}, ("chief", 0)), "cannot be read"),
        (configured({"worker": ["a:1", "a:1"]}), "Two workers have the address a:1"),
        (configured({"worker": ["a", "b:1"]}), "not host:port"),
    ],
)
def test_a_wrong_tf_config_is_named(environment, words):
    with pytest.raises(TrainerError, match=words):
        discover(environment)


ADDRESSES = {"node9": "10.1.0.9", "node10": "10.1.0.10", "node11": "10.1.0.11"}


def scontrol(*arguments: str) -> str:
    """As Slurm 22.05 answers for three nodes."""
    if arguments[:2] == ("show", "hostnames"):
        return "node9\nnode10\nnode11\n"
    assert arguments[:3] == ("--oneliner", "show", "node")
    lines = [
        f"NodeName={name} Arch=x86_64 CoresPerSocket=1 NodeAddr={address} NodeHostName={name}"
        for name, address in sorted(ADDRESSES.items())  # not in the order of the hostnames
    ]
    return "\n".join(lines)


def slurm(rank: int, node: int, per_node: str = "1(x3)", tasks: int = 3, **more: str):
    return {
        "SLURM_JOB_ID": "1000",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "node[9-11]",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(node),
        **more,
    }


@pytest.mark.parametrize(
    ("environment", "hosts"),
    [
        (slurm(1, 1), ["10.1.0.9", "10.1.0.10", "10.1.0.11"]),
        (
            slurm(4, 2, "2(x2),1", 5),
            ["10.1.0.9", "10.1.0.9", "10.1.0.10", "10.1.0.10", "10.1.0.11"],
        ),
        (
            slurm(3, 0, "2(x2),1", 5, SLURM_DISTRIBUTION="cyclic"),
            ["10.1.0.9", "10.1.0.10", "10.1.0.11", "10.1.0.9", "10.1.0.10"],
        ),
    ],
)
def test_slurms_ranks_get_their_own_nodes_address(environment, hosts):
    cluster = discover(environment, scontrol)
    assert [address.partition(":")[0] for address in cluster.addresses] == hosts
    assert cluster.index == int(environment["SLURM_PROCID"])
    assert len(set(cluster.addresses)) == len(hosts)


def test_jobs_of_slurm_that_share_a_node_have_other_ports():
    first, second = (discover(slurm(0, 0, SLURM_JOB_ID=job), scontrol) for job in ("7", "8"))
    assert not set(first.addresses) & set(second.addresses)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (slurm(1, 0), "cannot be told apart"),
        (slurm(1, 1, "1(x2)"), "cannot be told apart"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "variables are incomplete"),
    ],
)
def test_a_slurm_that_contradicts_itself_is_named(environment, words):
    with pytest.raises(TrainerError, match=words):
        discover(environment, scontrol)


def test_one_task_of_slurm_is_one_worker():
    assert discover(slurm(0, 0, "1", 1), scontrol) == ONE


INDEXED = {
    "SAMESTEP_WORKERS": "3",
    "SAMESTEP_WORKER_ADDRESS": "run-worker-0-{}.run:2222",
    "JOB_COMPLETION_INDEX": "2",
}


def test_the_index_of_a_job_is_the_worker():
    names = tuple(f"run-worker-0-{i}.run:2222" for i in range(3))
    assert discover(INDEXED) == Cluster(names, 2)
    assert json.loads(discover(INDEXED).tf_config()) == {
        "cluster": {"worker": list(names)},
        "task": {"type": "worker", "index": 2},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"JOB_COMPLETION_INDEX": "3"},
        {"JOB_COMPLETION_INDEX": "x"},
        {"SAMESTEP_WORKER_ADDRESS": "run:2222"},
    ],
)
def test_an_index_that_fits_no_worker_is_named(change):
    with pytest.raises(TrainerError, match="SAMESTEP_WORKER"):
        discover(INDEXED | change)
