"""The definition of a run: its settings, and what else makes it this run and no other.

No TensorFlow here: flags and --help read this file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_type_hints

from input.config import InputConfig, ResolvedInput
from input.foundation.settings import (
    MOST_USED,
    Above,
    AtLeast,
    AtMost,
    Matching,
    Section,
    Setting,
    check,
    settings,
)
from models.config import ModelConfig
from models.names import IN_MODULE
from trainer.errors import TrainerError
from trainer.recipe import OptimizerConfig, ResolvedOptimizer

PROCESSOR = "processor"  # of RunDefinition.environment: the CPU's model

# Fields with compare=False may differ from one launch of a run to the next.


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Length, arithmetic and bookkeeping of a run."""

    run_dir: Annotated[
        str,
        "Folder for config.json, checkpoints, events and metrics.jsonl. A run that is in it "
        "already is resumed.",
        Section("Start and length"),
        MOST_USED,
    ] = field(default="", compare=False)
    init_weights: Annotated[
        str,
        "What a new run starts with: imagenet, as published for keras:NAME and resnet50v1; "
        "FILE.weights.h5 or FILE.keras; or another run's folder, of which the newest sound "
        "checkpoint is taken. Each weight goes by its path and shape: another number of classes "
        "keeps a new head.",
        Section("Fine-tuning"),
    ] = ""
    init_model: Annotated[
        str,
        "Where the run of --init_weights has a model of its own code that is not --model: the same "
        "name, to say that it may be imported.",
    ] = field(default="", compare=False)
    epochs: Annotated[
        int,
        "Passes over the training records. With --schedule=constant or step a later launch "
        "may give another number.",
        AtLeast(1),
        Section("Start and length"),
        MOST_USED,
    ] = 10
    seed: Annotated[
        # keras.utils.set_random_seed takes no other.
        int,
        "Seed of initial weights, order, augmentation and dropout.",
        AtLeast(0),
        AtMost(2**32 - 1),
    ] = 0
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        "Of activations; weights and sums stay float32. float16 scales the loss, and halves the "
        "scale where a gradient is not finite.",
        Section("Arithmetic"),
    ] = "float32"
    stop_after: Annotated[
        int | None,
        "Evaluations in a row without a better one that end the run. Unset: none do.",
        AtLeast(1),
        Section("Start and length"),
    ] = None
    reduction: Annotated[
        Literal["exact", "fast"],
        "exact: the same bits on any number of replicas; fast: float32 sums, equal to rounding.",
        Section("Arithmetic"),
    ] = "exact"
    deterministic: Annotated[
        bool, "TensorFlow's op determinism: the same bits from run to run on GPUs too."
    ] = False
    nan_policy: Annotated[
        Literal["skip", "stop", "rollback"],
        "What --nan_steps steps in a row without finite gradients do; each is skipped. skip: "
        "nothing, before a whole epoch of them ends the run; stop: end it and name their records; "
        "rollback: go back to the checkpoint of an epoch's end before them and leave their records "
        "out, at most three times. incidents.jsonl says what was done.",
        Section("Faults and stalls"),
    ] = "skip"
    nan_steps: Annotated[int, "Steps that --nan_policy waits for.", AtLeast(1)] = 20
    jit: Annotated[
        bool,
        "Forward and backward pass compiled by XLA: faster for many models on GPUs, after minutes "
        "of compiling; other bits than without.",
        Section("Arithmetic"),
    ] = False
    # Off by default: Ampere and later would quietly compute float32 convolutions in 10 bits.
    tf32: Annotated[
        bool, "Float32 convolutions and products in TensorFloat-32, 10 bits, on GPUs that have it."
    ] = False
    intra_op_threads: Annotated[
        int | None,
        "CPU threads of one operation; part of the result's bits. Unset: one per core at the "
        "first launch, kept from then on.",
        AtLeast(1),
    ] = None
    steps_per_call: Annotated[
        int,
        "Steps inside one call of the traced function.",
        AtLeast(1),
        Section("Checkpoints and output"),
    ] = field(default=20, compare=False)
    log_every_steps: Annotated[int, "Steps between two lines of metrics.", AtLeast(1)] = field(
        default=20, compare=False
    )
    tensorboard: Annotated[
        bool,
        "Starts TensorBoard beside the run, on port 6006 of 127.0.0.1 or the next that is free, "
        "and prints its address. It ends with the run.",
    ] = field(default=False, compare=False)
    histogram_every: Annotated[
        int, "Steps between two histograms of all weights in TensorBoard. 0: none.", AtLeast(0)
    ] = field(default=0, compare=False)
    profile_steps: Annotated[
        str,
        "Steps that TensorFlow's profiler records for xprof, into the run's folder: 100:110 are "
        "the ten from step 100 on.",
        Matching(r"(\d+:\d+)?", "two numbers of steps, as in 100:110"),
    ] = field(default="", compare=False)
    checkpoint_every_steps: Annotated[
        int | None,
        "Steps between two checkpoints. Unset: after each epoch, and as --checkpoint_every_minutes "
        "says.",
        AtLeast(1),
    ] = field(default=None, compare=False)
    checkpoint_every_minutes: Annotated[
        float,
        "Minutes after which a checkpoint is saved at the next line of metrics, so that a kill "
        "never costs an epoch. 0: not by time.",
        AtLeast(0),
    ] = field(default=10.0, compare=False)
    on_metrics: Annotated[
        str,
        "A function, package.module:function, that gets each line of metrics.jsonl as a dict: for "
        "Weights & Biases, MLflow and the like. What it raises is said, and changes nothing.",
        Matching(rf"({IN_MODULE})?", "package.module:function"),
    ] = field(default="", compare=False)
    keep_checkpoints: Annotated[
        int, "Newest checkpoints that are kept, besides the best.", AtLeast(1)
    ] = field(default=3, compare=False)
    check_replicas: Annotated[
        int,
        "Steps between two comparisons of the replicas: all compute the same micro-batch, and a "
        "difference stops the run and names the device. 0: never.",
        AtLeast(0),
        Section("Faults and stalls"),
    ] = field(default=1000, compare=False)
    hash_every: Annotated[
        int,
        "Steps between two lines of receipt.jsonl: hashes of a step's records, pixels, gradients "
        "and weights, for samestep-compare and samestep-verify. The end of an epoch gets one as "
        "well. 0: no receipt.",
        AtLeast(0),
    ] = field(default=500, compare=False)
    stall_seconds: Annotated[
        float | None,
        "A step that takes longer ends the process, with the stacks of its threads. Unset: 10 "
        "times the median, at least 300.",
        Above(0),
    ] = field(default=None, compare=False)
    start_seconds: Annotated[
        float,
        "Workers that have not connected by then end, and name the missing ones.",
        Above(0),
    ] = field(default=600.0, compare=False)

    def __post_init__(self) -> None:
        check(self, TrainerError)
        if self.profile_steps and not self.profiled:
            raise TrainerError(
                f"--profile_steps={self.profile_steps} holds no step: the second number must be "
                "larger, and is the first step that is not profiled."
            )

    @property
    def profiled(self) -> range:
        """The steps of --profile_steps, from 0."""
        first, _, stop = self.profile_steps.partition(":")
        return range(int(first or 0), int(stop or 0))


