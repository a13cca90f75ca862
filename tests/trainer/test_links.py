"""The timed all-reduce sums what a run sums, and a hang ends the process with what is known."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT, error
from trainer import links
from trainer.errors import STALLED
from trainer.links import Link
from trainer.sums import Layout

LAYOUT = Layout([tf.TensorShape([100, 7])], [], micro_batches=4, exact=True)
CPUS = [f"CPU:{i}" for i in range(3)]


@pytest.mark.parametrize("exact", [True, False])
def test_all_replicas(strategies, exact):
    layout = Layout([tf.TensorShape([100, 7])], [], micro_batches=4, exact=exact)
    found = links.time_all(strategies[4], layout)
    assert found.devices == "4 devices"
    assert 0 < found.seconds < 60


def test_every_pair_once():
    found = list(links.time_pairs(CPUS, LAYOUT, "ring"))
    assert [link.devices for link in found] == ["CPU:0-CPU:1", "CPU:0-CPU:2", "CPU:1-CPU:2"]
    assert all(0 < link.seconds < 60 for link in found)


def test_a_wrong_sum_is_an_error(monkeypatch):
    """A link that loses something is worse than a slow one."""
    reduce = tf.raw_ops.CollectiveReduceV2

    def damaged(**options):
        ones = np.ones([LAYOUT.size])
        ones[-1] = 3
        return reduce(**{**options, "input": tf.constant(ones, tf.int64)})

    monkeypatch.setattr(tf.raw_ops, "CollectiveReduceV2", damaged)
    assert error(list, links.time_pairs(CPUS, LAYOUT, "ring")) == (
        "The all-reduce over CPU:0-CPU:1 gives wrong sums: 2 ones are not 2. Suspect the devices "
        "or what connects them; NCCL_P2P_DISABLE=1 avoids direct access."
    )


# A pair whose second device never comes, as a GPU that does not answer.
HANGING = """
import tensorflow as tf
from trainer import links
from trainer.sums import Layout
links.BOUND_SECONDS = 0.2
layout = Layout([tf.TensorShape([7])], [], micro_batches=4, exact=True)
reduce = tf.raw_ops.CollectiveReduceV2
tf.raw_ops.CollectiveReduceV2 = lambda **options: reduce(**{**options, "group_size": 3})
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, logical)
list(links.time_pairs(["CPU:0", "CPU:1"], layout, "ring"))
"""


def test_a_hang_names_the_pair_and_the_variables_of_nccl():
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "", "NCCL_IB_DISABLE": "1", "NCCL_DEBUG": "WARN", "ENCCL_X": "1"},
    )
    assert done.returncode == STALLED
    assert done.stdout.startswith(
        "error: The all-reduce over CPU:0-CPU:1 hangs. NCCL's variables: NCCL_DEBUG=WARN, "
        "NCCL_IB_DISABLE=1. NCCL_DEBUG=INFO shows where it waits, NCCL_P2P_DISABLE=1 avoids direct "
        "access between cards. Nothing happened for 0 s. Stacks of all threads:"
    )


def test_no_variables_of_nccl(monkeypatch):
    monkeypatch.setattr(links.os, "environ", {})
    assert links.nccl_variables().startswith("NCCL's variables: none is set. ")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "205 MB in 3.1 ms (66 GB/s) over 8 devices"),
        (
            [Link("GPU:0-GPU:1", 0.001), Link("GPU:2-GPU:5", 0.0044), Link("GPU:2-GPU:6", 0.002)],
            "205 MB in 3.1 ms (66 GB/s) over 8 devices; slowest pair GPU:2-GPU:5 4.4 ms",
        ),
    ],
)
def test_summary(pairs, expected):
    assert links.summary(Link("8 devices", 0.0031), pairs, 204_800_000) == expected
