"""Paired measurements: variants of the same work in turn, their medians and ratios."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from scripts.benchmarks.config import BenchmarkConfig

# Rows of tables: dataclasses with `columns` and `cells()`, such as a Comparison.
Benchmark: TypeAlias = Callable[[BenchmarkConfig], list[Any]]


@dataclass(frozen=True)
class Comparison:
    """Two variants of the same work, measured in turn."""

    columns: ClassVar = (
        *("work", "this", "per second", "against", "per second"),
        *("times as fast", "lowest", "highest"),
    )

    what: str
    first: str
    second: str
    first_rate: float  # images/s or what else is counted, median of the rounds
    second_rate: float
    ratio: float  # first / second, median of the rounds
    ratios: tuple[float, ...]  # of each round

    def cells(self) -> tuple[str, ...]:
        rates = [
            f"{rate:,.{0 if rate > 99 else 1}f}" for rate in (self.first_rate, self.second_rate)
        ]
        ratios = [f"{ratio:.2f}" for ratio in (self.ratio, min(self.ratios), max(self.ratios))]
        return self.what, self.first, rates[0], self.second, rates[1], *ratios


def measure_in_turn(
    images: int, rounds: int, variants: dict[str, Callable[[], float]]
) -> dict[str, list[float]]:
    """Runs all variants in turn, round after round -> images/s of each round, by variant.

    A variant works on `images` images and returns its seconds. A first round warms up and does
    not count. Every other round runs backwards, so that drift of the machine hits all alike.
    """
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name in list(variants) if turn % 2 else list(variants)[::-1]:
            seconds = variants[name]()
            if turn:
                rates[name].append(images / seconds)
    return rates


def compare(what: str, rates: dict[str, list[float]], first: str, second: str) -> Comparison:
    """Two variants that were measured in turn."""
    ours, theirs = rates[first], rates[second]
    ratios = tuple(a / b for a, b in zip(ours, theirs, strict=True))
    return Comparison(
        what,
        first,
        second,
        first_rate=statistics.median(ours),
        second_rate=statistics.median(theirs),
        ratio=statistics.median(ratios),
        ratios=ratios,
    )
