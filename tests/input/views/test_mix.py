"""Mixup and CutMix: the figures of NumPy, shares of the Beta distribution, no leaks."""

import numpy as np
import pytest
import tensorflow as tf

from input.views import mix

S, N = 24, 40
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (N, S, S, 3), np.uint8)


def mixed(weights, drawn, dtype=np.uint8):
    labels = np.eye(5, dtype=np.float32)[np.arange(N) % 5]
    weights = np.asarray(weights, np.float32)
    drawn = mix.Mix(*(tf.constant(x, tf.float32) for x in drawn))
    images, found = mix.mix(
        tf.constant(IMAGES.astype(dtype)), tf.constant(labels), tf.constant(weights), drawn
    )
    counting = np.flatnonzero(weights)
    partner = np.arange(N)
    partner[counting] = np.roll(counting, -1)
    return images.numpy(), found.numpy(), partner, labels


WEIGHTS = {
    "all": np.ones(N),
    "some": np.arange(N) % 3 > 0,
    "one": np.arange(N) == 7,
    "none": np.zeros(N),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mixup_is_numpys_and_nothing_without_weight_leaks(weights, dtype):
    images, labels, partner, before = mixed(weights, (0.0, 0.7, 0.0, 0.0), dtype)
    own = np.float32(0.7)
    expected = own * IMAGES + (1 - own) * IMAGES[partner].astype(np.float32)
    np.testing.assert_allclose(images, expected, atol=0.51 if dtype == np.uint8 else 1e-4)
    np.testing.assert_allclose(labels, own * before + (1 - own) * before[partner], rtol=1e-6)
    assert set(partner[np.asarray(weights) > 0]) <= set(np.flatnonzero(weights))


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("row", [0.0, 0.4, 1.0])
def test_cutmix_is_numpys(weights, row):
    images, labels, partner, before = mixed(weights, (1.0, 0.75, row, 0.3))
    half, at = 0.5 * S * 0.5, np.arange(S) + 0.5
    box = np.outer(np.abs(at - row * S) < half, np.abs(at - 0.3 * S) < half)
    expected = np.where(box[None, :, :, None], IMAGES[partner], IMAGES)
    np.testing.assert_array_equal(images, expected)
    share = 1 - box.mean()
    np.testing.assert_allclose(labels, share * before + (1 - share) * before[partner], rtol=1e-5)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0])
def test_shares_are_from_the_beta_distribution(alpha):
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)), and no NaN where powers vanish."""
    own = np.array([mix.draw(1, e, np.array([e]), alpha, 0.0)[1] for e in range(4_000)])
    assert ((own >= 0) & (own <= 1)).all()
    assert own.mean() == pytest.approx(0.5, abs=0.03)
    assert own.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.06)


def test_both_on_is_each_half_the_time():
    cuts = [mix.draw(1, e, np.array([0]), 0.2, 1.0)[0] for e in range(1_000)]
    assert 0.45 < np.mean(cuts) < 0.55
    assert {mix.draw(1, e, np.array([0]), 0.0, 1.0)[0] for e in range(20)} == {1.0}
    assert {mix.draw(1, e, np.array([0]), 0.2, 0.0)[0] for e in range(20)} == {0.0}


def test_a_mix_follows_from_the_first_record_and_the_epoch():
    one = mix.draw(1, 2, np.array([7, 8, 9]), 0.2, 1.0)
    assert one.shape == (mix.COLUMNS,)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(mix.draw(1, 2, np.array([7, 3]), 0.2, 1.0), one)
    for seed, epoch, first in ((0, 2, 7), (1, 3, 7), (1, 2, 8)):
        assert (mix.draw(seed, epoch, np.array([first]), 0.2, 1.0) != one).any()
