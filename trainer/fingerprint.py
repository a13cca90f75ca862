"""The fingerprint of a model's weights: two runs with the same one are the same run."""

import hashlib
from collections.abc import Iterable

import keras
import numpy as np

from trainer import internals


def fingerprint(model: keras.Model) -> str:
    """SHA-256 over every weight and moving statistic: dtype, shape and bytes, in model order.

    States of random generators are not included: they are set again before every use.
    """
    return fingerprint_of(v.numpy() for v in _variables(model))


def of_each(model: keras.Model) -> tuple[tuple[str, str], ...]:
    """The path of each of these variables, and the fingerprint of that one alone."""
    return tuple((v.path, fingerprint_of([v.numpy()])) for v in _variables(model))


def fingerprint_of(values: Iterable[np.ndarray]) -> str:
    """SHA-256 over dtype, shape and bytes of arrays."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(f"{value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [v for v in model.variables if not internals.is_seed(v)]
