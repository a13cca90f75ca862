"""What is packed is unpacked; sums of vectors are vectors of sums, in any order."""

import numpy as np
import pytest
import tensorflow as tf

from trainer import sums
from trainer.sums import Layout, Sums

GRADIENTS = [(3, 3, 3, 8), (8,), (), (0,), (8, 5)]
STATISTICS = [(8,), (2, 2)]


def some(seed: int, scale: float = 1.0) -> Sums:
    random = np.random.default_rng(seed)

    def tensors(shapes):
        return [tf.constant(random.normal(size=shape) * scale, tf.float32) for shape in shapes]

    (loss, weight) = tensors([(), ()])
    correct = tf.constant(random.integers(0, 9), tf.int64)
    return Sums(tensors(GRADIENTS), tensors(STATISTICS), loss, weight, correct)


def layout(exact: bool, micro_batches: int = 4) -> Layout:
    return Layout(GRADIENTS, STATISTICS, micro_batches=micro_batches, exact=exact)


@pytest.mark.parametrize("exact", [True, False])
def test_what_is_packed_is_unpacked(exact):
    once = layout(exact, micro_batches=1)
    packed, given = once.pack(some(0)), some(0)
    assert (packed.shape, packed.dtype) == ([once.size], once.dtype)
    assert once.bytes == packed.shape[0] * packed.dtype.size
    total = once.unpack(packed)
    assert (total.finite, total.fits) == (True, True)
    unpacked = Sums(once.gradients(total.gradients), *total[1:5])
    for name, ours, theirs in zip(Sums._fields, unpacked, given, strict=True):
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
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

    def integers(field, place, bits):
        columns = (getattr(part, field)[place].numpy().astype(np.float64) for part in parts)
        total = sum(np.rint(column * 2.0**bits).astype(np.int64) for column in columns)
        return np.asarray(total).astype(np.float32) * np.float32(2.0**-bits)

    total = layout(True).unpack(forward)
    for place, gradient in enumerate(layout(True).gradients(total.gradients)):
        np.testing.assert_array_equal(gradient, integers("gradients", place, 50))
    for place, statistic in enumerate(total.statistics):
        np.testing.assert_array_equal(statistic, integers("statistics", place, 34))
    assert total.correct == sum(int(part.correct) for part in parts)
    assert (total.finite, total.fits) == (True, True)


def changed(field: str, number: float) -> Sums:
    """Sums with this number somewhere in a field."""
    part = some(1)
    old = getattr(part, field)
    if isinstance(old, list):
        return part._replace(**{field: [tf.fill(old[0].shape, np.float32(number)), *old[1:]]})
    return part._replace(**{field: tf.constant(number, tf.float32)})


def verdict(exact: bool, *parts: Sums) -> tuple[bool, bool]:
    """Whether a step of these micro-batches is finite, and fits."""
    layout_of_all = layout(exact, len(parts))
    total = layout_of_all.unpack(tf.add_n([layout_of_all.pack(part) for part in parts]))
    return bool(total.finite), bool(total.fits)


@pytest.mark.parametrize(
    ("field", "edge"),
    [("gradients", 2.0**11), ("statistics", 2.0**27), ("loss", 2.0**27), ("weight", 2.0**27)],
)
def test_what_fixed_point_cannot_hold_is_told_from_what_is_not_finite(field, edge):
    """With 4 micro-batches each gradient must stay below 2**11, all others below 2**27."""
    good = [some(2), some(3), some(4)]
    below = np.nextafter(np.float32(edge), np.float32(0))
    assert verdict(True, changed(field, below), *good) == (True, True)
    for number in (edge, -edge, 1e38):
        assert verdict(True, changed(field, number), *good) == (True, False)
    for number in (np.nan, np.inf, -np.inf):
        assert verdict(True, *good, changed(field, number)) == (False, False)
    assert verdict(True, *good, changed(field, edge), changed(field, np.nan)) == (False, False)


@pytest.mark.parametrize("field", ["statistics", "loss", "weight"])
def test_float32_sums_have_no_bound(field):
    """Gradients that are not finite are seen in their norm."""
    assert verdict(False, changed(field, 1e30), some(2)) == (True, True)
    assert verdict(False, changed(field, np.nan), some(2)) == (False, False)


def test_gradients_of_16_bits_are_summed_as_float32():
    """2**50 times a gradient is no float16."""
    part, once = some(2), layout(True, micro_batches=1)
    halves = [tf.cast(g, tf.float16) for g in part.gradients]
    total = once.unpack(once.pack(part._replace(gradients=halves)))
    assert total.fits
    for ours, half in zip(once.gradients(total.gradients), halves, strict=True):
        np.testing.assert_array_equal(ours, tf.cast(half, tf.float32))


@pytest.mark.parametrize("exact", [True, False])
def test_the_hashes_of_all_parts_add_up_to_the_hash_of_the_sum(exact):
    """And another number in one part changes the hash of that part alone."""
    ours = layout(exact)
    vector = tf.add_n([ours.pack(some(seed)) for seed in range(4)])
    whole, parts = ours.hashes(vector, False).numpy(), ours.hashes(vector, True).numpy()
    assert (whole.shape, parts.shape) == ((1,), (ours.parts,))
    assert parts.sum() == whole[0]
    sizes = [int(np.prod(shape)) for shape in [*GRADIENTS, *STATISTICS, *[()] * 4]]
    ends = np.cumsum(sizes)
    assert ends[-1] == ours.size
    for part, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        if size:
            other = vector.numpy()
            other[end - 1] += 1
            found = ours.hashes(tf.constant(other), True).numpy()
            assert np.flatnonzero(found != parts).tolist() == [part]


def test_a_step_of_one_micro_batch_has_the_vector_that_it_would_add():
    given = some(0)
    ours = layout(exact=False, micro_batches=1)
    np.testing.assert_array_equal(ours.vector(sums.alone(given)), ours.pack(given))
