"""Jitter and erasing: the figures of NumPy and Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from input.views import color

S, N = 24, 40
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (N, S, S, 3), np.uint8)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["brightness", "contrast", "saturation"])
def test_each_part_of_the_jitter_is_pillows(which):
    """One factor at a time; within 1 level, for Pillow rounds on its way."""
    uniforms = np.full((N, color.JITTER_UNIFORMS), 0.5, np.float32)  # a factor of 1
    uniforms[:, which] = RANDOM.random(N)
    found = color.color_jitter(tf.constant(IMAGES), tf.constant(uniforms), 0.8).numpy().astype(int)
    enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[which]
    for image, result, uniform in zip(IMAGES, found, uniforms[:, which], strict=True):
        factor = 0.2 + 1.6 * float(uniform)
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor)).astype(int)
        assert np.abs(result - expected).max() <= (2 if which else 1)
    assert np.abs(found - IMAGES).max() > 50


def test_all_parts_together_are_numpys():
    uniforms = RANDOM.random((N, color.JITTER_UNIFORMS)).astype(np.float32)
    found = color.color_jitter(tf.constant(IMAGES), tf.constant(uniforms), 0.4).numpy()
    brightness, contrast, saturation = (0.6 + 0.8 * uniforms.astype(float)).T[
        :, :, None, None, None
    ]
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
    uniforms = RANDOM.random((N, color.ERASE_UNIFORMS)).astype(np.float32)
    found = color.erase(tf.constant(images), tf.constant(uniforms), 0.5).numpy()
    assert found.dtype == dtype
    for image, result, (happens, area, ratio, top, left) in zip(
        images, found, uniforms, strict=True
    ):
        expected = image.copy()
        if happens < 0.5:
            side = S * np.sqrt(0.02 + 0.31 * area)
            stretch = 3.3 ** (ratio - 0.5)
            h, w = (int(np.clip(np.round(x), 1, S)) for x in (side * stretch, side / stretch))
            y, x = int(top * (S - h + 1)), int(left * (S - w + 1))
            expected[y : y + h, x : x + w] = 128 if dtype == np.uint8 else 0
        np.testing.assert_array_equal(result, expected)
    erased = (found != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(erased, uniforms[:, 0] < 0.5)


def test_grey_is_pillows():
    found = color.grey(tf.constant(IMAGES, tf.float32)).numpy()[..., 0]
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in IMAGES])
    assert np.abs(found - expected).max() < 0.5 + 1e-3
