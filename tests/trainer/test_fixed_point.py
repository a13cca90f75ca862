"""The exact sum: right to a rounding, the same in any order, loud at its edge."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import fixed_point
from trainer.fixed_point import GRADIENT_BITS, STATISTIC_BITS

gradients = st.lists(st.floats(-100, 100, width=32, allow_subnormal=False), min_size=2, max_size=16)


def exact_sum(numbers, bits=GRADIENT_BITS) -> np.float32:
    encoded = fixed_point.encode(tf.constant(numbers, tf.float32), 2.0**bits)
    return fixed_point.decode(tf.reduce_sum(encoded), bits).numpy()


@settings(max_examples=200, deadline=None)
@given(gradients, st.randoms())
def test_order_does_not_matter(numbers, random):
    shuffled = list(numbers)
    random.shuffle(shuffled)
    assert exact_sum(numbers) == exact_sum(shuffled)


def test_float_sums_depend_on_their_order():
    """What the exact sum is for."""
    numbers = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    orders = {tuple(np.float32(sum(row, np.float32(0))) for row in (r, r[::-1])) for r in numbers}
    assert any(forward != backward for forward, backward in orders)
    assert all(exact_sum(row) == exact_sum(row[::-1]) for row in numbers)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(2**-27, 100, width=32), min_size=1, max_size=16))
def test_sums_of_representable_numbers_are_rounded_once(numbers):
    """From 2**-27 = 7.5e-9 up a float32 has no bit below 2**-50: the int64 sum is exact."""
    reference = np.float32(np.sum(np.array(numbers, np.float64)))  # exact below 2**53 ulps
    assert exact_sum(numbers) == reference


@pytest.mark.parametrize("magnitude", [1e-8, 1e-6, 1e-3, 1.0, 1e3])
def test_error_against_float64_is_at_most_one_rounding(magnitude):
    random = np.random.default_rng(1)
    numbers = (random.uniform(1, 2, (4, 10_000)) * magnitude).astype(np.float32)
    encoded = fixed_point.encode(tf.constant(numbers), 2.0**GRADIENT_BITS)
    ours = fixed_point.decode(tf.reduce_sum(encoded, axis=0), GRADIENT_BITS).numpy()
    reference = numbers.astype(np.float64).sum(axis=0)
    error = np.abs(ours - reference)
    assert (error <= 0.5 * np.spacing(reference.astype(np.float32))).all()


def test_same_bits_as_the_float64_formula():
    random = np.random.default_rng(2)
    numbers = (random.normal(size=20_000) * 10.0 ** random.uniform(-18, 2, 20_000)).astype("f4")
    formula = np.rint(numbers.astype(np.float64) * 2.0**GRADIENT_BITS).astype(np.int64)
    encoded = fixed_point.encode(tf.constant(numbers), 2.0**GRADIENT_BITS)
    np.testing.assert_array_equal(encoded, formula)


@pytest.mark.parametrize("bits", [GRADIENT_BITS, STATISTIC_BITS])
@pytest.mark.parametrize("addends", [2, 4, 64])
@pytest.mark.parametrize("sign", [1, -1])
def test_overflow_is_detected_at_its_edge(bits, addends, sign):
    edge = np.float32(fixed_point.limit(bits, addends))
    below = np.nextafter(edge, np.float32(0))

    def found(number):
        return fixed_point.check(tf.constant([0.0, sign * number]), bits, addends)

    assert found(below) == (True, True)
    # The worst sum that is let through still fits: it comes back right.
    assert exact_sum([sign * below] * addends, bits) == sign * below * addends
    assert found(edge) == (True, False)
    assert exact_sum([edge] * addends, bits) != edge * addends  # what the check is there for


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_never_fit(wrong):
    numbers = np.zeros(1000, np.float32)
    for place in (0, 1, 500, 998, 999):
        numbers[:] = 1.0
        numbers[place] = wrong
        for tensor in (tf.constant(numbers), tf.constant(numbers[:, None])):
            assert fixed_point.check(tensor, GRADIENT_BITS, 4) == (False, False)
    assert fixed_point.check(tf.constant(1.0), GRADIENT_BITS, 4) == (True, True)


def test_a_number_that_the_factor_would_make_infinite_is_finite_and_too_large():
    """2**50 times 2**78 is no float32."""
    found = fixed_point.check(tf.constant([2.0**78]), GRADIENT_BITS, addends=1)
    assert found == (True, False)
