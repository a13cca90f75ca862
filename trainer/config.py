"""The definition of a run: what config.json holds, and what a resumed run must agree with.

No TensorFlow here: flags and --help read this file.
"""

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from input.config import InputConfig
from models.config import ModelConfig
from trainer.errors import TrainerError

CONFIG_FILE = "config.json"
BENCHMARK_NAMES = ("loop", "fit", "exact", "input", "reader", "start", "index")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its schedule."""

    optimizer: Annotated[Literal["sgd", "adamw"], "sgd has momentum."] = "sgd"
    learning_rate: Annotated[float, "Peak learning rate, after the warm-up."] = 0.1
    momentum: Annotated[float, "Momentum of sgd."] = 0.9
    weight_decay: Annotated[
        float, "Decoupled weight decay of matrices and filters; biases and norms have none."
    ] = 1e-4
    warmup_epochs: Annotated[float, "Epochs of linear warm-up from 0."] = 0.0
    schedule: Annotated[Literal["cosine", "constant"], "After the warm-up."] = "cosine"
    clip_norm: Annotated[float, "Largest global norm of the mean gradient; 0 does not clip."] = 0.0
    label_smoothing: Annotated[float, "Share of the target spread over all classes."] = 0.0

    def __post_init__(self):
        for name in ("learning_rate", "weight_decay", "warmup_epochs", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:  # NaN fails too
                raise TrainerError(f"--{name} must be 0 or more, not {getattr(self, name)}.")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainerError(
                    f"--{name} must be at least 0 and below 1, not {getattr(self, name)}."
                )


@dataclass(frozen=True)
class RunConfig:
    """Length, arithmetic and bookkeeping of a run."""

    run_dir: Annotated[
        str, "Folder for config.json, checkpoints, events and metrics.jsonl; again: resumes."
    ] = field(default="", compare=False)
    epochs: Annotated[int, "Passes over the training records."] = 10
    seed: Annotated[int, "Of initial weights, order, augmentation and dropout."] = 0
    precision: Annotated[
        Literal["float32", "bfloat16"], "Of activations; weights and sums stay float32."
    ] = "float32"
    reduction: Annotated[
        Literal["exact", "fast"],
        "exact: the same bits on any number of replicas; fast: float32 sums, equal to rounding.",
    ] = "exact"
    deterministic: Annotated[
        bool, "TensorFlow's op determinism: the same bits from run to run on GPUs too."
    ] = False
    intra_op_threads: Annotated[
        int | None,
        "CPU threads of one operation; part of the result's bits. Unset: one per core at the "
        "first launch, kept from then on.",
    ] = None
    steps_per_call: Annotated[int, "Steps inside one call of the traced function."] = field(
        default=20, compare=False
    )
    log_every_steps: Annotated[int, "Steps between two lines of metrics."] = field(
        default=20, compare=False
    )
    checkpoint_every_steps: Annotated[
        int | None, "Steps between two checkpoints. Unset: only after each epoch."
    ] = field(default=None, compare=False)
    keep_checkpoints: Annotated[int, "Newest checkpoints kept, besides the best."] = field(
        default=3, compare=False
    )

    stall_seconds: Annotated[
        float | None,
        "A step that takes longer ends the process with the stacks of its threads. Unset: 10 times "
        "the median, at least 300.",
    ] = field(default=None, compare=False)
    start_seconds: Annotated[
        float, "Workers that have not found each other by then end, and name the missing ones."
    ] = field(default=600.0, compare=False)

    def __post_init__(self):
        for name in ("stall_seconds", "start_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainerError(f"--{name} must be above 0, not {value}.")
        for name in ("epochs", "steps_per_call", "log_every_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise TrainerError(f"--{name} must be 1 or more, not {getattr(self, name)}.")
        for name in ("intra_op_threads", "checkpoint_every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainerError(f"--{name} must be 1 or more, not {value}.")


@dataclass(frozen=True)
class Hardware:
    """The devices of one launch; the result does not depend on them."""

    virtual_cpus: Annotated[
        int | None, "Replicas on this machine's CPU, to try many-replica training anywhere."
    ] = None
    gpus: Annotated[int | None, "GPUs to use. Unset: every visible one; without any, the CPU."] = (
        None
    )

    def __post_init__(self):
        if self.virtual_cpus is not None and self.gpus is not None:
            raise TrainerError(
                "--virtual_cpus and --gpus exclude each other: leave one of them out."
            )
        for name in ("virtual_cpus", "gpus"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainerError(f"--{name} must be 1 or more, not {value}.")


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate."""

    run_dir: Annotated[str, "Folder of the run."] = ""
    data_dir: Annotated[str, "Folder of the records. Unset: where the run was trained from."] = ""
    split: Annotated[str, "Which of its splits."] = "validation"
    checkpoint: Annotated[Literal["latest", "best"], "best: by validation accuracy."] = "latest"


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and where to."""

    run_dir: Annotated[str, "Folder of the run."] = ""
    out: Annotated[str, "Folder to write the SavedModel to; must not be there yet."] = ""
    checkpoint: Annotated[Literal["latest", "best"], "best: by validation accuracy."] = "latest"

    def __post_init__(self):
        if not self.out:
            raise TrainerError("--out is missing: the folder to write the SavedModel to.")


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure."""

    what: Annotated[
        Literal["all", *BENCHMARK_NAMES],
        "loop: the real loop against the traced step alone; fit: the step against Keras fit; "
        "exact: the exact sum against float32 sums on ResNet-50; input: the pipeline against "
        "TensorFlow idioms and decoding alone; reader: records in random order against others; "
        "start: at step 10**9 against step 0; index: memory and time of 10**4 to 10**8 records.",
    ] = "all"
    images: Annotated[str, "Folder of JPEG photographs for --what=input."] = ""
    image_size: Annotated[int, "Of the views of --what=input."] = 224
    rounds: Annotated[int, "Paired runs; medians are shown."] = 7
    json: Annotated[str, "File to write the figures to."] = ""
    markdown: Annotated[str, "File to write the tables to."] = ""

    def __post_init__(self):
        for name in ("rounds", "image_size"):
            if getattr(self, name) < 1:
                raise TrainerError(f"--{name} must be 1 or more, not {getattr(self, name)}.")


