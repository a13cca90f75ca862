"""Training from the first step to the last, through any number of stops."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from input import pipeline
from trainer import assembly, audit, config, evaluate, optimizers, step
from trainer.assembly import TRAIN, VALIDATION, Job, Training
from trainer.checkpoint import Checkpoints, State
from trainer.config import Config, Hardware, Stored
from trainer.errors import TrainerError
from trainer.monitor import Monitor


def fit(settings: Config, hardware: Hardware) -> State:
    """Trains a run to its end, from its newest checkpoint if there is one.

    Whatever the hardware and however often it was stopped: the same weights. Returns the last
    checkpoint's state.
    """
    run_dir = Path(settings.run.run_dir)
    if not settings.run.run_dir:
        raise TrainerError("--run_dir is missing: the folder that gets everything the run makes.")
    stored = config.find(run_dir)
    job = assembly.begin(settings, hardware, stored)
    training = assembly.training(job)
    with _only_launch(run_dir):
        if stored is None:
            stored = Stored(job.config, job.classes, job.data, job.environment, job.image_dtype)
            config.save(run_dir, stored)
        return _train(job, training, stored)


def _train(job: Job, training: Training, stored: Stored) -> State:
    run, run_dir = job.config.run, Path(job.config.run.run_dir)
    plan, train = training.plan, training.train
    total_steps = plan.steps_per_epoch * run.epochs
    checkpoints = Checkpoints(run_dir, job.model, training.optimizer, run.keep_checkpoints)
    state = checkpoints.restore()
    done = state.step if state else 0

    with Monitor(run_dir, total_steps, plan.steps_per_epoch, done) as monitor:
        reader = job.readers[TRAIN]
        evaluation = evaluate.build(
            job.strategy, job.model, job.config.input, job.readers[VALIDATION]
        )
        iterator = assembly.micro_batches(job, plan, done)
        trace = train.get_concrete_function(iterator, *_int64(done, 1))
        monitor.card("samestep", _start_rows(job, plan, total_steps, stored, state, trace))
        seen_bad: set[int] = set()
        while True:
            if state and state.step == done and done % plan.steps_per_epoch == 0:
                if state.evaluation is None:
                    state = checkpoints.note_evaluation(state, evaluation().to_json())
                result = evaluate.Result(**state.evaluation)
                monitor.evaluation(done, evaluate.metrics(state.evaluation), state.fingerprint)
                monitor.say(
                    f"epoch {done // plan.steps_per_epoch}: {result}, loss {result.loss:.4f}"
                )
            if done == total_steps:
                break
            stop = next_stop(
                done,
                total_steps,
                run.log_every_steps,
                run.checkpoint_every_steps,
                plan.steps_per_epoch,
            )
            with pipeline.naming_bad_records(reader):
                advance(train, iterator, done, stop, run.steps_per_call, training.rate, monitor)
            done = stop
            for number in sorted(reader.bad_records.keys() - seen_bad):
                monitor.say(f"left out: {reader.bad_records[number]}")
                seen_bad.add(number)
            if done % plan.steps_per_epoch == 0 or due(done, run.checkpoint_every_steps):
                state = checkpoints.save(done)
        monitor.card("finished", _end_rows(run_dir, state, checkpoints))
    return state


def due(done: int, every: int | None) -> bool:
    """Whether something that happens every so many steps happens after this one."""
    return every is not None and done % every == 0


def next_stop(done: int, total: int, *periods: int | None) -> int:
    """The next step after which anything is due: the nearest multiple of a period, or the end."""
    return min(total, *(done - done % every + every for every in periods if every))


def advance(
    train: Callable[..., step.History],
    iterator: Iterator,
    first: int,
    stop: int,
    steps_per_call: int,
    rate: optimizers.Schedule,
    monitor: Monitor,
) -> None:
    """Runs the steps first..stop-1 and reports them as one line of metrics."""
    start = time.monotonic()
    calls = [
        train(iterator, *_int64(begin, min(steps_per_call, stop - begin)))
        for begin in range(first, stop, steps_per_call)
    ]
    history = step.History(*(np.concatenate(column) for column in zip(*calls, strict=True)))
    seconds = time.monotonic() - start
    monitor.training(stop, _summary(history, seconds, float(rate(tf.constant(stop - 1)))))


def _summary(history: step.History, seconds: float, learning_rate: float) -> dict[str, float]:
    """One line of metrics over some steps; skipped steps have no part in the means."""
    applied = history.applied > 0
    images = history.images[applied].sum()
    steps = len(applied)
    mean = lambda values: float(np.mean(values[applied])) if applied.any() else float("nan")  # noqa: E731
    return {
        "train/loss": mean(history.loss),
        "train/accuracy": float(history.correct[applied].sum() / images)
        if images
        else float("nan"),
        "train/gradient_norm": mean(history.gradient_norm),
        "train/learning_rate": learning_rate,
        "train/skipped_steps": steps - int(applied.sum()),
        "images_per_second": float(history.images.sum() / seconds),
        "seconds_per_step": seconds / steps,
    }


def _start_rows(job, plan, total_steps, stored, state, trace) -> Iterator[tuple[str, str]]:
    inputs, run, manifest = job.config.input, job.config.run, job.manifests[TRAIN]
    gpus = len(tf.config.list_physical_devices("GPU"))
    yield (
        "devices",
        f"{len(job.devices)} x {job.environment['device']}: {', '.join(job.devices)}; TensorFlow "
        f"sees {gpus or 'no'} GPU{'s' * (gpus != 1)}",
    )
    yield (
        "batch",
        f"{plan.images_per_step} images a step = {plan.micro_batches} micro-batches of "
        f"{plan.images_per_micro_batch}, {plan.draws_per_step} per replica",
    )
    yield (
        "elsewhere",
        f"--micro_batch_size={inputs.micro_batch_size} --intra_op_threads={run.intra_op_threads} "
        f"give the same run on {plan.replica_counts} devices",
    )
    yield "steps", f"{plan.steps_per_epoch} an epoch, {total_steps} in all"
    yield "records", f"{manifest.records} to train, {job.readers[VALIDATION].records} to validate"
    yield "per class", _counts(manifest)
    parameters = sum(int(np.prod(v.shape)) for v in job.model.trainable_variables)
    yield (
        "model",
        f"{job.config.model.model}, {parameters:,} parameters, {inputs.image_size} pixels, "
        f"{run.precision}",
    )
    found = audit.audit(trace)
    yield "audit", f"the batch is as the pipeline made it up to {', '.join(found.layers)}"
    yield "start", f"step {state.step}, {state.fingerprint[:16]}" if state else "step 0, a new run"
    for name, value in job.environment.items():
        before = stored.environment.get(name)
        if before != value:
            yield (
                "attention",
                f"{name} was {before} at the first launch and is {value} now: the bits may differ "
                "from those of an undisturbed run",
            )


def _counts(manifest, shown: int = 12) -> str:
    pairs = [f"{c} {n}" for c, n in zip(manifest.classes, manifest.records_per_class, strict=True)]
    more = f", and {len(pairs) - shown} more classes" if len(pairs) > shown else ""
    return ", ".join(pairs[:shown]) + more


def _end_rows(run_dir: Path, state: State, checkpoints: Checkpoints) -> Iterator[tuple[str, str]]:
    yield "result", str(evaluate.Result(**state.evaluation))
    best = checkpoints.best()
    yield "best", f"{evaluate.Result(**best.evaluation)} at step {best.step}"
    yield "weights", f"fingerprint {state.fingerprint}"
    yield "run", str(run_dir)
    yield "watch", f"tensorboard --logdir {run_dir}"
    yield "export", f"samestep-export --run_dir={run_dir} --out={run_dir / 'export'}"


def _int64(*numbers: int) -> tuple[tf.Tensor, ...]:
    """Tensors: a Python number would be traced anew for every value."""
    return tuple(tf.constant(number, tf.int64) for number in numbers)


@contextmanager
def _only_launch(run_dir: Path) -> Iterator[None]:
    """Two launches in one run directory would write over each other.

    Makes the directory; what the system refuses there becomes a TrainerError.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrainerError(
                    f"Another process trains in {run_dir}. Wait for it, stop it, or use another "
                    "--run_dir."
                ) from None
            yield
    except OSError as error:
        raise TrainerError(
            f"--run_dir={run_dir} cannot be written: {error}. Repair that and run the same command "
            "again, or use another --run_dir."
        ) from error
