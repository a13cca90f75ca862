"""A run's folder: its definition in config.json, its lock, and what later launches must match."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, get_args

from input.foundation import durable, typed_json
from input.foundation.settings import settings
from trainer.config import PROCESSOR, Config, RunConfig, RunDefinition
from trainer.errors import TrainerError

CONFIG_FILE, LOCK_FILE = "config.json", ".lock"
CHECKPOINTS, METRICS_FILE = "checkpoints", "metrics.jsonl"
MOST_METRICS = 2**30  # bytes of metrics.jsonl; a line has 300, so these are 3 million


def find(run_dir: str | Path) -> RunDefinition | None:
    """The run in a folder, or None where there is none yet. Raises TrainerError."""
    path = Path(run_dir) / CONFIG_FILE
    try:
        return typed_json.load(RunDefinition, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainerError(f"{path} cannot be read: {error.strerror}.") from None
    except typed_json.JsonError as error:
        raise TrainerError(
            f"{error}. It is damaged, or of another version of samestep: put back a copy, or start "
            "in another --run_dir."
        ) from None


def named(run: RunConfig) -> Path:
    """The folder of --run_dir. Raises TrainerError where that is not set."""
    if not run.run_dir:
        raise TrainerError("--run_dir is missing: the folder that gets everything the run makes.")
    return Path(run.run_dir)


def load(run_dir: str | Path, flag: str = "--run_dir") -> RunDefinition:
    """The run in a folder, which a flag has named. Raises TrainerError where there is none."""
    found = find(run_dir)
    if found is not None:
        return found
    above = [each for each in Path(run_dir).resolve().parents[:2] if (each / CONFIG_FILE).is_file()]
    way_out = "Train one with samestep-train --data_dir=DATA --run_dir=RUN."
    if above:
        way_out = f"{flag}={above[0]} does."
    raise TrainerError(f"{flag}={run_dir} holds no run: there is no {CONFIG_FILE}. {way_out}")


def check_complete(run_dir: Path, first: RunDefinition | None) -> None:
    """Raises TrainerError where a part of a run is there without what was written before it.

    first: what `find` has found. To be called under the lock: a run that another launch has begun
    since then is named as well.
    """
    if find(run_dir) != first:
        raise TrainerError(
            f"Another launch began the run in {run_dir} while this one started. Run the same "
            "command again: it resumes that run, or names what is different."
        )
    folder, metrics = run_dir / CHECKPOINTS, run_dir / METRICS_FILE
    try:
        saved = folder.is_dir() and any(folder.glob("step-*"))
        recorded = durable.read(metrics, MOST_METRICS) if metrics.exists() else b""
    except OSError as error:
        raise TrainerError(f"{run_dir} cannot be read: {error}.") from None
    if first is None and (saved or recorded):
        there, missing = folder if saved else metrics, CONFIG_FILE
    elif first is not None and not saved and b'"validation/' in recorded:  # of a checkpoint
        there, missing = metrics, f"{CHECKPOINTS}/step-*"
    else:
        return
    raise TrainerError(
        f"{run_dir} holds a part of a run: {there} is there, and {missing} is missing. Put back a "
        "copy of it, or start in another --run_dir."
    )


def identity(definition: RunDefinition) -> str:
    """SHA-256 of what no launch of a run changes; each of its checkpoints holds it.

    Left out are settings that a launch may choose, the source of a model, the CPU's model, and the
    fingerprint of --init_weights, which is not known before its weights are there and has no part
    in what follows a checkpoint.
    """
    config = definition.config
    alike = dataclasses.replace(definition, initial_weights="", source="", graph="")
    content = dataclasses.asdict(alike)
    for group in dataclasses.fields(config):
        for setting in dataclasses.fields(getattr(config, group.name)):
            if not setting.compare:
                del content["config"][group.name][setting.name]
    if config.optimizer.open_ended:
        del content["config"]["run"]["epochs"]
    content["environment"].pop(PROCESSOR, None)
    return typed_json.digest(content)


def save(run_dir: Path, definition: RunDefinition) -> None:
    """Writes config.json: after a crash there is the whole file or none. Raises TrainerError."""
    with writing(run_dir):
        durable.write(run_dir / CONFIG_FILE, typed_json.dump(definition))


def checkpoints(run_dir: Path) -> list[Path]:
    """The folders of a run's checkpoints by step, without those that are damaged or not whole."""
    folder = run_dir / CHECKPOINTS
    found = folder.glob("step-*") if folder.is_dir() else ()
    return sorted(path for path in found if not path.suffix)


