"""The settings of how a run learns: optimizer, schedule, loss. No TensorFlow here."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from input.foundation.settings import Above, AtLeast, AtMost, Below, check
from trainer.errors import TrainerError

OptimizerName = Literal["sgd", "adam", "adamw", "lamb", "lars", "lion", "muon", "rmsprop"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer, its schedule, and the loss that it minimises."""

    # adamw: learns at one rate where sgd needs another for every model (docs/learning.md).
    optimizer: Annotated[OptimizerName, "How gradients change the weights."] = "adamw"
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
        float, "Largest global norm of the mean gradient; 0 does not clip.", AtLeast(0)
    ] = 0.0
    label_smoothing: Annotated[
        float, "Fraction of the target that is spread over all classes.", AtLeast(0), Below(1)
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
