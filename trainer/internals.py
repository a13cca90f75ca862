"""What TensorFlow and Keras do not promise and training relies on.

Written for TensorFlow 2.21 and Keras 3.15. Each entry says what it uses and why, and fails with the
version's number when that is gone; tests/trainer/test_internals.py fails when its meaning changes.
"""

import re
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.eager import context

from input import internals as input_internals

error_reason = input_internals.reason


def is_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a keras.random.SeedGenerator, as Dropout has one.

    Keras gives it this name and no public mark. The step sets it before every use, so it is neither
    a moving statistic nor a part of a run's fingerprint.
    """
    return variable.name == "seed_generator_state"


def use_reduced_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Switches off the optimizer's own all-reduce.

    Its gradients are reduced already, and it would sum the same numbers R times. Keras has no
    setting for that.
    """
    _require(optimizer, "_all_reduce_sum_gradients", f"Keras {keras.__version__}", "3.15")
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs


def called_graphs(operation: tf.Operation, attribute: str) -> list[Any]:
    """The graphs of the functions that an attribute of an operation names: f, body, branches.

    Their tensors have static shapes, which a GraphDef of the caller has not. TensorFlow keeps them
    in graph._functions.
    """
    _require(operation.graph, "_functions", f"TensorFlow {tf.__version__}", "2.21")
    named = operation.get_attr(attribute)
    functions = named if isinstance(named, list) else [named]
    return [operation.graph._functions[function.name].graph for function in functions]


def layer_names(model: keras.Model) -> set[str]:
    """The names of the model's layers at every depth; Model.layers has those of the first only."""
    _require(model, "_flatten_layers", f"Keras {keras.__version__}", "3.15")
    return {layer.name for layer in model._flatten_layers()}


def use_local_devices(names: list[str]) -> None:
    """Makes MultiWorkerMirroredStrategy take these devices of each worker: CPU:0, CPU:1, ..

    By itself it takes one CPU or all GPUs, whatever logical devices there are.
    """

    def local_devices(
        extended: object, resolver: object, worker_device: str
    ) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker_device}/device:{name}" for name in names), names[0].split(":")[0]

    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    _require(extended, "_initialize_local_devices", f"TensorFlow {tf.__version__}", "2.21")
    extended._initialize_local_devices = local_devices


def put_shared_value(key: str, value: str) -> None:
    """Stores a text where all workers can read it: in the coordination service, once per key.

    Collectives cannot say this, for they need equal numbers of devices.
    """
    context.context().set_config_key_value(f"samestep/{key}", value)


def shared_value(key: str) -> str:
    """Reads a text that a worker stores; waits until it is there."""
    return context.context().get_config_key_value(f"samestep/{key}")


def is_port_taken(error: tf.errors.OpError) -> bool:
    """Whether a strategy could not be made because its gRPC server cannot listen."""
    return isinstance(error, tf.errors.UnknownError) and "gRPC server" in error.message


def lost_workers(error: tf.errors.OpError) -> list[int] | None:
    """The workers that an error says are gone; empty where it names none; None for other errors.

    The types alone do not tell: others of them name /job:localhost, or no device at all.
    """
    if not isinstance(error, _OF_LOST_WORKERS):
        return None
    tasks = set(re.findall(r"/job:worker(?:/replica:0)?/task:(\d+)", error.message))
    if not tasks and "Collective ops" not in error.message:
        return None
    return sorted(map(int, tasks))


_OF_LOST_WORKERS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,  # "Collective ops is aborted by: ..", seen while variables are made
)


def _require(owner: object, name: str, found: str, wanted: str) -> None:
    if not hasattr(owner, name):
        raise RuntimeError(
            f"{found} has no {owner}.{name}, which samestep was written for in {wanted}. Install "
            f"that version; constraints.txt lists all."
        )
