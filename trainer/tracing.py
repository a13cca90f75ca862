"""A job's step and what it is made of, up to its trace."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from input import order, pipeline
from input.order import Plan
from input.splits import TRAIN
from input.witness import Witness
from models.inspection import assigned_variables
from trainer import calendar, crosscheck, internals, iterators, optimizers, rates, step
from trainer.assembly import Job
from trainer.averages import Averages
from trainer.config import Config, ResolvedConfig
from trainer.loss_scale import LossScale
from trainer.micro_batch import MicroBatch
from trainer.waits import Waits


@dataclass(frozen=True)
class Training:
    """A job's step, and what it is made of."""

    plan: Plan
    schedule: optimizers.Schedule
    optimizer: keras.optimizers.Optimizer
    micro_batch: MicroBatch
    averages: Averages | None
    train: step.Train


def training(job: Job, hash_tensors: bool = False) -> Training:
    """The step of a job. hash_tensors: a hash for each part of a hashed step's sum.

    Raises InputError where its batch does not fit its devices.
    """
    config = job.config
    replicas = job.strategy.num_replicas_in_sync
    plan = order.plan(config.input, job.readers[TRAIN].records, replicas)
    order.local_replicas(plan, job.workers.count)
    schedule = optimizers.build_schedule(config.optimizer, plan.steps_per_epoch, config.run.epochs)
    with job.strategy.scope():
        optimizer = optimizers.build_optimizer(config.optimizer, job.model)
        loss_scale = LossScale() if config.run.precision == "float16" else None
        its_micro_batch = micro_batch(
            job.model, plan, config, job.definition.class_weights, loss_scale
        )
    averages = averages_of(job.model, config, job.strategy)
    due = calendar.hashes_due(config.run.hash_every, plan.steps_per_epoch)
    hashing = step.Hashing(due, hash_tensors) if due else None
    train = _step(job, its_micro_batch, optimizer, schedule, averages, hashing)
    return Training(plan, schedule, optimizer, its_micro_batch, averages, train)


def without_hashes(job: Job, training: Training) -> step.Train:
    """The step of a training, on the same model and optimizer, that hashes nothing."""
    return _step(
        job,
        training.micro_batch,
        training.optimizer,
        training.schedule,
        training.averages,
        hashing=None,
    )


def _step(
    job: Job,
    micro_batch: MicroBatch,
    optimizer: keras.optimizers.Optimizer,
    schedule: optimizers.Schedule,
    averages: Averages | None,
    hashing: step.Hashing | None,
) -> step.Train:
    settings = job.config.optimizer
    return step.build_train(
        job.strategy,
        micro_batch,
        optimizer,
        schedule,
        clip_norm=settings.clip_norm,
        averages=averages,
        rate_scales=rates.scales(
            job.model,
            head=settings.head_learning_rate_scale,
            layer_decay=settings.layer_decay,
        ),
        hashing=hashing,
    )


def averages_of(
    model: keras.Model, config: ResolvedConfig, strategy: tf.distribute.Strategy
) -> Averages | None:
    """Of what training changes in a model; None where --ema_decay asks for none."""
    if not config.optimizer.ema_decay:
        return None
    assigned = assigned_variables(model, config.input.micro_batch_size)
    statistics = [v for v in assigned if not internals.is_seed(v)]
    with strategy.scope():
        return Averages(
            strategy, [*model.trainable_variables, *statistics], config.optimizer.ema_decay
        )


def micro_batch(
    model: keras.Model,
    plan: Plan,
    config: Config,
    class_weights: Sequence[float] = (),
    loss_scale: LossScale | None = None,
) -> MicroBatch:
    """What a micro-batch of a run computes. Raises ModelError, TrainerError."""
    return MicroBatch(
        model,
        statistics=statistics(model, plan),
        images_per_step=plan.images_per_step,
        micro_batches=plan.micro_batches,
        seed=config.run.seed,
        label_smoothing=config.optimizer.label_smoothing,
        reduction=config.run.reduction,
        class_weights=class_weights,
        loss_scale=loss_scale,
        jit=config.run.jit,
    )


def statistics(model: keras.Model, plan: Plan) -> list[keras.Variable]:
    """The moving statistics that a model assigns in training. Raises ModelError."""
    assigned = assigned_variables(model, plan.images_per_micro_batch)
    return [variable for variable in assigned if not internals.is_seed(variable)]


def micro_batches(
    job: Job,
    plan: Plan,
    first_step: int,
    waits: Waits | None = None,
    witness: Witness | None = None,
) -> Iterator[Any]:
    """A distributed iterator over the training micro-batches from a step on.

    They are timed by `waits`, and noted by the witness.
    """
    batches = partial(dataset, job, plan, first_step, witness)
    return (waits or Waits()).iterator(job.strategy, batches)


def dataset(
    job: Job, plan: Plan, first_step: int = 0, witness: Witness | None = None
) -> tf.data.Dataset:
    """The training micro-batches of this worker from a step on, in host memory; endless."""
    return pipeline.train(
        job.config.input,
        job.readers[TRAIN],
        plan,
        seed=job.config.run.seed,
        first_step=first_step,
        worker=job.workers.index,
        worker_count=job.workers.count,
        witness=witness,
    )


def trace(training: Training, iterator: Iterator[Any]) -> Any:
    """The concrete function of a step, whatever its numbers."""
    zero, one = tf.constant(0, tf.int64), tf.constant(1, tf.int64)
    return training.train.get_concrete_function(iterator, zero, one)


def comparison(job: Job, training: Training) -> Callable[[int], None]:
    """Returns compare(step): all replicas compute one micro-batch of that step, and must agree.

    The first call traces; the steps of the next ones follow by job.compare_every. Raises
    TrainerError, naming the devices, where they do not agree.
    """
    run, plan, workers = job.config.run, training.plan, job.workers
    compare_replicas = crosscheck.build_crosscheck(job.strategy, training.micro_batch)
    names = [
        f"worker {worker} {device}" if workers.count > 1 else device
        for worker in range(workers.count)
        for device in job.devices
    ]
    made: list[Iterator[Any]] = []  # by the first call

    def batches(first_step: int) -> tf.data.Dataset:
        return pipeline.compared(
            job.config.input,
            job.readers[TRAIN],
            plan,
            seed=run.seed,
            first_step=first_step,
            every_steps=run.check_replicas,
            worker_count=workers.count,
        )

    def compare(step: int) -> None:
        if not made:
            made.append(iterators.distributed(job.strategy, lambda: batches(step)))
        number = order.compared_micro_batch(step, plan, run.seed)
        found = compare_replicas(
            made[0], tf.constant(step, tf.int64), tf.constant(number, tf.int64)
        )
        crosscheck.judge(found.numpy(), names, step)

    return compare
