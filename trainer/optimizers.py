"""A table of Keras optimizers, and learning-rate schedules in epochs."""

from collections.abc import Callable

import keras
import tensorflow as tf

from trainer.config import OptimizerConfig

# step int64[] -> learning rate float32[]
Schedule = Callable[[tf.Tensor], tf.Tensor]

# The learning rate comes from the schedule.
OPTIMIZERS: dict[str, Callable[[OptimizerConfig], keras.optimizers.Optimizer]] = {
    "sgd": lambda config: keras.optimizers.SGD(
        momentum=config.momentum, weight_decay=config.weight_decay or None
    ),
    "adamw": lambda config: keras.optimizers.AdamW(weight_decay=config.weight_decay),
}


def build_optimizer(config: OptimizerConfig, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer of config.optimizer; decays only what has two dimensions or more."""
    optimizer = OPTIMIZERS[config.optimizer](config)
    # Biases and the scales of norms: decay would pull them from 1 and 0 for no gain (Goyal et al.
    # 2017, arXiv:1706.02677, sec. 5.3).
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) < 2])
    return optimizer


def build_schedule(config: OptimizerConfig, steps_per_epoch: int, epochs: int) -> Schedule:
    """Linear warm-up from 0, then a half cosine down to 0 at the last step, or constant."""
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    decay_steps = max(1, epochs * steps_per_epoch - warmup_steps)
    peak = config.learning_rate
    if config.schedule == "cosine":
        after = keras.optimizers.schedules.CosineDecay(peak, decay_steps)
    else:

        def after(step: tf.Tensor) -> tf.Tensor:
            return tf.constant(peak)

    def learning_rate(step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rate = after(tf.maximum(step - warmup_steps, 0.0))
        if warmup_steps:
            # The first step has a rate above 0, the last of the warm-up the peak.
            rate = tf.where(step < warmup_steps, peak * (step + 1.0) / warmup_steps, rate)
        return rate

    return learning_rate
