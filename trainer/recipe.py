"""The settings of how a run learns, and what suits each optimizer. No TensorFlow here."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from input.foundation.settings import Above, AtLeast, AtMost, Below, Section, check
from input.foundation.text import counted
from trainer.errors import TrainerError

OptimizerName = Literal["sgd", "adam", "adamw", "lamb", "lars", "lion", "muon", "rmsprop"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer, its schedule, and the loss that it minimises."""

    # adamw: learns at one rate where sgd needs another for every model (docs/learning.md).
    optimizer: Annotated[
        OptimizerName, "How gradients change the weights.", Section("Optimizer")
    ] = "adamw"
    learning_rate: Annotated[
        float | None,
        "Peak learning rate, after the warm-up. Unset: --learning_rate_per_256 for this global "
        "batch.",
        AtLeast(0),
    ] = None
    learning_rate_per_256: Annotated[
        float | None,
        "Peak learning rate at 256 images a step. It grows with the global batch for sgd and lars, "
        "with its square root for the others. Unset: one that suits the optimizer.",
        AtLeast(0),
    ] = None
    momentum: Annotated[float, "Momentum of sgd, lars, muon and rmsprop.", AtLeast(0), Below(1)] = (
        0.9
    )
    nesterov: Annotated[bool, "Nesterov's momentum, for sgd, lars and muon."] = True
    weight_decay: Annotated[
        float | None,
        "Weight decay of matrices and filters, decoupled from the gradient; biases and norms have "
        "none. Unset: what suits the optimizer.",
        AtLeast(0),
    ] = None
    warmup_epochs: Annotated[
        float | None,
        "Epochs of linear warm-up from 0. Unset: a tenth of the run, at most 5.",
        AtLeast(0),
        Section("Learning-rate schedule"),
    ] = None
    schedule: Annotated[
        Literal["cosine", "linear", "polynomial", "step", "constant"],
        "The learning rate after the warm-up.",
    ] = "cosine"
    schedule_power: Annotated[float, "Exponent of --schedule=polynomial.", Above(0)] = 2.0
    step_epochs: Annotated[
        float | None,
        "Epochs from one drop of --schedule=step to the next. Unset: a third of the run.",
        Above(0),
    ] = None
    step_factor: Annotated[float, "What --schedule=step multiplies with.", Above(0), AtMost(1)] = (
        0.1
    )
    final_fraction: Annotated[
        float,
        "Fraction of the peak at which cosine, linear and polynomial schedules end.",
        AtLeast(0),
        AtMost(1),
    ] = 0.0
    clip_norm: Annotated[
        float,
        "Largest global norm of the mean gradient; 0 does not clip.",
        AtLeast(0),
        Section("Optimizer"),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        "Fraction of the target that is spread over all classes.",
        AtLeast(0),
        Below(1),
        Section("Loss and averages"),
    ] = 0.0
    class_weights: Annotated[
        str,
        "What each image's loss is multiplied with, by its class. balanced: the inverse of the "
        'class\'s share of train; FILE.json: {"class": weight, ..}, 1 where it names none.',
    ] = ""
    ema_decay: Annotated[
        float,
        "Decay of an exponential moving average of the weights, which is evaluated and exported "
        "beside them; 0.9999 is usual for long runs. 0: none.",
        AtLeast(0),
        Below(1),
    ] = 0.0

    layer_decay: Annotated[
        float,
        "What the learning rate is multiplied with from each block of the network to the one "
        "before it, for fine-tuning; 0.75 is usual for vit.",
        Above(0),
        AtMost(1),
        Section("Fine-tuning"),
    ] = 1.0
    head_learning_rate_scale: Annotated[
        float, "What the learning rate of the classifier is multiplied with.", Above(0)
    ] = 1.0

    def __post_init__(self) -> None:
        check(self, TrainerError)

    @property
    def open_ended(self) -> bool:
        """Whether no step's learning rate depends on the run's number of epochs."""
        return self.schedule in ("step", "constant")


