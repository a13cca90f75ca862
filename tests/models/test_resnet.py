"""Residual networks: the published sizes, and blocks that start as the identity."""

import functools

import numpy as np
import pytest

from models.resnet import basic, bottleneck, resnet
from tests.models.conftest import made, pixels, size_of


@functools.cache
def imagenet_network(model):
    return made(model, num_classes=1000)


@pytest.mark.parametrize(
    ("model", "parameters"),
    # The counts of torchvision's tables,
    # of the d variants those of timm's.
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnet18d", 11_708_744),
        ("resnet34d", 21_816_904),
        ("resnet50d", 25_576_264),
        ("resnet101d", 44_568_392),
        ("resnet152d", 60_212_040),
    ],
)
def test_resnets_have_the_published_size(model, parameters):
    network = imagenet_network(model)
    assert size_of(network.trainable_variables) == parameters
    # No bias in front of a BatchNorm: the classifier's is the only one.
    assert [v.path for v in network.variables if v.name == "bias"] == ["logits/bias"]


def test_residual_blocks_start_as_the_identity_or_not():
    def last_gammas(block, last, **settings):
        network = resnet((32, 32, 3), 10, name="tiny", block=block, depths=(1, 1), **settings)
        gammas = [v.numpy() for v in network.variables if v.path.endswith(f"{last}_norm/gamma")]
        assert len(gammas) == 2
        return set(np.concatenate(gammas).tolist())

    assert last_gammas(basic, 2) == last_gammas(bottleneck, 3) == {0.0}
    assert last_gammas(bottleneck, 3, zero_last_gamma=False) == {1.0}


@pytest.mark.parametrize(("block", "channels"), [(basic, 128), (bottleneck, 512)])
@pytest.mark.parametrize(("size", "end"), [(224, 14), (45, 3), (32, 2)])
def test_every_stage_but_the_first_halves_the_image(block, channels, size, end):
    """The stem has a fourth, rounded up, and the second stage an eighth."""
    network = resnet((size, size, 3), 10, name="tiny", block=block, depths=(1, 1))
    assert network.get_layer("stem_pool").output.shape[1] == -(-size // 4)
    assert network.get_layer("stage1_block1_relu").output.shape[1] == -(-size // 4)
    last = network.get_layer("stage2_block1_relu").output
    assert last.shape[1:] == (2 * end, 2 * end, channels)
    assert network(pixels(1, size, size, 3)).shape == (1, 10)


def test_a_tweaked_shortcut_averages_what_a_stride_would_skip():
    network = resnet((64, 64, 3), 10, name="tiny", block=basic, depths=(1, 1), tweaked=True)
    assert network.get_layer("stage2_block1_shortcut_pool").output.shape[1:] == (8, 8, 64)
    assert network.get_layer("stage2_block1_shortcut_conv").strides == (1, 1)
    assert [network.get_layer(f"stem_{n}_conv").strides[0] for n in (1, 2, 3)] == [2, 1, 1]


def test_stochastic_depth_grows_evenly_with_the_depth():
    network = made("resnet18", stochastic_depth=0.7)
    rates = [layer.rate for layer in network.layers if layer.name.endswith("_drop")]
    np.testing.assert_allclose(rates, np.arange(1, 8) / 10)  # the first block has none
