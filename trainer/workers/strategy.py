"""Devices and workers -> a tf.distribute strategy."""

import os

import tensorflow as tf

from trainer import internals
from trainer.errors import ClusterError, TrainerError
from trainer.workers.discovery import Cluster


def device_names(virtual_cpus: int | None = None, gpus: int | None = None) -> list[str]:
    """Names of the devices to train on, one per replica: GPU:0, GPU:1, .. or CPU:0, ...

    TensorFlow would quietly take the CPU for a GPU that does not exist. Raises TrainerError.
    """
    if virtual_cpus is not None:
        return [f"CPU:{i}" for i in range(virtual_cpus)]
    found = len(tf.config.list_physical_devices("GPU"))
    if gpus is not None and gpus > found:
        raise TrainerError(
            f"--gpus={gpus}, but TensorFlow sees {found} GPUs here. Ask for {found or 'none'}, or "
            "try many-replica training without GPUs: --virtual_cpus=N."
        )
    return [f"GPU:{i}" for i in range(found if gpus is None else gpus)] or ["CPU:0"]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


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
) -> tf.distribute.Strategy:
    """One replica on each of the named devices of each worker; waits until all are connected.

    Must be the first TensorFlow call of the process.
    """
    on_cpu = names[0].startswith("CPU")
    # Grappler rewrites chains of float operations differently in different graphs: on 2 replicas
    # 751 of 753 arrays of keras.applications.ResNet50 had other bits than on 1 after four steps.
    # Without these rewrites they are equal, and a step of cnn takes the same time.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False, "remapping": False}
    )
    internals.reduce_single_tensors_whole()
    if on_cpu:
        _configure_cpus(len(names), intra_op_threads)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if cluster is not None and len(cluster.addresses) > 1:
        return _across_workers(names, cluster)
    # The default collectives of logical CPUs work for one strategy per process only ("Shape
    # mismatch in the collective instance"); GPUs keep the default, NCCL.
    reduction = tf.distribute.ReductionToOneDevice() if on_cpu else None
    return tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)


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
            f"Worker {cluster.index} has {len(names)} devices ({', '.join(names)}), worker 0 has "
            f"{first}. Give all the same number: --gpus=N or --virtual_cpus=N."
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
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        found = len(tf.config.list_logical_devices("CPU"))
        if found < replicas or threads != intra_op_threads:
            raise TrainerError(
                f"TensorFlow has started in this process with {found} CPUs of {threads} threads; "
                f"this run needs {replicas} of {intra_op_threads}. Use a new process."
            ) from None
