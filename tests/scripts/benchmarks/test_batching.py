"""Wherever the batch is cut, the same is computed: only then are the rates comparable."""

import keras
import numpy as np
import pytest

from input.config import InputConfig
from scripts.benchmarks import batching
from scripts.benchmarks.config import BenchmarkConfig
from scripts.benchmarks.step import Setup, cpus, tiny
from tests.conftest import THREADS


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """TensorFlow has started with them."""
    monkeypatch.setattr("trainer.workers.strategy.cores", lambda: THREADS)


def seeded() -> keras.Model:
    keras.utils.set_random_seed(0)
    return tiny()


def steps(way: str, replicas: int) -> list[np.ndarray]:
    """The trainable weights after three steps."""
    inputs = InputConfig(global_batch_size=64, micro_batch_size=16, image_size=8, augment="none")
    setup = Setup(cpus(replicas), inputs)
    model = batching.Summing(setup, seeded)
    getattr(batching.Case(setup), way)(model)(3)
    return [weight.numpy() for weight in model.model.trainable_variables]


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("way", ["in_the_loop", "in_the_step", "of_arrays"])
def test_every_way_trains_the_same_weights(way, replicas):
    expected = steps("in_the_pipeline", 1)
    for own, weights in zip(steps(way, replicas), expected, strict=True):
        np.testing.assert_allclose(own, weights, rtol=0, atol=1e-5)


def test_three_steps_change_the_weights():
    model = batching.Summing(Setup(cpus(1), InputConfig(global_batch_size=64)), seeded)
    initial = [weight.numpy() for weight in model.model.trainable_variables]
    changes = [abs(a - b).max() for a, b in zip(initial, steps("in_the_pipeline", 1), strict=True)]
    assert min(changes) > 1e-3


def test_every_way_is_measured_against_the_pipeline(monkeypatch):
    monkeypatch.setattr(batching, "IN_STOCK", 1)
    models = [batching.MODELS[0]._replace(replicas=replicas, steps=1) for replicas in (1, 2)]
    monkeypatch.setattr(batching, "MODELS", models)
    rows = batching.where_the_batch_is_cut(BenchmarkConfig(rounds=1))
    others = ["slices in the loop", "reshape in the step", "arrays in the loop", "samestep"]
    assert [row.second for row in rows] == 2 * others
    assert {row.first for row in rows} == {"pipeline"}
    assert all(row.first_rate > 0 and row.second_rate > 0 for row in rows)