@dataclass(frozen=True, kw_only=True)
class ResolvedRun(RunConfig):
    """A RunConfig in which nothing that makes the run another one is unset."""

    # field(): else the default of RunConfig would be its own.
    intra_op_threads: Annotated[int, "As of RunConfig.", AtLeast(1)] = field()


@dataclass(frozen=True)
class Hardware:
    """The devices of one launch; the result does not depend on them."""

    virtual_cpus: Annotated[
        int | None,
        "Replicas on this machine's CPU, to try many-replica training anywhere.",
        AtLeast(1),
        Section("Devices of this launch; the result does not depend on them"),
    ] = None
    gpus: Annotated[
        int | None, "GPUs to use. Unset: every visible one; without any, the CPU.", AtLeast(1)
    ] = None
    virtual_gpus: Annotated[
        int | None,
        "Replicas on each GPU, with equal shares of its free memory, to try many-replica training "
        "on one GPU.",
        AtLeast(1),
    ] = None
    gpu_memory_growth: Annotated[
        bool,
        "GPU memory is taken as it is needed, not all of it at the start; the shares of "
        "--virtual_gpus are always taken whole.",
    ] = True

    def __post_init__(self) -> None:
        check(self, TrainerError)
        for name in ("gpus", "virtual_gpus"):
            if self.virtual_cpus is not None and getattr(self, name) is not None:
                raise TrainerError(
                    f"--virtual_cpus and --{name} exclude each other: leave one of them out."
                )


@dataclass(frozen=True)
class Config:
    """The settings of a run, whatever hardware it runs on."""

    input: InputConfig = field(default_factory=InputConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def of(cls, **given: Any) -> "Config":
        """From settings by their names, as flags have them. Raises InputError, TrainerError."""
        groups = {}
        for name, group in get_type_hints(Config).items():
            own = {setting.name for setting in settings(group)}
            groups[name] = group(**{key: given.pop(key) for key in own & given.keys()})
        if given:
            raise TrainerError(f"There is no setting {', '.join(given)}; samestep-train --help.")
        return Config(**groups)

    def values(self) -> Iterator[tuple[Setting, Any]]:
        """Every setting of all groups, and its value."""
        for name, group in get_type_hints(Config).items():
            for setting in settings(group):
                yield setting, getattr(getattr(self, name), setting.name)


@dataclass(frozen=True)
class ResolvedConfig(Config):
    """A Config in which nothing is unset."""

    input: ResolvedInput
    model: ModelConfig
    optimizer: ResolvedOptimizer
    run: ResolvedRun


@dataclass(frozen=True)
class RunDefinition:
    """What makes a run this run and no other; the content of config.json."""

    config: ResolvedConfig
    classes: tuple[str, ...]
    data: dict[str, str]  # split -> fingerprint of its records
    environment: dict[str, str]  # versions and models of device and CPU at the first launch
    image_dtype: str = "uint8"  # of the records' pixels
    class_weights: tuple[float, ...] = ()  # what --class_weights came to
    initial_weights: str = ""  # the fingerprint of what --init_weights gave
    # Of a model that is code of the user's, at the first launch: SHA-256 of its file, and of what
    # it computes.
    source: str = ""
    graph: str = ""
