"""The largest micro-batch that fits: which sizes are tried, and what is said."""

import pytest

from tests.conftest import error
from trainer import probe


@pytest.mark.parametrize(
    ("images", "replicas", "most", "tried", "found"),
    [
        (256, 1, 1000, [256], 256),
        (256, 1, 100, [256, 128, 64], 64),
        (256, 4, 40, [64, 32], 32),
        (96, 2, 20, [48, 24, 12], 12),
        (90, 1, 20, [90, 45, 18], 18),
        (7, 1, 3, [7, 1], 1),
    ],
)
def test_sizes_are_halved_until_one_fits(images, replicas, most, tried, found):
    sizes, said = [], []

    def why_not(size):
        sizes.append(size)
        return "" if size <= most else "out of memory"

    assert probe.largest(images, replicas, why_not, said.append) == found
    assert sizes == tried
    assert len(said) == len(tried)
    assert all(line.endswith("do not fit: out of memory") for line in said[:-1])
    assert f"--micro_batch_size={found} is the same run anywhere" in said[-1]
    assert ("a BatchNorm over fewer than 16 images is noisy" in said[-1]) is (found < 16)


def test_what_cannot_be_is_said():
    assert error(probe.largest, 4, 1, lambda size: "no", lambda line: None) == (
        "--micro_batch_size=auto: not even one image fits. Choose a smaller --model or "
        "--image_size."
    )
    assert error(probe.largest, 10, 4, lambda size: "", lambda line: None) == (
        "10 images a step do not split evenly over 4 replicas. Set --global_batch_size to a "
        "multiple of 4."
    )
