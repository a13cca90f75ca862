"""Jitter, erasing, mixup and CutMix: NumPy's and Pillow's figures, and the same on any hardware."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from input import order, pipeline
from input.arrays import ArrayReader
from input.config import InputConfig
from input.errors import InputError
from input.manifest import Manifest
from input.reader import RecordReader
from input.views import color as augment
from input.views import mix

S, N = 24, 40
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (N, S, S, 3), np.uint8)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["brightness", "contrast", "saturation"])
def test_each_part_of_the_jitter_is_pillows(which):
    """One factor at a time; within 1 level, for Pillow rounds on its way."""
    draws = np.full((N, augment.JITTER_DRAWS), 0.5, np.float32)  # a factor of 1
    draws[:, which] = RANDOM.random(N)
    found = augment.color_jitter(tf.constant(IMAGES), tf.constant(draws), 0.8).numpy().astype(int)
    enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[which]
    for image, result, draw in zip(IMAGES, found, draws[:, which], strict=True):
        factor = 0.2 + 1.6 * float(draw)
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor)).astype(int)
        assert np.abs(result - expected).max() <= (2 if which else 1)
    assert np.abs(found - IMAGES).max() > 50


def test_all_parts_together_are_numpys():
    draws = RANDOM.random((N, augment.JITTER_DRAWS)).astype(np.float32)
    found = augment.color_jitter(tf.constant(IMAGES), tf.constant(draws), 0.4).numpy()
    brightness, contrast, saturation = (0.6 + 0.8 * draws.astype(float)).T[:, :, None, None, None]
    weights = np.array([0.299, 0.587, 0.114])
    pixels = np.clip(IMAGES * brightness, 0, 255)
    mean = (pixels @ weights).mean(axis=(1, 2))[:, None, None, None]
    pixels = np.clip(mean + contrast * (pixels - mean), 0, 255)
    grey = (pixels @ weights)[..., None]
    pixels = np.clip(grey + saturation * (pixels - grey), 0, 255)
    difference = np.abs(found - np.floor(pixels + 0.5))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001, "only where float32 rounds otherwise"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_erasing_is_numpys(dtype):
    images = IMAGES.astype(dtype)
    draws = RANDOM.random((N, augment.ERASE_DRAWS)).astype(np.float32)
    found = augment.erase(tf.constant(images), tf.constant(draws), 0.5).numpy()
    assert found.dtype == dtype
    for image, result, (happens, area, ratio, top, left) in zip(images, found, draws, strict=True):
        expected = image.copy()
        if happens < 0.5:
            side = S * np.sqrt(0.02 + 0.31 * area)
            stretch = 3.3 ** (ratio - 0.5)
            h, w = (int(np.clip(np.round(x), 1, S)) for x in (side * stretch, side / stretch))
            y, x = int(top * (S - h + 1)), int(left * (S - w + 1))
            expected[y : y + h, x : x + w] = 128 if dtype == np.uint8 else 0
        np.testing.assert_array_equal(result, expected)
    erased = (found != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(erased, draws[:, 0] < 0.5)


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


CONFIG = InputConfig(global_batch_size=32, micro_batch_size=8, image_size=16)
KINDS = {
    "jitter": {"color_jitter": 0.4},
    "erasing": {"erasing": 0.5, "augment": "none"},
    "mixup": {"mixup": 0.2},
    "rand": {"augment": "rand-m9-n2"},
    "trivial": {"augment": "trivial"},
    "all": {"color_jitter": 0.4, "erasing": 0.3, "mixup": 0.2, "cutmix": 1.0},
}


@pytest.fixture(scope="module")
def reader(data_dir):
    return RecordReader(Manifest.load(data_dir / "train"))


def micro_batches(reader, config, replicas, first_step=0, steps=2) -> dict:
    """(step, micro-batch) -> its arrays."""
    plan = order.plan(config, reader.records, replicas)
    dataset = pipeline.train(config, reader, plan, seed=3, first_step=first_step)
    first = first_step * plan.micro_batches
    elements = dataset.take(steps * plan.micro_batches).as_numpy_iterator()
    return {order.micro_batch(first + i, plan): each for i, each in enumerate(elements)}


@pytest.mark.parametrize("kind", KINDS)
def test_hardware_threads_and_resuming_change_nothing(reader, kind, monkeypatch):
    config = replace(CONFIG, **KINDS[kind])
    expected = micro_batches(reader, config, replicas=1)
    others = [micro_batches(reader, config, replicas) for replicas in (2, 4)]
    others.append(micro_batches(reader, config, 1, first_step=1, steps=1))
    monkeypatch.setattr(pipeline, "PARALLEL", 1)
    others.append(micro_batches(reader, config, replicas=2))
    for other in others:
        for place, columns in other.items():
            for found, column in zip(columns, expected[place], strict=True):
                np.testing.assert_array_equal(found, column)
    same = config.augment if config.augment == "none" else "standard"
    plain = micro_batches(reader, replace(CONFIG, augment=same), replicas=1)
    # A share of 1, or nearly, is a likely draw of mixup's: that leaves some as they were.
    assert any((expected[place][0] != plain[place][0]).any() for place in plain)
    label = expected[0, 0][1]
    assert (label.shape, label.dtype) == (
        ((8, 3), np.float32) if config.mixes else ((8,), np.int32)
    )


def test_floating_pixels_take_all_but_jitter():
    pixels = RANDOM.random((40, 16, 16, 3)).astype(np.float32)
    reader = ArrayReader(pixels, np.arange(40) % 3)
    config = replace(CONFIG, erasing=0.5, mixup=0.2, cutmix=1.0)
    image, label, _ = next(iter(micro_batches(reader, config, 1).values()))
    assert (image.dtype, label.dtype) == (np.float32, np.float32)
    for settings in ({"color_jitter": 0.1}, {"augment": "trivial"}, {"augment": "rand-m9-n2"}):
        with pytest.raises(InputError, match="need pixels of 8 bits; these are float32"):
            micro_batches(reader, replace(config, **settings), 1)


def test_evaluation_is_not_augmented(reader):
    plan = order.EvaluationPlan(8, 1, reader.records)
    found = [
        next(iter(pipeline.evaluate(config, reader, plan)))
        for config in (CONFIG, replace(CONFIG, **KINDS["all"]))
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"color_jitter": -0.1}, "--color_jitter must be at least 0"),
        ({"erasing": 1.5}, "--erasing must be 0 to 1"),
        ({"mixup": float("nan")}, "--mixup must be 0 to 1"),
        ({"cutmix": 2.0}, "--cutmix must be 0 to 1"),
        ({"cutmix": 1.0, "micro_batch_size": 1}, "micro-batches of 2 or more"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(InputError, match=words):
        replace(CONFIG, **settings)
