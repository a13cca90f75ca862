"""A sweep's picture: accuracy and speed over what was varied. No TensorFlow."""

import io
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Point(NamedTuple):
    """One run."""

    x: str  # the value of what was varied, as it was typed
    accuracy: float  # of validation, after the last epoch
    images_per_second: float


class Series(NamedTuple):
    """Runs that differ in what the picture's axis shows, and in their seeds."""

    label: str
    points: Sequence[Point]


def draw(axis: str, series: Sequence[Series]) -> bytes:
    """PNG: a dot for each run, a line through the means of those with the same x.

    axis: what x is, a setting's name. Numbers are drawn on a logarithmic scale, words side by side.
    """
    from matplotlib.figure import Figure  # 1 s, and only where something is drawn

    values = list(dict.fromkeys(point.x for each in series for point in each.points))
    places = _places(values)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for each in series:
        _plot(left, places, each, [point.accuracy for point in each.points])
        _plot(right, places, each, [point.images_per_second for point in each.points])
    for axes, title in ((left, "validation accuracy"), (right, "images per second")):
        if _logarithmic(values):
            axes.set_xscale("log", base=2)
        axes.set_xticks([places[value] for value in values], values)
        axes.minorticks_off()
        axes.set(xlabel=axis.replace("_", " "), title=title)
        axes.grid(alpha=0.3)
    fastest = max(point.images_per_second for each in series for point in each.points)
    right.set_ylim(0, 1.1 * fastest)
    if len(series) > 1:
        left.legend(fontsize="small")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()


def _plot(axes: Any, places: dict[str, float], series: Series, heights: Sequence[float]) -> None:
    points = [(places[point.x], y) for point, y in zip(series.points, heights, strict=True)]
    line = axes.plot(*zip(*_means(points), strict=True), label=series.label)[0]
    axes.plot(*zip(*points, strict=True), "o", color=line.get_color(), markersize=5)


def _means(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    for x in sorted({x for x, _ in points}):
        yield x, statistics.fmean(y for other, y in points if other == x)


def _places(values: Sequence[str]) -> dict[str, float]:
    """Where each value is on the axis: at its number, or words one after the other."""
    if _logarithmic(values):
        return {value: float(value) for value in values}
    return {value: float(place) for place, value in enumerate(values)}


def _logarithmic(values: Sequence[str]) -> bool:
    """Whether all are numbers above 0."""
    try:
        return all(float(value) > 0 for value in values)
    except ValueError:
        return False
