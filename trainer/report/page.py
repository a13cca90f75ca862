"""One HTML page about a run, with everything in it: it needs no other file and no network."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from input.errors import InputError
from input.foundation import durable
from input.foundation.text import duration, one_line
from input.splits import VALIDATION
from trainer import (
    command,
    comparison,
    data,
    evaluate,
    findings,
    incidents,
    metrics,
    run_dir,
    totals,
)
from trainer.comparison import Run
from trainer.config import RunDefinition
from trainer.errors import TrainerError
from trainer.findings import Findings
from trainer.ledger import waiting_share
from trainer.pictures import confusion, mistakes, progress
from trainer.totals import Totals

WORST_SHOWN, USUAL_SHOWN = 20, 3


class Row(NamedTuple):
    """Of a table of two columns."""

    name: str
    value: str
    changed: bool = False  # is not the default


class Table(NamedTuple):
    """A section of the page."""

    title: str
    rows: list[Row]
    note: str = ""


def write(folder: Path, page: Path) -> None:
    """Writes the page of the run in a folder. Raises TrainerError; OSError for the page."""
    durable.write(page, render(folder).encode())


def render(folder: Path) -> str:
    """The page of the run in a folder, as it is now. Raises TrainerError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(_content(folder))


def _content(folder: Path) -> dict[str, Any]:
    """What the template's names stand for."""
    run, sums = comparison.load(str(folder)), totals.totals(folder)
    definition = run.definition
    best = metrics.best(run.metrics)
    found, why_not = _findings(folder, best["step"] if best else None)
    images, no_images = _mistakes(definition, found)
    step = best["step"] if best else 0
    again = folder.with_name(f"{folder.name}-again")
    has_records = definition.config.input.data_dir  # arrays in memory have no command
    return {
        "name": one_line(str(folder.resolve().name)),
        "status": _status(run),
        "facts": list(_facts(run, sums, best)),
        "curves": _curves(run),
        "evaluated": f"the evaluation of step {step}, the best one",
        "confusion": _base64(confusion.draw(found, f"step {step}")) if found else "",
        "no_findings": why_not,
        "classes": list(_worst(found)) if found else [],
        "mistakes": _base64(images) if images else "",
        "no_mistakes": why_not or no_images,
        "tables": [table for table in _tables(folder, run, sums) if table.rows],
        "command": command.reproduction(definition.config, again) if has_records else "",
    }


def _status(run: Run) -> str:
    done, epochs = run.last("step") or 0, run.definition.config.run.epochs
    epoch = next((line["epoch"] for line in reversed(run.metrics)), 0.0)
    inputs, model = run.definition.config.input, run.definition.config.model.model
    return one_line(
        f"{model} on {inputs.data_dir}: {len(run.definition.classes)} classes, "
        f"{inputs.image_size} pixels, {inputs.global_batch_size} images a step; step {done}, "
        f"epoch {epoch:.4g} of {epochs}"
    )


def _facts(run: Run, sums: Totals, best: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What is read first."""
    if best:
        yield "best accuracy", f"{metrics.accuracy(best):.4f}"
        yield "at step", f"{best['step']:,}"
    accuracies = [each for each in map(metrics.accuracy, run.metrics) if each is not None]
    if accuracies:
        yield "last accuracy", f"{accuracies[-1]:.4f}"
    if (top5 := run.last("validation/top5")) is not None:
        yield "top-5", f"{top5:.4f}"
    if sums.training_seconds:
        yield "images/s", f"{sums.images / sums.training_seconds:,.0f}"
        yield "time", duration(sum(sums.seconds.values()))
    yield "launches", str(len(sums.launches))
    yield "bad records", str(sums.bad_records)
    yield "skipped steps", str(sums.skipped)


def _curves(run: Run) -> str:
    curves = {metric: run.curve(metric) for metric in progress.METRICS}
    timed = [line for line in run.metrics if "train/loss" in line and "time/device" in line]
    curves[progress.WAITING] = [(line["epoch"], waiting_share(line)) for line in timed]
    return progress.draw(curves) if any(curves.values()) else ""


def _findings(folder: Path, step: int | None) -> tuple[Findings | None, str]:
    """What the best evaluation has found, or why that is not known."""
    if step is None:
        return None, "There is no evaluation yet."
    try:
        found = findings.load(folder, step)
    except TrainerError as error:
        return None, str(error)
    return found, "" if found else f"What was found at step {step} is not there any more."


def _mistakes(definition: RunDefinition, found: Findings | None) -> tuple[bytes, str]:
    """The images of mistakes as a PNG, or why there are none."""
    if found is None or not found.mistakes:
        return b"", "There are none."
    config = definition.config
    try:
        manifest = data.manifests(config, [VALIDATION])[VALIDATION]
        if manifest.fingerprint != definition.data[VALIDATION]:
            return b"", f"{config.input.data_dir} holds other records than the run's."
        reader = data.reader(config, VALIDATION, manifest)
        images = evaluate.mistaken(config.input, reader, found)
    except InputError as error:
        return b"", f"Their images cannot be shown: {error}"
    return mistakes.draw(images, found.mistakes, found.classes), ""


def _worst(found: Findings) -> Iterator[dict[str, str]]:
    """The classes with the lowest shares of right images."""
    names = [one_line(name) for name in found.classes]
    for each in found.worst(WORST_SHOWN):
        usual = [
            f"{names[predicted]} ({count / each.images:.1%})"
            for predicted, count in found.taken_for(each.label)[:USUAL_SHOWN]
        ]
        yield {
            "name": names[each.label],
            "right": f"{each.share:.1%}",
            "images": f"{each.images:,}",
            "taken_for": ", ".join(usual) or "nothing else",
        }


def _tables(folder: Path, run: Run, sums: Totals) -> Iterator[Table]:
    definition = run.definition
    whole = sum(sums.seconds.values())
    if whole:
        parts = [
            Row(name, f"{duration(seconds)}  {seconds / whole:.1%}")
            for name, seconds in sums.seconds.items()
        ]
        note = "input: waiting for images; host: Python between the steps; all launches together."
        yield Table("Where the time went", parts, note)
    yield Table(
        "Steps without finite gradients",
        [
            Row(
                f"steps {each.first_step} to {each.last_step}",
                f"went back to step {each.back_to}, without their {each.records} records",
            )
            for each in incidents.load(folder).found
        ],
    )
    note = "* is not the default, or was resolved from it."
    yield Table("Settings", list(_settings(definition)), note)
    described = {
        **definition.environment,
        **{f"{split} records": mark for split, mark in definition.data.items()},
        "identity": run_dir.identity(definition),
        "weights": run.last("fingerprint") or "",
    }
    yield Table("Environment", [Row(name, one_line(value)) for name, value in described.items()])


def _settings(definition: RunDefinition) -> Iterator[Row]:
    for setting, value in definition.config.values():
        shown = "unset" if value is None else str(value)
        yield Row(setting.name, one_line(shown), value != setting.default)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
