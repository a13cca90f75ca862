"""The all-reduce of a run's own vector, timed: over all replicas, and between two devices each."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import NamedTuple

import tensorflow as tf

from trainer.errors import TrainerError
from trainer.sums import Layout, accumulator
from trainer.workers.watchdog import bounded

ROUNDS = 3  # timed ones; the first all-reduce of a group of GPUs sets up NCCL
BOUND_SECONDS = 60.0  # setting up NCCL takes seconds
# tf.distribute counts its own groups up from 1; a key stands for the same devices for ever.
FIRST_GROUP_KEY = 2**30


class Link(NamedTuple):
    """The all-reduce between some devices."""

    devices: str
    seconds: float


def time_all(strategy: tf.distribute.Strategy, layout: Layout) -> Link:
    """All replicas, in the way the step does it. Raises TrainerError where the sum is wrong."""
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        vector = accumulator(layout)

    def fill() -> None:
        vector.assign(tf.ones([layout.size], layout.dtype))

    def reduce() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce("SUM", tf.identity(vector.read_value()))

    @tf.function
    def all_reduce() -> list[tf.Tensor]:
        return list(strategy.experimental_local_results(strategy.run(reduce)))

    strategy.run(tf.function(fill))
    return _time(all_reduce, f"{replicas} devices", replicas)


def time_pairs(devices: list[str], layout: Layout, implementation: str = "nccl") -> Iterator[Link]:
    """Two devices of this process at a time. implementation: nccl of GPUs, ring of CPUs.

    Always the same devices in one process. Raises TrainerError where a sum is wrong. Not through a
    strategy: two of them in one process would use the same group keys for different devices.
    """
    vectors = {}
    for device in devices:
        with tf.device(device):
            vectors[device] = tf.ones([layout.size], layout.dtype)

    def reduce(device: str, group_key: int) -> tf.Tensor:
        with tf.device(device):
            return tf.raw_ops.CollectiveReduceV2(
                input=vectors[device],
                group_size=2,
                group_key=group_key,
                instance_key=layout.size,  # TensorFlow keeps the shape of an instance for ever
                ordering_token=[],
                merge_op="Add",
                final_op="Id",
                communication_hint=implementation,
            )

    with ThreadPoolExecutor(2) as threads:  # each waits for the other
        for group_key, pair in enumerate(combinations(devices, 2), FIRST_GROUP_KEY):
            in_pair = partial(reduce, group_key=group_key)
            all_reduce = partial(_in_each, threads, in_pair, pair)
            yield _time(all_reduce, "-".join(pair), addends=2)


def _in_each(
    threads: Executor, reduce: Callable[[str], tf.Tensor], devices: Sequence[str]
) -> list[tf.Tensor]:
    return list(threads.map(reduce, devices))


def summary(everything: Link, pairs: list[Link], size_bytes: int) -> str:
    """205 MB in 3.1 ms (66 GB/s) over 8 devices; slowest pair GPU:2-GPU:5 4.4 ms."""
    text = (
        f"{size_bytes / 1e6:.3g} MB in {1000 * everything.seconds:.1f} ms "
        f"({size_bytes / 1e9 / everything.seconds:.2g} GB/s) over {everything.devices}"
    )
    if pairs:
        slowest = max(pairs, key=lambda link: link.seconds)
        text += f"; slowest pair {slowest.devices} {1000 * slowest.seconds:.1f} ms"
    return text


def _time(all_reduce: Callable[[], list[tf.Tensor]], devices: str, addends: int) -> Link:
    """The median of some rounds; a round ends when the first number of each sum is here.

    Ends the process with exit code STALLED where a round takes longer than BOUND_SECONDS: nothing
    in Python can interrupt a collective that hangs.
    """
    seconds = []
    for _ in range(1 + ROUNDS):
        with bounded(BOUND_SECONDS, f"The all-reduce over {devices} hangs. {nccl_variables()}"):
            start = time.perf_counter()
            sums = all_reduce()
            for vector in sums:
                vector[0].numpy()
            seconds.append(time.perf_counter() - start)
    if not all(bool(tf.reduce_all(vector == addends)) for vector in sums):
        raise TrainerError(
            f"The all-reduce over {devices} gives wrong sums: {addends} ones are not {addends}. "
            "Suspect the devices or what connects them; NCCL_P2P_DISABLE=1 avoids direct access."
        )
    return Link(devices, statistics.median(seconds[1:]))


def nccl_variables() -> str:
    """NCCL's part of the environment, and what to try, in a sentence or two."""
    found = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NCCL_"))
    return (
        f"NCCL's variables: {', '.join(found) or 'none is set'}. NCCL_DEBUG=INFO shows where it "
        "waits, NCCL_P2P_DISABLE=1 avoids direct access between cards."
    )
