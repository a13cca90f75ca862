"""The small network: any size from 8 pixels, as large as its docstring says."""

import pytest

from models.cnn import cnn
from tests.models.conftest import made, pixels, size_of


@pytest.mark.parametrize("size", [8, 28, 45])
def test_cnn_takes_any_size_from_8(size):
    assert cnn((size, size, 3), 10)(pixels(2, size, size, 3)).shape == (2, 10)


@pytest.mark.parametrize(("size", "places"), [(8, 1), (28, 9), (45, 25)])
def test_the_classifier_weighs_every_place(size, places):
    network = made("cnn", size=size)
    classifier = network.get_layer("classifier").trainable_variables
    assert size_of(classifier) == places * 128 * 10 + 10
    assert size_of(network.trainable_variables) - size_of(classifier) == 93_472
    # No bias in front of a BatchNorm: the classifier's is the only one.
    assert [v.path for v in network.variables if v.name == "bias"] == ["classifier/bias"]
