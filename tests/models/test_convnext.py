"""ConvNeXt: the published sizes, and what its blocks do to an image's extent."""

import numpy as np
import pytest

from models.convnext import CONVNEXTS, convnext
from tests.models.conftest import made, pixels, size_of


@pytest.mark.parametrize(
    ("model", "parameters"),
    # The counts of torchvision's tables.
    [
        ("convnext_tiny", 28_589_128),
        ("convnext_small", 50_223_688),
        ("convnext_base", 88_591_464),
    ],
)
def test_convnexts_have_the_published_size(model, parameters):
    assert size_of(made(model, num_classes=1000).trainable_variables) == parameters


def test_the_table_names_its_networks():
    assert [made(name).name for name in list(CONVNEXTS)[:1]] == ["convnext_tiny"]


def tiny(**settings):
    return convnext(
        (64, 64, 3), 10, name="tiny", depths=(1, 1, 2, 1), widths=(8, 16, 16, 32), **settings
    )


def test_every_stage_halves_what_the_stem_has_quartered():
    network = tiny()
    sides = [network.get_layer(f"stage{n}_block1_add").output.shape[1] for n in (1, 2, 3, 4)]
    assert sides == [16, 8, 4, 2]
    assert network(pixels(2, 64, 64, 3)).shape == (2, 10)


def test_a_block_starts_as_nearly_the_identity():
    factors = [v.numpy() for v in tiny().variables if v.name == "factor"]
    assert len(factors) == 5
    assert set(np.concatenate(factors).tolist()) == {np.float32(1e-6)}


def test_stochastic_depth_grows_evenly_with_the_depth():
    layers = tiny(stochastic_depth=0.4).layers
    rates = [layer.rate for layer in layers if layer.name.endswith("_drop")]
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4])  # the first block has none
