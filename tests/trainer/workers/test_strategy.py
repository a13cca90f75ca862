"""Devices and workers -> a strategy; what is not there is refused before training starts."""

from contextlib import suppress
from pathlib import Path

import pytest
import tensorflow as tf

from input.config import InputConfig
from input.foundation.errors import UserError
from models.config import ModelConfig
from tests.conftest import THREADS, error
from trainer.config import Config, RunConfig
from trainer.errors import ClusterError
from trainer.export import export_run
from trainer.forecast import forecast
from trainer.recipe import OptimizerConfig
from trainer.workers import nvidia, strategy
from trainer.workers.discovery import Cluster

PAIR = Cluster(("127.0.0.1:20001", "127.0.0.1:20002"), 1)


def gpus(monkeypatch, count: int) -> None:
    """Makes TensorFlow see this many GPUs."""
    found = tf.config.list_physical_devices

    def listed(kind=None):
        return [f"gpu {i}" for i in range(count)] if kind == "GPU" else found(kind)

    monkeypatch.setattr(tf.config, "list_physical_devices", listed)


@pytest.mark.parametrize(
    ("there", "asked", "names"),
    [
        (0, {}, ["CPU:0"]),
        (0, {"virtual_cpus": 3}, ["CPU:0", "CPU:1", "CPU:2"]),
        (2, {}, ["GPU:0", "GPU:1"]),
        (4, {"gpus": 1}, ["GPU:0"]),
        (2, {"virtual_cpus": 1}, ["CPU:0"]),
        (1, {"virtual_gpus": 3}, ["GPU:0", "GPU:1", "GPU:2"]),
        (2, {"virtual_gpus": 2}, ["GPU:0", "GPU:1", "GPU:2", "GPU:3"]),
        (4, {"gpus": 1, "virtual_gpus": 2}, ["GPU:0", "GPU:1"]),
    ],
)
def test_device_names(monkeypatch, there, asked, names):
    gpus(monkeypatch, there)
    assert strategy.device_names(**asked) == names


@pytest.mark.parametrize(("there", "instead"), [(0, "none"), (2, "2")])
def test_gpus_that_are_not_there_are_refused(monkeypatch, there, instead):
    gpus(monkeypatch, there)
    assert error(strategy.device_names, gpus=4) == (
        f"--gpus=4, but TensorFlow sees {there} GPUs here. Ask for {instead}, or try many-replica "
        "training without GPUs: --virtual_cpus=N."
    )


def test_virtual_gpus_need_a_gpu(monkeypatch):
    gpus(monkeypatch, 0)
    assert error(strategy.device_names, virtual_gpus=2) == (
        "--virtual_gpus=2, but TensorFlow sees no GPU here. Try many-replica training on the CPU: "
        "--virtual_cpus=2."
    )


@pytest.fixture
def made(monkeypatch):
    """What make_strategy tells TensorFlow on a machine of 3 GPUs, in turn; it makes no strategy."""
    calls = []

    def record(owner, name):
        monkeypatch.setattr(owner, name, lambda *args, **options: calls.append((name, *args)))

    gpus(monkeypatch, 3)
    record(tf.config, "set_visible_devices")
    record(tf.config, "set_logical_device_configuration")
    record(tf.config.experimental, "set_memory_growth")
    monkeypatch.setattr(
        tf.distribute,
        "MirroredStrategy",
        lambda names, cross_device_ops: calls.append((names, type(cross_device_ops).__name__)),
    )
    cards = [nvidia.Card(0, 70_001, 80_000), nvidia.Card(1, 80_000, 80_000)]
    monkeypatch.setattr(strategy.nvidia, "cards", lambda: cards)
    return calls


@pytest.mark.parametrize("growth", [True, False])
def test_gpus_that_are_not_used_are_left_alone(made, growth):
    strategy.make_strategy(["GPU:0", "GPU:1"], THREADS, gpu_memory_growth=growth)
    assert made == [
        ("set_visible_devices", ["gpu 0", "gpu 1"], "GPU"),
        ("set_memory_growth", "gpu 0", growth),
        ("set_memory_growth", "gpu 1", growth),
        (["GPU:0", "GPU:1"], "NoneType"),  # the default: NCCL
    ]


def test_virtual_gpus_share_the_memory_and_reduce_without_nccl(made):
    """Nine tenths of the fullest card's free memory; no memory growth, which TensorFlow refuses."""
    names = [f"GPU:{i}" for i in range(4)]
    strategy.make_strategy(names, THREADS, virtual_gpus=2)
    share = tf.config.LogicalDeviceConfiguration(memory_limit=31_500)
    assert made == [
        ("set_visible_devices", ["gpu 0", "gpu 1"], "GPU"),
        ("set_logical_device_configuration", "gpu 0", [share, share]),
        ("set_logical_device_configuration", "gpu 1", [share, share]),
        (names, "ReductionToOneDevice"),
    ]


def test_gpus_cannot_be_set_up_in_a_started_tensorflow(made, monkeypatch):
    def refuse(*args):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    assert error(strategy.make_strategy, ["GPU:0"], THREADS) == (
        "TensorFlow has started in this process, and its GPUs can no longer be set up. Use a new "
        "process."
    )


def test_virtual_gpus_are_for_one_worker():
    assert error(
        strategy.make_strategy, ["GPU:0", "GPU:1"], THREADS, cluster=PAIR, virtual_gpus=2
    ) == (
        "--virtual_gpus=2 is for one worker: NCCL, which joins the GPUs of several, allows no two "
        "replicas on one. Leave it out, or start one process."
    )


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_what_the_run_says(tf32):
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    strategy.make_strategy(["CPU:0"], THREADS, tf32=not tf32)
    strategy.make_strategy(["CPU:0"], THREADS, tf32=tf32)
    assert enabled() is tf32
    strategy.make_strategy(["CPU:0"], THREADS)
    assert not enabled()  # TensorFlow's own default is on


@pytest.mark.parametrize(
    "call",
    [
        lambda: strategy.make_strategy(["CPU:0"], THREADS),
        lambda: forecast(Config(InputConfig(), ModelConfig(), OptimizerConfig(), RunConfig())),
        lambda: export_run(Path("/nowhere"), Path("/nowhere/export")),
    ],
    ids=["a run on CPUs", "samestep-plan", "samestep-export"],
)
def test_what_runs_on_the_cpu_leaves_the_gpus_alone(monkeypatch, call):
    """TensorFlow would take all of their memory, beside a run that needs it."""
    visible = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *args: visible.append(args))
    with suppress(UserError):  # there are no records and no run
        call()
    assert visible == [([], "GPU")]


def test_device_kind_is_the_products_name(monkeypatch):
    assert strategy.device_kind(["CPU:0", "CPU:1"]) == "CPU"
    gpus(monkeypatch, 1)
    details = {"gpu 0": {"device_name": "NVIDIA H100"}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert strategy.device_kind(["GPU:0"]) == "NVIDIA H100"
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    assert strategy.device_kind(["GPU:0"]) == "GPU"


def test_the_processor_has_a_name(monkeypatch):
    assert strategy.processor()

    def missing(self):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert strategy.processor() == strategy.platform.machine()


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
