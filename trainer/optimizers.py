"""A table of optimizers with what suits each, and learning-rate schedules in epochs."""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from trainer.errors import TrainerError
from trainer.lars import Lars
from trainer.recipe import OptimizerConfig, ResolvedOptimizer

# step int64[] -> learning rate float32[]
Schedule = Callable[[tf.Tensor], tf.Tensor]

IMAGES = 256  # a step, to which the rates below belong
WARMUP_SHARE, LONGEST_WARMUP = 0.1, 5.0  # of the run; epochs (Goyal et al. 2017, sec. 2.2)


class Entry(NamedTuple):
    """An optimizer, and what it gets where nothing else is asked for."""

    build: Callable[[ResolvedOptimizer], keras.optimizers.Optimizer]
    rate: float  # at IMAGES images a step
    linear: bool  # whether the rate grows with the batch, not with its square root
    decay: float


# The learning rate comes from the schedule. It grows with the batch where a step is the gradient
# times a number (Goyal et al. 2017, arXiv:1706.02677), and with its square root where a step has
# the same size whatever the gradient's (Malladi et al. 2022, arXiv:2205.10287).
OPTIMIZERS: dict[str, Entry] = {
    # He et al. 2016 have a decay of 1e-4 in the gradient, which momentum 0.9 applies ten times.
    "sgd": Entry(
        lambda config: keras.optimizers.SGD(
            momentum=config.momentum,
            nesterov=config.nesterov and config.momentum > 0,
            weight_decay=config.weight_decay or None,
        ),
        rate=0.1,
        linear=True,
        decay=1e-3,
    ),
    "adam": Entry(
        lambda config: keras.optimizers.Adam(weight_decay=config.weight_decay or None),
        rate=0.004,
        linear=False,
        decay=0.0,
    ),
    # Measured on digits, Fashion-MNIST and photographs: docs/learning.md.
    "adamw": Entry(
        lambda config: keras.optimizers.AdamW(weight_decay=config.weight_decay),
        rate=0.004,
        linear=False,
        decay=0.05,
    ),
    # Wightman et al. 2021 (arXiv:2110.00476), A2: 5e-3 at 2,048 images a step.
    "lamb": Entry(
        lambda config: keras.optimizers.Lamb(weight_decay=config.weight_decay or None),
        rate=0.00175,
        linear=False,
        decay=0.02,
    ),
    # MLPerf's ResNet-50: 9 at 4,096 images a step.
    "lars": Entry(
        lambda config: Lars(
            momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay
        ),
        rate=0.5,
        linear=True,
        decay=5e-5,
    ),
    # Chen et al. 2023 (arXiv:2302.06675): a tenth of adamw's rate, ten times its decay.
    "lion": Entry(
        lambda config: keras.optimizers.Lion(weight_decay=config.weight_decay or None),
        rate=0.0004,
        linear=False,
        decay=0.5,
    ),
    # Matrices only; Keras updates all others as adamw does, with the same rate (arXiv:2502.16982).
    "muon": Entry(
        lambda config: keras.optimizers.Muon(
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            adam_weight_decay=config.weight_decay,
            exclude_layers=["^logits/", "^classifier/"],
        ),
        rate=0.004,
        linear=False,
        decay=0.05,
    ),
    # Momentum 0.9 makes ten of a step: a tenth of adam's rate.
    "rmsprop": Entry(
        lambda config: keras.optimizers.RMSprop(
            momentum=config.momentum, weight_decay=config.weight_decay or None
        ),
        rate=0.0004,
        linear=False,
        decay=0.0,
    ),
}


def resolve(config: OptimizerConfig, images_per_step: int, epochs: int) -> ResolvedOptimizer:
    """Fills in what the command line left unset, at the first launch. Raises TrainerError."""
    entry = OPTIMIZERS[config.optimizer]
    rate, per_256 = config.learning_rate, config.learning_rate_per_256
    if rate is None and per_256 is None:
        per_256 = entry.rate
    if per_256 is not None:
        batches = images_per_step / IMAGES
        scaled = per_256 * (batches if entry.linear else math.sqrt(batches))
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
            "weight_decay": entry.decay if decay is None else decay,
            "warmup_epochs": min(WARMUP_SHARE * epochs, LONGEST_WARMUP)
            if warmup is None
            else warmup,
            "step_epochs": config.step_epochs or epochs / 3,
        }
    )


def shown(config: ResolvedOptimizer, images_per_step: int) -> str:
    """In one line: what it is, and what its rate would be with another batch."""
    per_256, entry = config.learning_rate_per_256, OPTIMIZERS[config.optimizer]
    rule = ""
    if per_256 is not None:
        growth = "in proportion" if entry.linear else "as its square root"
        rule = f" ({per_256:g} at {IMAGES} images a step, growing with them {growth})"
    return (
        f"{config.optimizer}, learning rate {config.learning_rate:g} at {images_per_step} images a "
        f"step{rule}, {config.warmup_epochs:g} epochs of warm-up, then {config.schedule}; weight "
        f"decay {config.weight_decay:g}"
    )


def build_optimizer(config: ResolvedOptimizer, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer of config.optimizer; decays only what has two dimensions or more."""
    optimizer = OPTIMIZERS[config.optimizer].build(config)
    # Biases and the scales of norms: decay would pull them from 1 and 0 for no gain (Goyal et al.
    # 2017, arXiv:1706.02677, sec. 5.3).
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) < 2])
    return optimizer


def build_schedule(config: ResolvedOptimizer, steps_per_epoch: int, epochs: int) -> Schedule:
    """Linear warm-up from 0, then the schedule, which ends after the last step.

    With p from 0 at the end of the warm-up to 1 at the end of the run, cosine is
    (1 + cos(pi p)) / 2, linear 1 - p, polynomial (1 - p)**power, scaled to end at the final
    fraction. step counts its epochs from the run's start.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    decay_steps = max(1, epochs * steps_per_epoch - warmup_steps)
    drop_steps = max(1, round(config.step_epochs * steps_per_epoch))
    peak, final = config.learning_rate, config.final_fraction

    down = {
        "cosine": lambda done: 0.5 * (1.0 + tf.cos(math.pi * done)),
        "linear": lambda done: 1.0 - done,
        "polynomial": lambda done: (1.0 - done) ** config.schedule_power,
    }

    def shape(step: tf.Tensor) -> tf.Tensor:
        if config.schedule == "constant":
            return tf.ones_like(step)
        if config.schedule == "step":
            return config.step_factor ** tf.floor(step / drop_steps)
        done = tf.clip_by_value((step - warmup_steps) / decay_steps, 0.0, 1.0)
        return final + (1.0 - final) * down[config.schedule](done)

    def learning_rate(step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rate = peak * shape(step)
        if warmup_steps:
            # The first step has a rate above 0, the last of the warm-up the peak.
            rate = tf.where(step < warmup_steps, peak * (step + 1.0) / warmup_steps, rate)
        return rate

    return learning_rate