@dataclass(frozen=True)
class PlanConfig:
    """Hardware that a run is planned for."""

    workers: Annotated[int, "Processes of the run."] = 1
    replicas_per_worker: Annotated[int, "Devices of each."] = 1
    images_per_second: Annotated[
        float | None, "Of one replica alone, as samestep-train shows it. Unset: no times."
    ] = None
    bandwidth_gigabits: Annotated[float, "Between two workers, in Gbit/s."] = 100.0

    def __post_init__(self):
        for name in ("workers", "replicas_per_worker", "images_per_second", "bandwidth_gigabits"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainerError(f"--{name} must be above 0, not {value}.")


@dataclass(frozen=True)
class LaunchConfig:
    """Where the workers of a run are started, and what becomes of them when one dies."""

    where: Annotated[
        Literal["local", "slurm", "kubernetes"],
        "local: here; slurm: a batch job; kubernetes: prints a JobSet.",
    ] = "local"
    workers: Annotated[int, "Processes of the run, one command each."] = 1
    gpus_per_worker: Annotated[
        int | None, "GPUs of each. Unset, on this machine: all there are, shared out."
    ] = None
    max_restarts: Annotated[
        int, "Restarts of all workers after one has failed; one that was preempted does not count."
    ] = 3
    grace_seconds: Annotated[
        int, "From SIGTERM to SIGKILL: what a few steps and a checkpoint may take."
    ] = 30
    logs: Annotated[str, "Folder that gets a log of each worker, or of each Slurm job."] = "logs"
    name: Annotated[str, "Of the Slurm job or the JobSet: small letters, digits and -."] = (
        "samestep"
    )
    cpus_per_worker: Annotated[int | None, "CPU cores of each, on Slurm and Kubernetes."] = None
    time: Annotated[str, "Slurm's time limit, as in 12:00:00."] = ""
    sbatch: Annotated[str, "Further options of sbatch, as in '--partition=a100 --mem=0'."] = ""
    dry_run: Annotated[bool, "Print Slurm's batch script, and submit nothing."] = False
    image: Annotated[str, "Container image of the JobSet, with samestep in it."] = ""
    claim: Annotated[str, "PersistentVolumeClaim that holds data_dir and run_dir."] = ""
    mount: Annotated[str, "Where the JobSet's workers see it."] = "/data"
    memory: Annotated[str, "Memory of each of the JobSet's workers, as in 64Gi."] = ""

    def __post_init__(self):
        for name, least in (
            *(("workers", 1), ("gpus_per_worker", 0), ("max_restarts", 0)),
            *(("grace_seconds", 1), ("cpus_per_worker", 1)),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise TrainerError(f"--{name} must be {least} or more, not {value}.")
        # A label of DNS, with room for what JobSet adds to it.
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
            raise TrainerError(
                f"--name={self.name} must be 1 to 40 small letters, digits and -, a letter first."
            )
        if self.where == "kubernetes" and not (self.image and self.claim):
            raise TrainerError(
                "--where=kubernetes needs --image=IMAGE with samestep in it, and --claim=CLAIM, a "
                "volume that all workers share."
            )


@dataclass(frozen=True)
class Config:
    """One run, whatever hardware it runs on."""

    input: InputConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    run: RunConfig

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Config":
        hints = get_type_hints(cls)
        return cls(**{group: hints[group](**content[group]) for group in hints})


@dataclass(frozen=True)
class Stored:
    """What a run directory says about its run."""

    config: Config
    classes: tuple[str, ...]
    data: dict[str, str]  # split -> fingerprint of its records
    environment: dict[str, str]  # versions and device kind at the first launch
    image_dtype: str = "uint8"  # of the records' pixels

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Stored":
        return cls(
            Config.from_json(content["config"]),
            tuple(content["classes"]),
            content["data"],
            content["environment"],
            content["image_dtype"],
        )


def find(run_dir: str | Path) -> Stored | None:
    """The run in a directory, or None where there is none yet. Raises TrainerError."""
    path = Path(run_dir) / CONFIG_FILE
    if not path.is_file():
        return None
    try:
        return Stored.from_json(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise TrainerError(
            f"{path} does not describe a run of this version of samestep: {error}. "
            "Start in another --run_dir."
        ) from None


def load(run_dir: str | Path) -> Stored:
    """The run in a directory. Raises TrainerError where there is none."""
    stored = find(run_dir)
    if stored is None:
        raise TrainerError(
            f"--run_dir={run_dir} holds no run: there is no {CONFIG_FILE}. Train one with "
            "samestep-train --data_dir=DATA --run_dir=RUN."
        )
    return stored


def save(run_dir: str | Path, stored: Stored) -> None:
    """Writes config.json: after a crash there is the whole file or none."""
    path = Path(run_dir) / CONFIG_FILE
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(stored.to_json(), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def fill_in(config: Config, stored: Config) -> Config:
    """What this launch leaves unset (None) is what the first launch made of it."""
    groups = {}
    for group in dataclasses.fields(Config):
        ours, theirs = getattr(config, group.name), getattr(stored, group.name)
        unset = {
            f.name: getattr(theirs, f.name)
            for f in dataclasses.fields(ours)
            if f.compare and getattr(ours, f.name) is None
        }
        groups[group.name] = dataclasses.replace(ours, **unset)
    return Config(**groups)


def check_same(stored: Stored, config: Config, data: dict[str, str]) -> None:
    """Raises TrainerError with every difference that would make this another run."""
    found = differences(stored, config, data, "the run")
    if found:
        raise TrainerError(
            f"{config.run.run_dir} holds another run: {', '.join(found)}. "
            "Repeat its own flags to resume it, or start in another --run_dir."
        )


def check_workers(chief: Stored, own: Stored, worker: int) -> None:
    """Raises TrainerError with every difference between a worker and worker 0."""
    found = differences(chief, own.config, own.data, "worker 0")
    found += [
        f"{name} {value} (worker 0 has {chief.environment.get(name)})"
        for name, value in own.environment.items()
        if value != chief.environment.get(name)
    ]
    if found:
        raise TrainerError(
            f"Worker {worker} differs from worker 0: {', '.join(found)}. Give all workers the same "
            "command, records and versions."
        )


def differences(stored: Stored, config: Config, data: dict[str, str], whose: str) -> list[str]:
    """What would make it another run: --seed=1 (the run has 0)."""
    found = []
    for group in dataclasses.fields(Config):
        theirs, ours = getattr(stored.config, group.name), getattr(config, group.name)
        found += [
            f"--{f.name}={getattr(ours, f.name)} ({whose} has {getattr(theirs, f.name)})"
            for f in dataclasses.fields(ours)
            if f.compare and getattr(ours, f.name) != getattr(theirs, f.name)
        ]
    found += [
        f"other {split} records in --data_dir={config.input.data_dir}"
        for split, fingerprint in data.items()
        if stored.data.get(split) != fingerprint
    ]
    return found
