"""Weights of keras.applications and of Keras' files: the same logits, under our names."""

import keras
import numpy as np
import pytest

from models import build, published
from models.config import ModelConfig
from tests.conftest import error
from tests.models.conftest import made, pixels

# Keras 3.15 hands its variables to h5py in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZE = 64


def theirs(name="ResNet50", classes=10, size=SIZE):
    """A network of keras.applications, with moving statistics as training leaves them."""
    keras.utils.set_random_seed(4)
    network = getattr(keras.applications, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=classes,
        classifier_activation=None,
    )
    random = np.random.default_rng(4)
    for v in network.variables:
        if v.name in ("bias", "beta", "moving_mean"):
            v.assign(0.1 * random.normal(size=v.shape))
        if v.name in ("gamma", "moving_variance"):
            v.assign(random.uniform(0.5, 1.5, v.shape))
    return network


def give(model, weights):
    paths = [v.path for v in model.variables if v.name != "seed_generator_state"]
    assert set(paths) == set(weights)
    for v in model.variables:
        if v.path in weights:
            v.assign(weights[v.path])


@pytest.mark.parametrize("model", ["resnet50v1", "keras:ResNet50"])
def test_weights_of_keras_resnet_give_its_logits(model):
    """With Keras' own preprocessing in front of theirs, which hands BGR on."""
    network, ours = theirs(), made(model, size=SIZE)
    weights = published.as_ours(model, network)
    if model.startswith("keras:"):
        assert set(weights) == {v.path for v in ours.variables}
    for v in ours.variables:
        if v.path in weights:
            v.assign(weights[v.path])
    if not model.startswith("keras:"):
        give(ours, weights)
    image = pixels(3, SIZE, SIZE, 3)
    ready = keras.applications.resnet.preprocess_input(image.astype(np.float32))
    expected = network(ready, training=False).numpy()
    found = ours(image, training=False).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 1e-2


def test_the_map_is_of_all_three_depths():
    for depth in ("101", "152"):
        network = theirs(f"ResNet{depth}", size=32)
        give(made(f"resnet{depth}v1"), published.as_ours(f"resnet{depth}v1", network))


def test_a_file_of_a_network_with_other_classes_lacks_the_head(tmp_path):
    path = tmp_path / "mobile.weights.h5"
    network = theirs("MobileNetV2", classes=7)
    network.save_weights(path)
    config = ModelConfig("keras:MobileNetV2")
    found = published.of_file(path, config.model, lambda: build.bare(config, (64, 64, 3), 10))
    expected = {v.path: v.numpy() for v in network.variables}
    assert expected.keys() - found.keys() == {"predictions/kernel", "predictions/bias"}
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], name)


def test_a_whole_keras_file_needs_no_network(tmp_path):
    path = tmp_path / "mobile.keras"
    network = theirs("MobileNetV2", classes=7)
    network.save(path)
    found = published.of_file(path, "keras:MobileNetV2", pytest.fail)
    assert {name: value.shape for name, value in found.items()} == {
        v.path: tuple(v.shape) for v in network.variables
    }


def test_our_own_weights_survive_their_file(tmp_path):
    path = tmp_path / "cnn.weights.h5"
    network = made("cnn", size=16)
    network.save_weights(path)
    config = ModelConfig("cnn")
    found = published.of_file(path, "cnn", lambda: build.bare(config, (16, 16, 3), 10))
    for v in network.variables:
        if v.name != "seed_generator_state":
            np.testing.assert_array_equal(found[v.path], v.numpy())


def test_what_is_no_file_of_weights_is_said(tmp_path):
    config = ModelConfig("cnn")

    def said(path, content=None):
        if content is not None:
            path.write_bytes(content)
        return error(published.of_file, path, "cnn", lambda: build.bare(config, (16, 16, 3), 10))

    missing = tmp_path / "none.keras"
    assert said(missing) == f"--init_weights={missing} is no file."
    for name in ("a.keras", "a.weights.h5"):
        words = said(tmp_path / name, b"nothing")
        assert words.startswith(f"--init_weights={tmp_path / name} is no such file of Keras")
        assert "\n" not in words


def test_what_is_not_published_is_said(monkeypatch):
    assert error(published.imagenet, "resnet50") == (
        "--init_weights=imagenet: there are none for --model=resnet50, only for keras:NAME and "
        "resnet50v1, resnet101v1, resnet152v1. Choose one of those, or give a file or a run's "
        "folder."
    )

    def unreachable(weights, classifier_activation):
        raise Exception("URL fetch failure on https://nowhere: None -- unreachable")

    monkeypatch.setattr(keras.applications, "MobileNetV2", unreachable)
    assert error(published.imagenet, "keras:MobileNetV2").startswith(
        "--init_weights=imagenet: the weights of MobileNetV2 cannot be had: URL fetch failure on "
        "https://nowhere: None -- unreachable. On a machine without a network"
    )
