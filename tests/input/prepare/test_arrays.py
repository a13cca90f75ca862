"""NumPy and IDX files: every image with its label, and one line for mistakes."""

import gzip

import numpy as np
import pytest

from tests.input.prepare.conftest import refused, values, written


@pytest.mark.parametrize("shape", [(30, 4, 5), (30, 4, 5, 1), (30, 4, 5, 3)])
@pytest.mark.parametrize("encoding", ["keep", "jpeg"])
def test_every_image_of_an_array_is_written_with_its_label(tmp_path, shape, encoding):
    pixels = np.broadcast_to(np.arange(30).reshape(30, *[1] * (len(shape) - 1)), shape)
    names = np.array(["ant", "bee", "cow"])
    path = tmp_path / "a.npz"
    np.savez(path, images=pixels.astype(np.uint8), labels=np.arange(30) % 3, class_names=names)
    manifests = written(path, encoding=encoding)
    assert manifests["train"].classes == tuple(names)
    found = values(manifests["train"]) | values(manifests["validation"])
    assert found == {i: i % 3 for i in range(30)}


IMAGES, LABELS = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, "has no labels, only images"),
        ({"x": IMAGES}, "has no images and no labels, only x"),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, "must be uint8, not float32"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "one integer per image"),
        ({"images": IMAGES, "labels": LABELS / 2}, "one integer per image"),
        ({"images": IMAGES, "labels": LABELS, "class_names": ["a"]}, "there are 1 classes"),
        ({"images": IMAGES, "labels": LABELS, "class_names": ["a", "a"]}, "a duplicate name"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, "1 or 3"),
        ({"images": np.array([None]), "labels": LABELS}, "not a NumPy file of plain arrays"),
    ],
)
def test_a_mistake_in_an_array_file_is_named(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in refused(tmp_path / "a.npz", split="train:1")


def test_a_file_that_is_no_array_file(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    assert "is not a NumPy file" in refused(tmp_path / "a.npz")
    (tmp_path / "a.npz").unlink()
    assert "a.npz cannot be read" in refused(tmp_path / "a.npz")


def test_npy_files_of_images_and_labels(tmp_path):
    pixels = np.broadcast_to(np.arange(30, dtype=np.uint8).reshape(30, 1, 1), (30, 4, 5))
    np.save(tmp_path / "x.npy", pixels)
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    assert "needs --labels=FILE.npy" in refused(tmp_path / "y.npy")
    np.savez(tmp_path / "both.npz", images=pixels, labels=np.arange(30) % 3)
    message = refused(tmp_path / "both.npz", labels=str(tmp_path / "y.npy"))
    assert "--labels is for images in a .npy file" in message
    manifests = written(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"), split="train:1")
    assert values(manifests["train"]) == {i: i % 3 for i in range(30)}


def idx(array: np.ndarray) -> bytes:
    """As yann.lecun.com/exdb/mnist describes it."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """30 images to train and 15 to test; image i is all of value i, and its label i modulo 3."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for split, count in (("train", 30), ("t10k", 15)):
        pixels = np.arange(count, dtype=np.uint8)
        images = np.broadcast_to(pixels.reshape(count, 1, 1), (count, 4, 5))
        path = folder / f"{split}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx(images)))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(pixels % 3))
    return folder


def test_idx_files_as_mnist_has_them(mnist):
    manifests = written(mnist)
    for split, count in (("train", 30), ("test", 15)):
        assert manifests[split].classes == ("0", "1", "2")
        assert values(manifests[split]) == {i: i % 3 for i in range(count)}


def test_idx_files_that_are_incomplete_or_damaged(mnist):
    labels, images = mnist / "train-labels-idx1-ubyte", mnist / "train-images-idx3-ubyte.gz"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1])
    assert f"{labels} is no IDX file of bytes in 1 dimensions, or damaged" in refused(mnist)
    labels.unlink()
    assert "its images or its labels are missing" in refused(mnist)
    labels.write_bytes(whole)
    images.write_bytes(images.read_bytes()[:-20])
    assert f"{images} cannot be read" in refused(mnist)
