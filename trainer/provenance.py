"""A run whose model is code of the user's: whether that may be run, and whether it is the same."""

import dataclasses
from pathlib import Path

from models import names, source
from trainer.config import RunDefinition
from trainer.errors import TrainerError


def check_named(folder: Path, first: RunDefinition, asked: str, flag: str = "--model") -> None:
    """Raises TrainerError where a run names code that the user has not named: it would be run."""
    named = first.config.model.model
    if asked == named or (not asked and not names.is_code(named)):
        return
    if asked:
        raise TrainerError(f"{flag}={asked}, but {folder} was trained with {named}. Leave it out.")
    raise TrainerError(
        f"{folder} names a model that is code, {named}, and would run it: "
        f"{source.find(named) or 'no file that can be found here'}. Where you trust that, repeat "
        f"it: {flag}={named}"
    )


def note(first: RunDefinition) -> str:
    """What is to be said where a model's source is not that of the first launch; else ""."""
    now = source.digest(first.config.model.model) if first.source else ""
    if now == first.source:
        return ""
    return (
        f"the source of {first.config.model.model} is {source.short(now)} and was "
        f"{source.short(first.source)} at the first launch"
    )


def recorded(definition: RunDefinition, graph: str, first: RunDefinition | None) -> RunDefinition:
    """The definition with what its model is made of: its source, and the digest of its graph.

    first: what the first launch has recorded. Raises TrainerError where the source is another and
    computes something else.
    """
    if first is not None and first.graph != graph and (said := note(first)):
        raise TrainerError(
            f"{said[0].upper()}{said[1:]}, and it computes something else now. Put the source "
            "back, or start in another --run_dir."
        )
    name = definition.config.model.model
    return dataclasses.replace(definition, source=source.digest(name), graph=graph)
