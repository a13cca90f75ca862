"""Vision transformers: the published sizes, and the images that they take."""

import numpy as np
import pytest

from models.layers import ClassToken
from tests.conftest import error
from tests.models.conftest import made, pixels, size_of


@pytest.mark.parametrize(
    ("model", "parameters"),
    # The counts of timm's vit_*_patch16_224.
    [("vit_ti16", 5_717_416), ("vit_s16", 22_050_664), ("vit_b16", 86_567_656)],
)
def test_vits_have_the_published_size(model, parameters):
    network = made(model, size=224, num_classes=1000)
    assert size_of(network.trainable_variables) == parameters
    assert network.get_layer("token").output.shape[1] == 197


def test_it_sees_every_patch_and_where_it_is():
    network = made("vit_ti16", size=32)
    image = pixels(1, 32, 32, 3)
    before = network(image).numpy()
    for corner in ((0, 0), (0, 16), (16, 0), (16, 16)):
        changed = image.copy()
        changed[0, corner[0] : corner[0] + 16, corner[1] : corner[1] + 16] ^= 255
        assert np.abs(network(changed).numpy() - before).max() > 1e-4
    swapped = np.concatenate([image[:, 16:], image[:, :16]], axis=1)
    assert np.abs(network(swapped).numpy() - before).max() > 1e-4


def test_the_token_stands_in_front():
    token = ClassToken()
    sequence = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    found = token(sequence).numpy()
    positions = token.positions.numpy()
    np.testing.assert_array_equal(found[:, 1:], sequence + positions[:, 1:])
    np.testing.assert_array_equal(found[:, :1], np.repeat(positions[:, :1], 2, axis=0))


def test_an_image_that_is_no_multiple_of_the_patch_is_refused():
    assert error(made, "vit_ti16", size=40) == (
        "vit_ti16 cuts images into patches of 16x16 pixels, and 40x40 is no multiple. Set "
        "--image_size to one."
    )


def test_stochastic_depth_leaves_out_whole_images():
    network = made("vit_ti16", size=32, stochastic_depth=0.5)
    drop = network.get_layer("block12_1_drop")
    assert drop.rate == 0.5
    assert not any(layer.name == "block1_1_drop" for layer in network.layers)
    found = drop(np.ones((64, 5, 3), np.float32), training=True).numpy()
    each = found.reshape(64, -1)
    assert (each == each[:, :1]).all()
    assert set(np.unique(found)) == {0.0, 2.0}
