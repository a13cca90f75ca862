"""Learning curves of several runs in one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]  # (epoch, value)
# The first is drawn thin, the other one as a line with dots.
PANELS = {
    "loss": ("train/loss", "validation/loss"),
    "accuracy": ("train/accuracy", "validation/accuracy"),
}


class Mark(NamedTuple):
    """A place on the epochs' axis that is pointed out."""

    epoch: float
    words: str


def draw(path: Path, runs: Mapping[str, Mapping[str, Curve]], mark: Mark | None = None) -> None:
    """runs: name -> metric -> curve; the metrics of PANELS. Raises OSError."""
    # Not pyplot, which holds every figure for the life of the process.
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, (trained, validated)) in zip(
        figure.subplots(1, len(PANELS)), PANELS.items(), strict=True
    ):
        for number, (name, curves) in enumerate(runs.items()):
            style = {"color": f"C{number % 10}", "zorder": number}
            wider = 2.0 * (len(runs) - 1 - number)  # or equal ones would hide each other
            thin, thick = ({"linewidth": width + wider} for width in (0.8, 1.6))
            axes.plot(*_columns(curves.get(trained, ())), alpha=0.6, **style, **thin)
            axes.plot(*_columns(curves.get(validated, ())), "o-", label=name, **style, **thick)
        if mark is not None:
            axes.axvline(mark.epoch, color="black", linestyle=":", label=mark.words)
        axes.set_title(f"{title}: validation with dots, training thin")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    figure.savefig(path, format="png", dpi=120)


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [epoch for epoch, _ in curve], [value for _, value in curve]
