"""A confusion matrix as a picture, of any number of classes from 2 on.

Rows are true classes and add up to 100 %; columns are what they were taken for. Above NAMED classes
the whole matrix has no names: a second one shows the classes that are confused most.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from input.foundation.text import one_line
from trainer.findings import Findings

NUMBERED = 25  # classes up to which a cell fits its percentage
NAMED = 100  # classes up to which a row fits its name
CELLS = 250  # of a side of the whole matrix: smaller ones would not be seen
LONGEST = 24  # characters of a name


def draw(findings: Findings, title: str) -> bytes:
    """The matrix as a PNG."""
    # Here: matplotlib takes 0.5 s to load, and most commands draw nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    classes, title = len(findings.classes), f"{title}: percent of each true class"
    layout = ConstrainedLayoutEngine()
    # Not pyplot, which holds every figure for the life of the process.
    if classes <= NAMED:
        side = max(4.5, 0.4 * min(classes, NUMBERED), 0.16 * classes)
        figure = Figure(figsize=(side + 2.4, side + 1.6), layout=layout)
        named = figure.subplots()
        cells = _show(figure, named, findings, range(classes), title)
    else:
        figure = Figure(figsize=(23, 12), layout=layout)
        whole, named = figure.subplots(1, 2)
        _show(figure, whole, findings, [], title)
        chosen = most_confused(findings, NUMBERED)
        title = f"the {len(chosen)} classes that are confused most"
        cells = _show(figure, named, findings, chosen, title)
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    with warnings.catch_warnings():  # of glyphs that the font lacks: they are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Before the numbers, which take no room of their own: with them it takes 0.2 s more.
        layout.execute(figure)
        figure.set_layout_engine("none")
        if len(cells) <= NUMBERED:
            _number(named, cells)
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()


def most_confused(findings: Findings, count: int) -> list[int]:
    """Up to `count` classes, in order: those of the most frequent mistakes.

    A mistake counts as a share of its true class: a rare class counts as much as any other.
    """
    shares, pairs = findings.shares, findings.pairs
    mistakes = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    chosen: set[int] = set()
    for place in mistakes[np.argsort(-shares[mistakes], kind="stable")]:
        with_pair = chosen | set(pairs[place, :2].tolist())
        if len(with_pair) > count:
            break
        chosen = with_pair
    return sorted(chosen or range(min(count, len(findings.classes))))


def _show(
    figure: Any, axes: Any, findings: Findings, chosen: Sequence[int], title: str
) -> np.ndarray:
    """The matrix of some classes with their names; none chosen: of all, without. Its cells."""
    from matplotlib.colors import PowerNorm

    classes = len(findings.classes)
    block = 1 if chosen else -(-classes // CELLS)
    cells = _cells(findings, chosen, block)
    # The root: a mistake of 4 % is as dark as 20 % would be, and can be seen beside the diagonal.
    norm = PowerNorm(0.5, 0.0, 1.0)
    end = len(cells) * block - 0.5
    image = axes.imshow(
        cells, cmap="Blues", norm=norm, interpolation="nearest", extent=(-0.5, end, end, -0.5)
    )
    axes.set_facecolor("0.85")  # a class without images
    if block > 1:
        title += f"; a cell is the largest of {block} x {block}"
    axes.set_title(title, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_ticklabels(["0 %", "1 %", "5 %", "20 %", "50 %", "100 %"])
    if not chosen:
        return cells
    names = [_short(findings.classes[label]) for label in chosen]
    size = 9 if len(names) <= NUMBERED else 7
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    return cells


def _number(axes: Any, cells: np.ndarray) -> None:
    """The share in each cell that has one."""
    for (row, column), share in np.ndenumerate(cells):
        if share > 0:
            text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            color = "white" if share > 0.4 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)


def _cells(findings: Findings, chosen: Sequence[int], block: int) -> np.ndarray:
    """float64[n, n]: shares, the largest of each block; NaN in a row without images."""
    labels = np.asarray(chosen if chosen else range(len(findings.classes)))
    place = np.full(len(findings.classes), -1)
    place[labels] = np.arange(len(labels)) // block
    rows, columns = place[findings.pairs[:, 0]], place[findings.pairs[:, 1]]
    cells = np.full((place.max() + 1,) * 2, np.nan)
    cells[rows[rows >= 0]] = 0.0
    shown = (rows >= 0) & (columns >= 0)
    np.maximum.at(cells, (rows[shown], columns[shown]), findings.shares[shown])
    return cells


def _short(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 2]}.."