@dataclass(frozen=True, kw_only=True)
class ResolvedOptimizer(OptimizerConfig):
    """An OptimizerConfig in which nothing that has a default is unset."""

    # field(): else the defaults of OptimizerConfig would be theirs.
    learning_rate: Annotated[float, "As of OptimizerConfig.", AtLeast(0)] = field()
    weight_decay: Annotated[float, "As of OptimizerConfig.", AtLeast(0)] = field()
    warmup_epochs: Annotated[float, "As of OptimizerConfig.", AtLeast(0)] = field()
    step_epochs: Annotated[float, "As of OptimizerConfig.", Above(0)] = field()


IMAGES = 256  # a step, to which the rates below belong
WARMUP_SHARE, LONGEST_WARMUP = 0.1, 5.0  # of the run; epochs (Goyal et al. 2017, sec. 2.2)


class Suited(NamedTuple):
    """What an optimizer gets where nothing else is asked for."""

    rate: float  # at IMAGES images a step
    linear: bool  # whether the rate grows with the batch, not with its square root
    decay: float


# The rate grows with the batch where a step is the gradient times a number (Goyal et al. 2017,
# arXiv:1706.02677), and with its square root where a step has the same size whatever the
# gradient's (Malladi et al. 2022, arXiv:2205.10287).
SUITED: dict[str, Suited] = {
    # He et al. 2016 have a decay of 1e-4 in the gradient, which momentum 0.9 applies ten times.
    "sgd": Suited(rate=0.1, linear=True, decay=1e-3),
    "adam": Suited(rate=0.004, linear=False, decay=0.0),
    # Measured on digits, Fashion-MNIST and photographs: docs/learning.md.
    "adamw": Suited(rate=0.004, linear=False, decay=0.05),
    # Wightman et al. 2021 (arXiv:2110.00476), A2: 5e-3 at 2,048 images a step.
    "lamb": Suited(rate=0.00175, linear=False, decay=0.02),
    # MLPerf's ResNet-50: 9 at 4,096 images a step.
    "lars": Suited(rate=0.5, linear=True, decay=5e-5),
    # Chen et al. 2023 (arXiv:2302.06675): a tenth of adamw's rate, ten times its decay.
    "lion": Suited(rate=0.0004, linear=False, decay=0.5),
    "muon": Suited(rate=0.004, linear=False, decay=0.05),
    # Momentum 0.9 makes ten of a step: a tenth of adam's rate.
    "rmsprop": Suited(rate=0.0004, linear=False, decay=0.0),
}


def resolve(config: OptimizerConfig, images_per_step: int, epochs: int) -> ResolvedOptimizer:
    """Fills in what the command line left unset, at the first launch. Raises TrainerError."""
    suited = SUITED[config.optimizer]
    rate, per_256 = config.learning_rate, config.learning_rate_per_256
    if rate is None and per_256 is None:
        per_256 = suited.rate
    if per_256 is not None:
        batches = images_per_step / IMAGES
        scaled = per_256 * (batches if suited.linear else math.sqrt(batches))
        if rate not in (None, scaled):
            raise TrainerError(
                f"--learning_rate={rate:g} and --learning_rate_per_256={per_256:g}, which is "
                f"{scaled:g} here, exclude each other: leave one of them out."
            )
        rate = scaled
    warmup, decay = config.warmup_epochs, config.weight_decay
    return ResolvedOptimizer(
        **{
            **vars(config),
            "learning_rate": rate,
            "learning_rate_per_256": per_256,
            "weight_decay": suited.decay if decay is None else decay,
            "warmup_epochs": min(WARMUP_SHARE * epochs, LONGEST_WARMUP)
            if warmup is None
            else warmup,
            "step_epochs": config.step_epochs or epochs / 3,
        }
    )


def shown(config: ResolvedOptimizer, images_per_step: int) -> str:
    """In one line: what it is, and what its rate would be with another batch."""
    per_256, suited = config.learning_rate_per_256, SUITED[config.optimizer]
    rule = ""
    if per_256 is not None:
        growth = "in proportion" if suited.linear else "as its square root"
        rule = f" ({per_256:g} at {IMAGES} images a step, growing with them {growth})"
    return (
        f"{config.optimizer}, learning rate {config.learning_rate:g} at {images_per_step} images a "
        f"step{rule}, {counted(config.warmup_epochs, 'epoch')} of warm-up, then {config.schedule}; "
        f"weight decay {config.weight_decay:g}"
    )
