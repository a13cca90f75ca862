"""RandAugment's and TrivialAugment's operations against Pillow's."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from input.views import policy

S = 32
RANDOM = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(S) * 5, np.arange(S) * 3)[..., None] + np.array([0, 20, 10])
IMAGES = [
    RANDOM.integers(0, 256, (S, S, 3), np.uint8),
    np.minimum(SMOOTH, 255).astype(np.uint8),
    RANDOM.integers(90, 130, (S, S, 3), np.uint8),
    np.full((S, S, 3), 77, np.uint8),
]


def affine(image, *coefficients):
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, fillcolor=(128, 128, 128)
    )


def rotated(image, degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    h = S / 2
    return affine(
        image, cosine, sine, h - cosine * h - sine * h, -sine, cosine, h + sine * h - cosine * h
    )


# Operation -> what Pillow does at a level, levels, largest difference, share of other pixels.
PILLOW = {
    "identity": (lambda i, v: i, [0], 0, 0),
    "shear_x": (lambda i, v: affine(i, 1, v, 0, 0, 1, 0), [-0.3, 0.3, 0.99], 255, 0.02),
    "shear_y": (lambda i, v: affine(i, 1, 0, 0, v, 1, 0), [-0.3, 0.3, 0.99], 255, 0.02),
    "translate_x": (lambda i, v: affine(i, 1, 0, int(v), 0, 1, 0), [-9.7, 3.2, 31], 0, 0),
    "translate_y": (lambda i, v: affine(i, 1, 0, 0, 0, 1, int(v)), [-9.7, 3.2, 31], 0, 0),
    "rotate": (rotated, [-30, 11, 134], 255, 0.02),
    "brightness": (lambda i, v: ImageEnhance.Brightness(i).enhance(1 + v), [-0.9, 0.5, 0.99], 1, 1),
    "color": (lambda i, v: ImageEnhance.Color(i).enhance(1 + v), [-0.9, 0.5, 0.99], 2, 1),
    "contrast": (lambda i, v: ImageEnhance.Contrast(i).enhance(1 + v), [-0.9, 0.5, 0.99], 2, 1),
    "sharpness": (lambda i, v: ImageEnhance.Sharpness(i).enhance(1 + v), [-0.9, 0.5, 0.99], 2, 1),
    "posterize": (lambda i, v: ImageOps.posterize(i, int(v)), [2, 4, 7, 8], 0, 0),
    "solarize": (lambda i, v: ImageOps.solarize(i, v), [0, 100, 178.5, 255], 0, 0),
    "autocontrast": (lambda i, v: ImageOps.autocontrast(i), [0], 1, 1),
    "equalize": (lambda i, v: ImageOps.equalize(i), [0], 0, 0),
}


def test_every_operation_has_its_reference():
    assert [row[0].__name__ for row in policy.TABLE] == list(PILLOW)


@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_pillows(name):
    reference, levels, tolerance, share = PILLOW[name]
    operation = getattr(policy, name)
    for level in levels:
        for pixels in IMAGES:
            found = operation(tf.constant(pixels), tf.constant(level, tf.float32)).numpy()
            assert found.dtype == np.uint8
            expected = np.asarray(reference(Image.fromarray(pixels), level)).astype(int)
            difference = np.abs(found - expected)
            assert difference.max() <= tolerance, level
            assert (difference > 0).any(axis=-1).mean() <= share, level


def uniforms(number: int, strength: float = 0.0, sign: float = 0.9) -> list[float]:
    return [(number + 0.5) / len(policy.TABLE), strength, sign]


@pytest.mark.parametrize("name", PILLOW)
def test_uniforms_choose_operation_strength_and_sign(name):
    number = list(PILLOW).index(name)
    operation, rand, trivial, signed = policy.TABLE[number]
    image = tf.constant(IMAGES[0])
    for magnitude, strengths in ((9, rand), (None, trivial)):
        place = 9 if magnitude else 20
        scale = S if magnitude and name.startswith("translate") else 1
        for sign in (0.2, 0.9):
            row = tf.constant([uniforms(number, (place + 0.5) / policy.BINS, sign)], tf.float32)
            level = strengths[place] * scale * (-1 if signed and sign < 0.5 else 1)
            np.testing.assert_array_equal(
                policy.apply(image, row, magnitude),
                operation(image, tf.constant(level, tf.float32)),
            )


def test_layers_are_applied_one_after_the_other():
    image = tf.constant(IMAGES[0])
    rows = tf.constant([uniforms(11), uniforms(13)], tf.float32)
    inverted = policy.solarize(image, tf.constant(policy.TABLE[11][1][9], tf.float32))
    found = policy.apply(image, rows, 9)
    np.testing.assert_array_equal(found, policy.equalize(inverted, None))


def test_strengths_are_torchvisions():
    """Its _augmentation_space at 31 bins: weakest and strongest."""
    for number, rand, trivial in (
        (1, (0, 0.3), (0, 0.99)),
        (3, (0, 150 / 331), (0, 32)),
        (5, (0, 30), (0, 135)),
        (6, (0, 0.9), (0, 0.99)),
        (10, (8, 4), (8, 2)),
        (11, (255, 0), (255, 0)),
    ):
        for strengths, (first, last) in zip(
            policy.TABLE[number][1:3], (rand, trivial), strict=True
        ):
            assert len(strengths) == 31
            assert (strengths[0], strengths[-1]) == pytest.approx((first, last))
