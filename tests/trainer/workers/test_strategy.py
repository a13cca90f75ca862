"""Devices and workers -> a strategy; what is not there is refused before training starts."""

import pytest
import tensorflow as tf

from tests.conftest import THREADS, error
from trainer.errors import ClusterError
from trainer.workers import strategy
from trainer.workers.discovery import Cluster

PAIR = Cluster(("127.0.0.1:20001", "127.0.0.1:20002"), 1)


def gpus(monkeypatch, count: int) -> None:
    """Makes TensorFlow see this many GPUs."""
    found = tf.config.list_physical_devices

    def listed(kind=None):
        return [f"gpu {i}" for i in range(count)] if kind == "GPU" else found(kind)

    monkeypatch.setattr(tf.config, "list_physical_devices", listed)


@pytest.mark.parametrize(
    ("there", "virtual_cpus", "asked", "names"),
    [
        (0, None, None, ["CPU:0"]),
        (0, 3, None, ["CPU:0", "CPU:1", "CPU:2"]),
        (2, None, None, ["GPU:0", "GPU:1"]),
        (4, None, 1, ["GPU:0"]),
        (2, 1, None, ["CPU:0"]),
    ],
)
def test_device_names(monkeypatch, there, virtual_cpus, asked, names):
    gpus(monkeypatch, there)
    assert strategy.device_names(virtual_cpus, asked) == names


@pytest.mark.parametrize(("there", "instead"), [(0, "none"), (2, "2")])
def test_gpus_that_are_not_there_are_refused(monkeypatch, there, instead):
    gpus(monkeypatch, there)
    assert error(strategy.device_names, gpus=4) == (
        f"--gpus=4, but TensorFlow sees {there} GPUs here. Ask for {instead}, or try many-replica "
        "training without GPUs: --virtual_cpus=N."
    )


def test_device_kind_is_the_products_name(monkeypatch):
    assert strategy.device_kind(["CPU:0", "CPU:1"]) == "CPU"
    gpus(monkeypatch, 1)
    details = {"gpu 0": {"device_name": "NVIDIA H100"}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert strategy.device_kind(["GPU:0"]) == "NVIDIA H100"
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    assert strategy.device_kind(["GPU:0"]) == "GPU"


def test_a_replica_on_each_named_device():
    made = strategy.make_strategy(["CPU:0", "CPU:2"], THREADS)
    assert made.num_replicas_in_sync == 2
    assert [device.rpartition("/")[2] for device in made.extended.worker_devices] == [
        "device:CPU:0",
        "device:CPU:2",
    ]


def test_a_cluster_of_one_is_one_process():
    assert isinstance(
        strategy.make_strategy(["CPU:0"], THREADS, cluster=Cluster(("",), 0)),
        tf.distribute.MirroredStrategy,
    )


@pytest.mark.parametrize(("replicas", "threads"), [(5, THREADS), (1, THREADS + 1)])
def test_devices_cannot_be_added_to_a_started_tensorflow(replicas, threads):
    """The tests' own process has four CPUs of two threads."""
    names = [f"CPU:{i}" for i in range(replicas)]
    assert error(strategy.make_strategy, names, threads) == (
        f"TensorFlow has started in this process with 4 CPUs of {THREADS} threads; this run needs "
        f"{replicas} of {threads}. Use a new process."
    )


@pytest.mark.parametrize("option", ["arithmetic_optimization", "constant_folding", "remapping"])
def test_what_would_give_other_bits_on_other_replicas_is_off(option):
    assert tf.config.optimizer.get_experimental_options()[option] is False


@pytest.fixture
def refusing(monkeypatch):
    """Makes the strategy of several workers fail with an error of TensorFlow's."""

    def fail_with(fault: Exception) -> None:
        def fail(**options):
            raise fault

        monkeypatch.setattr(strategy.internals, "use_local_devices", lambda names: None)
        monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", fail)
        monkeypatch.setenv("TF_CONFIG", "")

    return fail_with


def test_a_port_that_is_taken_is_named(refusing):
    refusing(tf.errors.UnknownError(None, None, "Could not start gRPC server"))
    with pytest.raises(ClusterError) as caught:
        strategy.make_strategy(["CPU:0"], THREADS, cluster=PAIR)
    assert str(caught.value) == (
        "Worker 1 cannot listen at 127.0.0.1:20002: another process has the port. Give it another "
        "one, or end that process."
    )


def test_other_errors_of_the_cluster_stay_what_they_are(refusing):
    fault = tf.errors.UnknownError(None, None, "something else")
    refusing(fault)
    with pytest.raises(tf.errors.UnknownError) as caught:
        strategy.make_strategy(["CPU:0"], THREADS, cluster=PAIR)
    assert caught.value is fault
