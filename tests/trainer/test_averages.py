"""Averages of weights: their formula, and the model that has them for a while."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.steps import INPUT, Training, build, plain
from trainer.fingerprint import fingerprint

INPUTS = replace(INPUT, image_size=8)


@pytest.fixture(scope="module")
def training(strategies, reader):
    settings = plain(ema_decay=0.4)
    return Training(strategies[2], reader, build("cnn", size=8), settings, INPUTS)


def weights(training):
    changing = [*training.micro_batch.variables, *training.micro_batch.statistics]
    return [v.numpy() for v in changing]


def test_an_average_follows_its_formula(training):
    expected = [np.float64(value) for value in weights(training)]
    for step in range(6):
        assert training.run(step, 1).applied.all()
        decay = min(0.4, (1 + step) / (10 + step))
        own = weights(training)
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, own, strict=True)]
    found = [v.numpy() for v in training.averages.layer.variables]
    for average, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(average, wanted, rtol=1e-5, atol=1e-6)
    assert any(np.abs(a - w).max() > 1e-4 for a, w in zip(found, own, strict=True))


def test_the_model_has_them_and_gets_its_own_back(training):
    before, averages = fingerprint(training.model), training.averages
    held = [v.numpy() for v in averages.layer.variables]
    with averages.in_place():
        for average, weight in zip(held, weights(training), strict=True):
            np.testing.assert_array_equal(average, weight)
        in_place = fingerprint(training.model)
    assert fingerprint(training.model) == before != in_place
    with pytest.raises(KeyError), averages.in_place():
        raise KeyError
    assert fingerprint(training.model) == before
    training.state()  # every replica has the same
    for average, v in zip(held, averages.layer.variables, strict=True):
        np.testing.assert_array_equal(average, v.numpy())


def test_a_skipped_step_leaves_them(strategies, reader):
    """A rate so large that the second step has no finite loss."""
    settings = plain(ema_decay=0.4, learning_rate=1e30, momentum=0.0)
    training = Training(strategies[1], reader, build("cnn", size=8), settings, INPUTS)
    assert training.run(0, 1).applied.tolist() == [1]
    held = [v.numpy() for v in training.averages.layer.variables]
    assert training.run(1, 2).applied.tolist() == [0, 0]
    for average, v in zip(held, training.averages.layer.variables, strict=True):
        np.testing.assert_array_equal(average, v.numpy())


def test_a_model_that_keeps_them_has_them(strategies, reader):
    settings = plain(ema_decay=0.4)
    training = Training(strategies[1], reader, build("cnn", size=8), settings, INPUTS)
    training.run(0, 2)
    held = [v.numpy() for v in training.averages.layer.variables]
    training.averages.replace_weights()
    for average, weight in zip(held, weights(training), strict=True):
        np.testing.assert_array_equal(average, weight)
