"""Devices and workers -> a tf.distribute strategy."""

import os
import platform
from pathlib import Path

import tensorflow as tf

from input.foundation.text import counted
from trainer import internals
from trainer.errors import ClusterError, TrainerError
from trainer.workers import nvidia
from trainer.workers.discovery import Cluster


def device_names(
    virtual_cpus: int | None = None, gpus: int | None = None, virtual_gpus: int | None = None
) -> list[str]:
    """Names of the devices to train on, one per replica: GPU:0, GPU:1, .. or CPU:0, ...

    gpus: physical ones; virtual_gpus: replicas on each of them. TensorFlow would quietly take the
    CPU for a GPU that does not exist. Raises TrainerError.
    """
    if virtual_cpus is not None:
        return [f"CPU:{i}" for i in range(virtual_cpus)]
    found = len(tf.config.list_physical_devices("GPU"))
    if gpus is not None and gpus > found:
        raise TrainerError(
            f"--gpus={gpus}, but TensorFlow sees {counted(found, 'GPU')} here. Ask for "
            f"{found or 'none'}, or try many-replica training without GPUs: --virtual_cpus=N."
        )
    if virtual_gpus is not None and not found:
        raise TrainerError(
            f"--virtual_gpus={virtual_gpus}, but TensorFlow sees no GPU here. Try many-replica "
            f"training on the CPU: --virtual_cpus={virtual_gpus}."
        )
    used = found if gpus is None else gpus
    return [f"GPU:{i}" for i in range(used * (virtual_gpus or 1))] or ["CPU:0"]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """The CPU's product name, on Linux; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def device_kind(names: list[str]) -> str:
    """What the replicas run on: the CPU, or the GPU's product name."""
    if names[0].startswith("CPU"):
        return "CPU"
    gpu = tf.config.list_physical_devices("GPU")[0]
    return tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")


def make_strategy(
    names: list[str],
    intra_op_threads: int,
    deterministic: bool = False,
    cluster: Cluster | None = None,
    *,
    tf32: bool = False,
    virtual_gpus: int | None = None,
    gpu_memory_growth: bool = True,
) -> tf.distribute.Strategy:
    """One replica on each of the named devices of each worker; waits until all are connected.

    virtual_gpus: how many of the names are on each physical GPU. Must be the first TensorFlow call
    of the process. Raises ClusterError, TrainerError.
    """
    on_cpu = names[0].startswith("CPU")
    if cluster is not None and len(cluster.addresses) == 1:
        cluster = None
    if cluster is not None and virtual_gpus is not None:
        raise TrainerError(
            f"--virtual_gpus={virtual_gpus} is for one worker: NCCL, which joins the GPUs of "
            "several, allows no two replicas on one. Leave it out, or start one process."
        )
    # Grappler rewrites chains of float operations differently in different graphs: with remapping,
    # 530 of 536 arrays of keras.applications.ResNet50 have other bits on 2 replicas than on 1. The
    # other two changed none there and in resnet18, on 1, 2 and 4 replicas, and save no measured
    # time; they stay off, for they are as free to, and turning them on gives other bits.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False, "remapping": False}
    )
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    internals.reduce_single_tensors_whole()
    if on_cpu:
        hide_gpus()
        _configure_cpus(len(names), intra_op_threads)
    else:
        _configure_gpus(len(names), virtual_gpus, gpu_memory_growth)
    if internals.is_deterministic() and not deterministic:
        raise TrainerError(
            "An earlier run of this process has turned op determinism on, which gives other bits, "
            "and it cannot be turned off. Use a new process, or --deterministic."
        )
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if cluster is not None:
        return _across_workers(names, cluster)
    # The default collectives of logical CPUs work for one strategy per process only ("Shape
    # mismatch in the collective instance"), and NCCL, the default of GPUs, for one replica on each.
    one_device = on_cpu or virtual_gpus is not None
    reduction = tf.distribute.ReductionToOneDevice() if one_device else None
    return tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)


def hide_gpus() -> None:
    """Keeps TensorFlow off the GPUs: it would take all their memory for what runs on the CPU."""
    tf.config.set_visible_devices([], "GPU")


def _across_workers(names: list[str], cluster: Cluster) -> tf.distribute.Strategy:
    """The named devices of every worker. Raises ClusterError, TrainerError."""
    internals.use_local_devices(names)
    os.environ["TF_CONFIG"] = cluster.tf_config()
    on_cpu = names[0].startswith("CPU")
    implementations = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementations.RING if on_cpu else implementations.NCCL
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        if not internals.is_port_taken(error):
            raise
        own = cluster.addresses[cluster.index]
        raise ClusterError(
            f"Worker {cluster.index} cannot listen at {own}: another process has the port. Give it "
            "another one, or end that process."
        ) from None
    # TensorFlow assumes that all workers have the same number of devices; else it waits forever.
    internals.put_shared_value(f"devices/{cluster.index}", str(len(names)))
    first = int(internals.shared_value("devices/0"))
    if first != len(names):
        raise TrainerError(
            f"Worker {cluster.index} has {counted(len(names), 'device')} ({', '.join(names)}), "
            f"worker 0 has {first}. Give all the same number: --gpus=N or --virtual_cpus=N."
        )
    return strategy


def _configure_cpus(replicas: int, intra_op_threads: int) -> None:
    try:
        # Another number of threads splits sums in other places: other bits.
        tf.config.threading.set_intra_op_parallelism_threads(intra_op_threads)
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
    except RuntimeError:  # TensorFlow has started: its devices must suffice
        # 0, unless a program has set it: one per core.
        threads = tf.config.threading.get_intra_op_parallelism_threads() or cores()
        found = len(tf.config.list_logical_devices("CPU"))
        if found < replicas or threads != intra_op_threads:
            raise TrainerError(
                f"TensorFlow has started in this process with {found} CPUs of {threads} threads; "
                f"this run needs {replicas} of {intra_op_threads}. Use a new process."
            ) from None


def _configure_gpus(replicas: int, virtual_gpus: int | None, memory_growth: bool) -> None:
    per_gpu = virtual_gpus or 1
    used = tf.config.list_physical_devices("GPU")[: replicas // per_gpu]
    try:
        # TensorFlow would take the memory of the others too.
        tf.config.set_visible_devices(used, "GPU")
        if virtual_gpus is None:
            for gpu in used:
                tf.config.experimental.set_memory_growth(gpu, memory_growth)
            return
        # A logical GPU needs a limit, and TensorFlow refuses memory growth beside one.
        share = tf.config.LogicalDeviceConfiguration(_memory_limit(virtual_gpus))
        for gpu in used:
            tf.config.set_logical_device_configuration(gpu, [share] * virtual_gpus)
    except RuntimeError:
        raise TrainerError(
            "TensorFlow has started in this process, and its GPUs can no longer be set up. Use a "
            "new process."
        ) from None


def _memory_limit(virtual_gpus: int) -> int:
    """MiB for each of so many equal shares of a GPU. Raises TrainerError.

    Of the card with the least free memory. CUDA, cuBLAS and cuDNN need some beside the shares: a
    tenth stays free, which is what TensorFlow leaves of a GPU with 16 GB.
    """
    return min(card.free_mebibytes for card in nvidia.cards()) * 9 // 10 // virtual_gpus
