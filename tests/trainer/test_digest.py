"""The hash inside the step is a sum of products in NumPy too, and sees every bit."""

import numpy as np
import pytest
import tensorflow as tf

from trainer import digest


def hashed(values) -> int:
    return int(np.sum(digest.products(tf.constant(values)).numpy()))


def test_it_is_a_sum_of_products_with_odd_numbers():
    values = np.random.default_rng(0).integers(-(2**62), 2**62, 1000)
    weights = digest.products(tf.ones(1000, tf.int64)).numpy()
    assert (weights % 2 == 1).all()
    assert len(set(weights.tolist())) == 1000
    spread = values + (values >> 32) * digest._UPPER
    np.testing.assert_array_equal(digest.products(tf.constant(values)), spread * weights)
    longer = digest.products(tf.ones(1010, tf.int64)).numpy()
    np.testing.assert_array_equal(longer[:1000], weights)


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_every_bit_counts_and_so_does_its_place(dtype):
    values = np.arange(1, 9).astype(dtype)
    bits = values.view(np.int64 if dtype == np.int64 else np.int32)
    found = {hashed(values)}
    for place in range(len(values)):
        for bit in range(bits.itemsize * 8):
            mask = np.left_shift(np.ones((), bits.dtype), bit)
            bits[place] ^= mask
            found.add(hashed(values))
            bits[place] ^= mask
    assert len(found) == 1 + 8 * bits.itemsize * 8
    assert hashed(values[::-1].copy()) not in found


def test_equal_numbers_that_are_other_bits_differ():
    assert hashed(np.float32([0.0, 1.0])) != hashed(np.float32([-0.0, 1.0]))


def test_two_numbers_that_lose_the_same_bit_do_not_make_up_for_each_other():
    values = np.full(50, 2**63 - 1)
    found = {hashed(values)}
    for bit in range(64):
        for place in range(1, 50):
            other = values.view(np.uint64).copy()
            other[[0, place]] ^= np.uint64(1) << np.uint64(bit)
            found.add(hashed(other.view(np.int64)))
    assert len(found) == 1 + 64 * 49
