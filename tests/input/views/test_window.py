"""NumPy finds the parts that the graph finds."""

import numpy as np
import pytest
import tensorflow as tf

from input.randomness import uniform
from input.views import window
from input.views.crop import eval_view, random_crop, train_view
from input.views.window import UNIFORMS

EXTENTS = [(1, 1), (1, 50), (50, 1), (8, 8), (40, 30), (33, 91)]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("extent", EXTENTS)
def test_training_windows(extent, flip):
    draws = uniform(0, 0, np.arange(200), UNIFORMS)
    extents = np.tile(np.array(extent, np.int32), (200, 1))
    found = window.training(draws, extents, 0.08, flip)
    crops = random_crop(tf.constant(draws), 0.08, flip)
    assert found[:, 4].tolist() == crops.mirrored.numpy().astype(int).tolist()
    assert (0 < found[:, 4].sum() < 200) == flip
    side = np.sqrt(np.float32(extent[0]) * np.float32(extent[1]))
    sizes = np.rint(crops.sizes.numpy() * side).astype(int)
    for own, size, corner in zip(found, sizes, crops.corner.numpy(), strict=True):
        fits = [each for each in size if (each >= 1).all() and (each <= extent).all()]
        expected = fits[0] if fits else np.array([min(extent)] * 2)
        assert own[2:4].tolist() == expected.tolist()
        room = (np.array(extent) - expected + 1).astype(np.float32)
        assert own[:2].tolist() == (corner * room).astype(int).tolist()
        assert (own[:2] >= 0).all() and (own[:2] + own[2:4] <= extent).all()


@pytest.mark.parametrize("crop", [0.1, 0.875, 1.0])
@pytest.mark.parametrize("extent", EXTENTS)
def test_evaluation_windows_are_those_of_the_graph(extent, crop):
    (found,) = window.evaluation(np.array([extent], np.int32), crop)
    places = np.zeros((*extent, 3), np.float32)
    places[..., :2] = np.indices(extent).transpose(1, 2, 0)
    seen = eval_view(tf.constant(places), int(found[2]), crop).numpy()
    assert seen[0, 0, :2].tolist() == found[:2].tolist()
    assert seen[-1, -1, :2].tolist() == (found[:2] + found[2:4] - 1).tolist()


def test_one_training_view_of_the_graph_shows_the_same_part():
    draws = uniform(5, 0, np.arange(20), UNIFORMS)
    extent = (40, 30)
    places = np.zeros((*extent, 3), np.float32)
    places[..., :2] = np.indices(extent).transpose(1, 2, 0)
    found = window.training(draws, np.tile(np.array(extent, np.int32), (20, 1)), 0.3, True)
    crops = random_crop(tf.constant(draws), 0.3, True)
    for number, own in enumerate(found):
        seen = train_view(tf.constant(places), 64, type(crops)(*(each[number] for each in crops)))
        low, high = seen.numpy().min(axis=(0, 1))[:2], seen.numpy().max(axis=(0, 1))[:2]
        np.testing.assert_allclose(low, own[:2], atol=0.5)
        np.testing.assert_allclose(high, own[:2] + own[2:4] - 1, atol=0.5)