def check_free(run_dir: Path) -> None:
    """Raises TrainerError where another process holds the lock. Leaves the folder as it is."""
    if (run_dir / LOCK_FILE).exists():
        lock(run_dir).close()


def lock(run_dir: Path) -> IO[str]:
    """Makes the folder and takes its lock: two launches would write over each other.

    Held until the file that is returned is closed, or the process dies. Raises TrainerError.
    """
    with writing(run_dir):
        durable.make(run_dir)
        try:
            return durable.lock(run_dir / LOCK_FILE)
        except BlockingIOError:
            raise TrainerError(
                f"Another process trains in {run_dir}. Wait for it, stop it, or use another "
                "--run_dir."
            ) from None


@contextmanager
def writing(run_dir: Path) -> Iterator[None]:
    """Turns what the system refuses while the folder is written into a TrainerError."""
    try:
        yield
    except OSError as error:
        raise TrainerError(
            f"--run_dir={run_dir} cannot be written: {error}. Repair that and run the same command "
            "again, or use another --run_dir."
        ) from error


def fill_in(config: Config, first: Config) -> Config:
    """What this launch leaves unset is what the first launch has resolved it to.

    Unset is None, or a word that the resolved setting does not have, as --decoder=auto.
    """
    groups = {}
    for group in dataclasses.fields(Config):
        ours, theirs = getattr(config, group.name), getattr(first, group.name)
        words = {each.name: get_args(each.kind) for each in settings(type(theirs))}
        unset = {
            setting.name: getattr(theirs, setting.name)
            for setting in dataclasses.fields(ours)
            if setting.compare
            and (
                (value := getattr(ours, setting.name)) is None
                or (isinstance(value, str) and isinstance(getattr(theirs, setting.name), int))
                or (words[setting.name] and value not in words[setting.name])
            )
        }
        groups[group.name] = dataclasses.replace(ours, **unset)
    return Config(**groups)


def extended(first: RunDefinition, config: Config) -> RunDefinition:
    """The run with this launch's number of epochs, where no step depends on that number.

    Under a constant learning rate none does; a cosine comes down to 0 at the last one.
    """
    if not first.config.optimizer.open_ended:
        return first
    run = dataclasses.replace(first.config.run, epochs=config.run.epochs)
    return dataclasses.replace(first, config=dataclasses.replace(first.config, run=run))


def check_same(first: RunDefinition, config: Config, data: dict[str, str]) -> None:
    """Raises TrainerError with every difference that would make this another run."""
    first = extended(first, config)
    found = differences(first, config, data, "the run")
    if not found:
        return
    folder = config.run.run_dir
    way_out = "Repeat its own flags to resume it, or start in another --run_dir."
    if config.run.epochs > first.config.run.epochs:
        way_out = (
            f"A {config.optimizer.schedule} schedule ends with its epochs. To train on from the "
            f"weights that are there, start in another --run_dir with --init_weights={folder}."
        )
    raise TrainerError(f"{folder} holds another run: {', '.join(found)}. {way_out}")


def check_workers(chief: RunDefinition, own: RunDefinition, worker: int) -> None:
    """Raises TrainerError with every difference between a worker and worker 0."""
    found = differences(chief, own.config, own.data, "worker 0")
    if own.source != chief.source:
        found.append(f"another source of --model={own.config.model.model}")
    found += [
        f"{name} {value} (worker 0 has {chief.environment.get(name)})"
        for name, value in own.environment.items()
        if name != PROCESSOR and value != chief.environment.get(name)
    ]
    if found:
        raise TrainerError(
            f"Worker {worker} differs from worker 0: {', '.join(found)}. Give all workers the same "
            "command, records and versions."
        )


def differences(
    first: RunDefinition, config: Config, data: dict[str, str], whose: str
) -> list[str]:
    """What would make it another run: --seed=1 (the run has 0)."""
    found = []
    for group in dataclasses.fields(Config):
        theirs, ours = getattr(first.config, group.name), getattr(config, group.name)
        found += [
            f"--{s.name}={getattr(ours, s.name)} ({whose} has {getattr(theirs, s.name)})"
            for s in dataclasses.fields(ours)
            if s.compare and getattr(ours, s.name) != getattr(theirs, s.name)
        ]
    found += [
        f"other {split} records in --data_dir={config.input.data_dir}"
        for split, fingerprint in data.items()
        if first.data.get(split) != fingerprint
    ]
    return found
