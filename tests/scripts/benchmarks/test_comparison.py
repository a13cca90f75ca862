"""Variants take turns, and their figures are medians of the rounds."""

import pytest

from scripts.benchmarks.comparison import Comparison, compare, measure_in_turn


def test_variants_take_turns_and_the_first_round_does_not_count():
    turns = []

    def variant(name, *seconds):
        left = iter(seconds)
        return lambda: turns.append(name) or next(left)

    variants = {"a": variant("a", 99.0, 1.0, 2.0), "b": variant("b", 99.0, 4.0, 4.0)}
    rates = measure_in_turn(8, 2, variants)
    assert rates == {"a": [8.0, 4.0], "b": [2.0, 2.0]}
    assert turns == ["b", "a", "a", "b", "b", "a"]
    found = compare("x", rates, "a", "b")
    assert (found.first_rate, found.second_rate, found.ratio) == (6.0, 2.0, 3.0)
    assert found.cells() == ("x", "a", "6.0", "b", "2.0", "3.00", "2.00", "4.00")


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    """Not the ratio of the medians: a slow round of the machine slows both."""
    found = compare("x", {"a": [2.0, 20.0, 6.0], "b": [1.0, 10.0, 6.0]}, "a", "b")
    assert (found.first_rate, found.second_rate, found.ratio) == (6.0, 6.0, 2.0)
    assert found.ratios == (2.0, 2.0, 1.0)


@pytest.mark.parametrize(("rate", "shown"), [(3.14, "3.1"), (99.04, "99"), (12_345.6, "12,346")])
def test_small_rates_have_a_decimal(rate, shown):
    row = Comparison("x", "a", "b", rate, rate, ratio=1.0, ratios=(1.0,))
    assert row.cells()[2] == row.cells()[4] == shown
    assert len(row.cells()) == len(row.columns)
