"""How a run went: its curves over the epochs, as one SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Curve = Sequence[tuple[float, float]]  # (epoch, value)

MOST = 1_000  # points of a curve that are drawn; each stands for the mean of its neighbours
WAITING = "waiting"  # a share, from 0 to 1


class Panel(NamedTuple):
    """Metrics that are drawn into one pair of axes; a metric without values is left out."""

    title: str
    metrics: dict[str, str]  # of metrics.jsonl -> in the legend
    logarithmic: bool = False


PANELS = (
    Panel(
        "loss",
        {
            "train/loss": "training",
            "validation/loss": "validation",
            "validation_of_averages/loss": "validation of averages",
        },
        logarithmic=True,
    ),
    Panel(
        "accuracy",
        {
            "train/accuracy": "training",
            "validation/accuracy": "validation",
            "validation_of_averages/accuracy": "validation of averages",
            "validation/top5": "validation, top-5",
        },
    ),
    Panel("learning rate", {"train/learning_rate": "learning rate"}),
    Panel("gradient norm", {"train/gradient_norm": "gradient norm"}, logarithmic=True),
    Panel("images per second", {"images_per_second": "images per second"}),
    Panel("share of the training time spent waiting for input", {WAITING: "waiting"}),
)
METRICS = tuple(metric for panel in PANELS for metric in panel.metrics)


def draw(curves: Mapping[str, Curve]) -> str:
    """curves: metric -> curve; those of METRICS are drawn. Text stays text, which can be found."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = [panel for panel in PANELS if any(curves.get(name) for name in panel.metrics)]
    rows = max(1, -(-len(shown) // 2))
    # Not pyplot, which holds every figure for the life of the process.
    figure = Figure(figsize=(11, 3 * rows), layout="constrained")
    FigureCanvasSVG(figure)
    places = figure.subplots(rows, 2, squeeze=False).ravel()
    for panel, axes in zip(shown, places, strict=False):
        drawn = [_thinned(curves[name]) for name in panel.metrics if curves.get(name)]
        labels = [label for name, label in panel.metrics.items() if curves.get(name)]
        for label, (epochs, values) in zip(labels, drawn, strict=True):
            style = ".-" if len(epochs) <= 60 else "-"
            axes.plot(epochs, values, style, label=label, linewidth=1.2)
        if panel.logarithmic and all((values > 0).all() for _, values in drawn):
            axes.set_yscale("log")
        axes.set_title(panel.title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if len(labels) > 1:
            axes.legend(fontsize="small")
    for axes in places[len(shown) :]:
        axes.set_axis_off()
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "samestep"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """float64[n] twice, epochs and values: means of as many neighbours as it takes."""
    points = np.array(curve, np.float64)
    groups = np.array_split(points, min(MOST, len(points)))
    means = np.stack([group.mean(axis=0) for group in groups])
    return means[:, 0], means[:, 1]
