"""What Keras does not promise and the models rely on. Written for Keras 3.15, TensorFlow 2.21."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.framework import ops

_COUNTERS = "object_name_uids"  # layer class -> how many have been named


@contextmanager
def fresh_names() -> Iterator[None]:
    """Names layers as in a new process: conv2d, conv2d_1, ..; puts the counters back at the end.

    Not keras.utils.clear_session(): inside strategy.scope() it throws away the default graph and
    the strategy with it, so that variables are no longer mirrored. Raises RuntimeError where Keras
    no longer keeps its counters there.
    """
    counters = global_state.get_global_attribute(_COUNTERS)
    _reset(None)
    keras.layers.Identity()
    if not global_state.get_global_attribute(_COUNTERS):
        raise RuntimeError(
            f"Keras {keras.__version__} does not count names in global_state.{_COUNTERS}, as 3.15 "
            "does: variable paths would depend on what was built before. Install keras>=3.15,<3.16."
        )
    _reset(None)
    try:
        yield
    finally:
        _reset(counters)


def _reset(counters: object) -> None:
    global_state.set_global_attribute(_COUNTERS, counters)


class Session(NamedTuple):
    """What keras.utils.clear_session() throws away; see session()."""

    state: object
    settings: object
    graph: object


def session() -> Session:
    """Keras' state (names, seed, dtype policy) and TensorFlow's default graph as they are now.

    clear_session() of Keras 3.15 puts new objects in the place of all three. With the graph goes
    the stack of entered strategies: variables are no longer mirrored, and leaving the strategy's
    scope raises IndexError.
    """
    graph = tf.compat.v1.get_default_graph()
    return Session(global_state.GLOBAL_STATE_TRACKER, global_state.GLOBAL_SETTINGS_TRACKER, graph)


def put_back(before: Session) -> bool:
    """Undoes clear_session(); whether there was one."""
    if global_state.GLOBAL_STATE_TRACKER is before.state:
        return False
    global_state.GLOBAL_STATE_TRACKER = before.state
    global_state.GLOBAL_SETTINGS_TRACKER = before.settings
    ops._default_graph_stack._global_default_graph = before.graph
    return True


def reason(error: Exception) -> str:
    """Why Keras refused to build a layer, in one line; of another error, what it says.

    3.15 prints its reason in bold, between two lines about its own call; of any other text, all.
    """
    bold = re.search(r"\x1b\[1m(.*)\x1b\[0m", str(error), re.DOTALL)
    return " ".join((bold[1] if bold else str(error)).split()).rstrip(".")


@contextmanager
def recorded_all_reduces() -> Iterator[list[str]]:
    """Gives the name scopes in which the body calls ReplicaContext.all_reduce.

    With one replica, or on CPUs, an all-reduce leaves no operation of its own in the graph.
    """
    context, scopes = tf.distribute.ReplicaContext, list[str]()
    original = context.all_reduce

    def all_reduce(self: Any, reduce_op: Any, value: Any, options: Any = None) -> Any:
        scopes.append(tf.compat.v1.get_default_graph().get_name_scope())
        return original(self, reduce_op, value, options)

    context.all_reduce = all_reduce
    try:
        yield scopes
    finally:
        context.all_reduce = original


def operations(graph: Any) -> Iterator[tf.Operation]:
    """The operations of a function's graph, and of the functions that it calls.

    TensorFlow 2.21 keeps those in graph._functions; its public graph_def has no operations.
    """
    yield from graph.get_operations()
    for function in graph._functions.values():
        yield from operations(function.graph)


def body(operation: tf.Operation) -> Any:
    """The graph of the function that an operation calls; None for an operation that calls none.

    TensorFlow 2.21: in graph._functions, by the name in the attribute f.
    """
    if operation.type not in ("PartitionedCall", "StatefulPartitionedCall"):
        return None
    return operation.graph._functions[operation.get_attr("f").name].graph


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and its layers at every depth; Model.layers has those of the first only."""
    return list(model._flatten_layers())
