"""What is packed is unpacked; sums of vectors are vectors of sums, in any order."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.sums import Layout, Sums

GRADIENTS = [(3, 3, 3, 8), (8,), (), (0,), (8, 5)]
STATISTICS = [(8,), (2, 2)]


def some(seed: int, scale: float = 1.0) -> Sums:
    random = np.random.default_rng(seed)

    def tensors(shapes):
        return [tf.constant(random.normal(size=shape) * scale, tf.float32) for shape in shapes]

    (loss, weight) = tensors([(), ()])
    correct = tf.constant(random.integers(0, 9), tf.int64)
    return Sums(
        tensors(GRADIENTS), tensors(STATISTICS), loss, weight, correct, tf.constant(0, tf.int64)
    )


def layout(exact: bool, micro_batches: int = 4) -> Layout:
    return Layout(GRADIENTS, STATISTICS, micro_batches=micro_batches, exact=exact)


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_packed_is_unpacked(exact):
    packed = layout(exact).pack(some(0))
    assert (packed.shape, packed.dtype) == ([layout(exact).size], layout(exact).dtype)
    assert layout(exact).bytes == packed.shape[0] * packed.dtype.size
    for name, ours, given in zip(Sums._fields, layout(exact).unpack(packed), some(0), strict=True):
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(given), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            # Below 2**-27 fixed point drops bits: at most half a unit, of 2**-50 or of 2**-34.
            bits = 50 if name == "gradients" else 34
            np.testing.assert_allclose(a, b, rtol=0, atol=2.0**-bits if exact else 0)


def test_the_exact_sum_of_vectors_is_the_vector_of_exact_sums():
    """Against integers in NumPy, whatever the order."""
    parts = [some(seed) for seed in range(4)]
    packed = [layout(True).pack(part) for part in parts]
    forward, backward = tf.add_n(packed), tf.add_n(packed[::-1])
    np.testing.assert_array_equal(forward, backward)
    for place, shape in enumerate(GRADIENTS):
        integers = sum(
            np.rint(part.gradients[place].numpy().astype(np.float64) * 2.0**50).astype(np.int64)
            for part in parts
        )
        expected = np.reshape(integers, shape).astype(np.float32) * np.float32(2.0**-50)
        np.testing.assert_array_equal(layout(True).unpack(forward).gradients[place], expected)
    assert layout(True).unpack(forward).correct == sum(int(part.correct) for part in parts)


@pytest.mark.parametrize(
    ("field", "edge"),
    [("gradients", 2.0**11), ("statistics", 2.0**27), ("loss", 2.0**27), ("weight", 2.0**27)],
)
def test_what_fixed_point_cannot_hold_is_counted(field, edge):
    """With 4 micro-batches each gradient must stay below 2**11, all others below 2**27."""

    def overflows(number) -> int:
        part = some(1)
        old = getattr(part, field)
        if isinstance(old, list):
            new = [tf.fill(old[0].shape, np.float32(number)), *old[1:]]
        else:
            new = tf.constant(number, tf.float32)
        packed = layout(True).pack(part._replace(**{field: new}))
        return int(layout(True).unpack(packed).overflows)

    assert overflows(np.nextafter(np.float32(edge), np.float32(0))) == 0
    assert [overflows(number) for number in (edge, -edge, np.nan, np.inf, -np.inf)] == [1] * 5


def test_gradients_of_16_bits_are_summed_as_float32():
    """2**50 times a gradient is no float16."""
    part = some(2)
    halves = [tf.cast(g, tf.float16) for g in part.gradients]
    unpacked = layout(True).unpack(layout(True).pack(part._replace(gradients=halves)))
    assert unpacked.overflows == 0
    for ours, half in zip(unpacked.gradients, halves, strict=True):
        np.testing.assert_array_equal(ours, tf.cast(half, tf.float32))
