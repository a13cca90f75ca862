"""Random numbers are fixed for ever, uniform, and functions of (seed, epoch, index) alone."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from input import randomness
from input.randomness import permute, shuffle, uniform

slow = settings(deadline=None)  # the cores may be shared
SEEDS = st.integers(-(2**63), 2**64)
EPOCHS = st.integers(0, 2**40)


# The permutation, once more: one number at a time, in Python's integers.


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def mix_all(*numbers):
    key = 0
    for number in numbers:
        key = mix((key + number) % 2**64)
    return key


def permute_one(position, n, seed, epoch):
    width = math.ceil(math.sqrt(n))  # exact for the small n here
    height = math.ceil(n / width)
    keys = [mix_all(seed, 0, epoch, i) for i in range(6)]
    while True:
        row, column = divmod(position, width)
        for even, odd in zip(keys[::2], keys[1::2], strict=True):
            column = (column + (mix(row ^ even) >> 32) * width // 2**32) % width
            row = (row + (mix(column ^ odd) >> 32) * height // 2**32) % height
        position = row * width + column
        if position < n:
            return position


def uniform_one(seed, epoch, index, i):
    return (mix(mix_all(seed, 1, epoch, index) + i) >> 40) / 2**24


def test_mix_is_splitmix64():
    # Its published first outputs from state 1234567 (Vigna's splitmix64.c, Rosetta Code).
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(3)]
    assert randomness._mix(np.array(states, np.uint64)).tolist() == expected
    assert [mix(state) for state in states] == expected


@slow
@given(n=st.integers(1, 10**6), seed=SEEDS, epoch=EPOCHS, data=st.data())
@example(n=1, seed=0, epoch=0, data=None)
def test_permute_is_the_definition(n, seed, epoch, data):
    positions = data.draw(st.lists(st.integers(0, n - 1), max_size=8)) if data else [0]
    expected = [permute_one(position, n, seed, epoch) for position in positions]
    assert permute(np.array(positions, np.int64), n, seed, epoch).tolist() == expected


@slow
@given(n=st.integers(1, 3000), seed=SEEDS, epoch=EPOCHS)
@example(n=2**16, seed=0, epoch=0)
@example(n=2**16 + 1, seed=0, epoch=0)
@example(n=313 * 314, seed=0, epoch=0)
def test_permute_is_a_bijection(n, seed, epoch):
    numbers = permute(np.arange(n), n, seed, epoch)
    assert numbers.dtype == np.int64
    assert np.array_equal(np.sort(numbers), np.arange(n))


GOLDEN = {
    (10, 0, 0): [3, 4, 2, 7, 9, 1, 5, 8],
    (1797, 0, 0): [992, 660, 1213, 172, 63, 368, 1735, 1240],
    (1797, 0, 1): [1768, 589, 173, 42, 1495, 153, 462, 1711],
    (1797, 1, 0): [1636, 1107, 61, 194, 958, 970, 579, 181],
    (1281167, 42, 89): [257743, 1267233, 1145111, 14097, 896985, 991619, 316984, 527700],
    (10**10, 2**63, 10**6): [2649747866, 2318321532, 2002573976, 5362250783],
}


@pytest.mark.parametrize(("n", "seed", "epoch"), GOLDEN)
def test_the_order_never_changes(n, seed, epoch):
    expected = GOLDEN[n, seed, epoch]
    assert permute(np.arange(len(expected)), n, seed, epoch).tolist() == expected


def test_a_whole_epoch_never_changes():
    numbers = permute(np.arange(60_000), 60_000, 7, 3)
    assert hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest() == (
        "b9666c3cf57e41896f105c936eaa1a8211072094a30e0dcc570f4c3522db8d1a"
    )


def test_the_randomness_of_views_never_changes():
    drawn = uniform(7, 3, np.array([0, 1, 10**10]), 2)
    assert (drawn * 2**24).tolist() == [
        [3649518, 12228727],
        [1465305, 9716516],
        [10894381, 16360014],
    ]


@slow
@given(seed=SEEDS, epoch=EPOCHS, index=st.integers(0, 2**62), i=st.integers(0, 30))
def test_uniform_is_the_definition(seed, epoch, index, i):
    drawn = uniform(seed, epoch, np.array([index]), i + 1)
    assert drawn[0, i] == uniform_one(seed, epoch, index, i)


@pytest.mark.parametrize("n", [20, 1797])
def test_every_record_is_as_likely_in_every_place(n):
    epochs = 2000
    places = [0, 1, n // 2, n - 1]
    drawn = np.stack([permute(np.array(places), n, 0, epoch) for epoch in range(epochs)])
    bins = 10
    # Pairs of records in each pair of bins; no record is in two places.
    records = np.bincount(np.arange(n) * bins // n)
    pairs = np.outer(records, records) - np.diag(records)
    expected = pairs / pairs.sum() * epochs
    for first, second in ((0, 1), (0, 2), (0, 3), (2, 3)):
        cells = drawn[:, first] * bins // n * bins + drawn[:, second] * bins // n
        counts = np.bincount(cells, minlength=bins**2).reshape(bins, bins)
        # chi square: mean `freedom`, standard deviation sqrt(2 * freedom)
        freedom = bins**2 - 1
        excess = ((counts - expected) ** 2 / expected).sum() - freedom
        assert excess < 5 * math.sqrt(2 * freedom)


def test_epochs_and_seeds_have_their_own_order():
    n = 1000
    orders = [permute(np.arange(n), n, s, e) for s in (0, 1, -1) for e in range(4)]
    for i, one in enumerate(orders):
        assert 0 <= (one == np.arange(n)).sum() < 12  # 1 is expected
        for other in orders[:i]:
            assert (one == other).sum() < 12


@pytest.mark.parametrize(("n", "block"), [(1, 3), (12, 4), (1000, 7), (1000, 1000), (5, 6)])
def test_runs_of_neighbours_stay_together(n, block):
    """A bijection whose runs are neighbours on the ring of records, another one every epoch."""
    for epoch in range(3):
        found = shuffle(np.arange(n), n, 3, epoch, block)
        assert sorted(found) == list(range(n))
        runs = found[: n // block * block].reshape(-1, block)
        assert (np.diff(runs, axis=1) % n == 1 % n).all()
    if n == 1000 and block == 7:
        assert (found != shuffle(np.arange(n), n, 3, 0, block)).any()
        firsts = found[: n // block * block : block]
        assert (np.diff(firsts) % n != block).mean() > 0.9, "the runs are not shuffled"


def test_a_block_of_one_is_the_perfect_shuffle():
    one = shuffle(np.arange(100), 100, 3, 5)
    assert np.array_equal(one, permute(np.arange(100), 100, 3, 5))


def test_uniform_belongs_to_the_record_whatever_else_is_drawn():
    indices = np.arange(1000)
    drawn = uniform(3, 2, indices, 5)
    assert drawn.dtype == np.float32
    assert drawn.shape == (1000, 5)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.array_equal(uniform(3, 2, indices[::-7], 5), drawn[::-7])
    assert np.array_equal(uniform(3, 2, indices, 2), drawn[:, :2])


def test_uniform_is_uniform_and_independent():
    drawn = uniform(0, 0, np.arange(20_000), 4).astype(np.float64)
    others = [uniform(s, e, np.arange(20_000), 4) for s, e in ((1, 0), (0, 1), (-1, 0))]
    columns = np.concatenate([drawn, *others], axis=1)
    assert np.abs(columns.mean(axis=0) - 1 / 2).max() < 5 / math.sqrt(12 * 20_000)
    assert np.abs(columns.var(axis=0) - 1 / 12).max() < 0.003
    correlation = np.corrcoef(columns.T) - np.eye(16)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 5 / math.sqrt(20_000)
