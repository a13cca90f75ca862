"""A table of optimizers, and learning-rate schedules in epochs."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from trainer.lars import Lars
from trainer.recipe import ResolvedOptimizer

# step int64[] -> learning rate float32[]
Schedule = Callable[[tf.Tensor], tf.Tensor]

# What suits each is in trainer.recipe; the learning rate comes from the schedule.
OPTIMIZERS: dict[str, Callable[[ResolvedOptimizer], keras.optimizers.Optimizer]] = {
    "sgd": lambda config: keras.optimizers.SGD(
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay or None,
    ),
    "adam": lambda config: keras.optimizers.Adam(weight_decay=config.weight_decay or None),
    "adamw": lambda config: keras.optimizers.AdamW(weight_decay=config.weight_decay),
    "lamb": lambda config: keras.optimizers.Lamb(weight_decay=config.weight_decay or None),
    "lars": lambda config: Lars(
        momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay
    ),
    "lion": lambda config: keras.optimizers.Lion(weight_decay=config.weight_decay or None),
    # Matrices only; Keras updates all others as adamw does, with the same rate (arXiv:2502.16982).
    "muon": lambda config: keras.optimizers.Muon(
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        adam_weight_decay=config.weight_decay,
        exclude_layers=["^logits/", "^classifier/"],
    ),
    "rmsprop": lambda config: keras.optimizers.RMSprop(
        momentum=config.momentum, weight_decay=config.weight_decay or None
    ),
}


def build_optimizer(config: ResolvedOptimizer, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer of config.optimizer; decays only what has two dimensions or more."""
    optimizer = OPTIMIZERS[config.optimizer](config)
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
