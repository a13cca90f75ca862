"""Training from the first step to the last, through any number of stops."""

import dataclasses
import fcntl
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import tensorflow as tf

from input import pipeline
from input.errors import InputError
from trainer import assembly, audit, config, evaluate, optimizers, preemption, step
from trainer.agreement import Workers, naming_lost_workers
from trainer.assembly import TRAIN, VALIDATION, Job, Training
from trainer.checkpoint import Checkpoints, State, fingerprint
from trainer.config import Config, Hardware, Stored
from trainer.errors import PreemptedError, TrainerError
from trainer.monitor import Monitor
from trainer.watchdog import Pace, bounded


def fit(settings: Config, hardware: Hardware) -> State:
    """Trains a run to its end, from its newest checkpoint if there is one.

    Whatever the hardware and however often it was stopped: the same weights. Returns the last
    checkpoint's state. Every worker of a run calls it. Raises PreemptedError after SIGTERM.
    """
    run_dir = Path(settings.run.run_dir)
    if not settings.run.run_dir:
        raise TrainerError("--run_dir is missing: the folder that gets everything the run makes.")
    stored = config.find(run_dir)
    with naming_lost_workers():
        job = assembly.begin(settings, hardware, stored)
        training = assembly.training(job)
        own = Stored(job.config, job.classes, job.data, job.environment, job.image_dtype)
        alone = _only_launch(run_dir) if job.workers.chief else nullcontext()
        with preemption.watched() as stop_wanted, alone:
            chief = Stored.from_json(job.workers.from_chief(own.to_json()))
            config.check_workers(chief, own, job.workers.index)
            if stored is None and job.workers.chief:
                config.save(run_dir, own)
            return _train(job, training, stored or own, stop_wanted)


def _train(job: Job, training: Training, stored: Stored, stop_wanted: Callable[[], bool]) -> State:
    run, run_dir = job.config.run, Path(job.config.run.run_dir)
    plan, train, workers = training.plan, training.train, job.workers
    total_steps = plan.steps_per_epoch * run.epochs
    checkpoints = Checkpoints(run_dir, job.model, training.optimizer, run.keep_checkpoints)
    state = _restore(checkpoints, workers)
    done = state.step if state else 0

    with Monitor(run_dir, total_steps, plan.steps_per_epoch, done, workers.chief) as monitor:
        reader = job.readers[TRAIN]
        evaluation = evaluate.build(
            job.strategy, job.model, job.config.input, job.readers[VALIDATION], workers
        )
        iterator = assembly.micro_batches(job, plan, done)
        trace = train.get_concrete_function(iterator, *_int64(done, 1))
        monitor.card("samestep", _start_rows(job, plan, total_steps, stored, state, trace))
        pace = Pace(run.steps_per_call, run.stall_seconds)
        budget = job.config.input.max_bad_records

        def meet() -> bool:
            """Between two calls: how many steps the next one has, and whether to stop instead."""
            own = [stop_wanted(), pace.proposal(), len(reader.bad_records)]
            wanted, proposals, bad = workers.gather(own).T
            pace.steps = int(proposals[0])
            check_bad_records(workers, reader.bad_records, int(bad.max()), budget)
            return bool(wanted.any())

        seen_bad: set[int] = set()
        while True:
            if state and state.step == done and done % plan.steps_per_epoch == 0:
                if state.evaluation is None:
                    steps = job.readers[VALIDATION].records / plan.images_per_step
                    with bounded(pace.limit(steps), f"The evaluation at {done} stalled."):
                        result = evaluation()
                    if workers.chief:
                        checkpoints.note_evaluation(state, result.to_json())
                    state = dataclasses.replace(state, evaluation=result.to_json())
                result = evaluate.Result(**state.evaluation)
                monitor.evaluation(done, evaluate.metrics(state.evaluation), state.fingerprint)
                monitor.report(
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
                done, stopping = advance(
                    train, iterator, done, stop, pace, meet, training.rate, monitor
                )
            for number in sorted(reader.bad_records.keys() - seen_bad):
                monitor.say(f"left out: {reader.bad_records[number]}")
                seen_bad.add(number)
            if (
                stopping
                or done % plan.steps_per_epoch == 0
                or due(done, run.checkpoint_every_steps)
            ):
                with bounded(pace.limit(0), f"The checkpoint of step {done} stalled."):
                    state = _save(checkpoints, done, job)
            if stopping:
                raise PreemptedError(
                    f"stopped by SIGTERM after step {done} of {total_steps}, which is saved; the "
                    "same command goes on from there"
                )
        monitor.card("finished", _end_rows(run_dir, state, checkpoints))
    return state


def _restore(checkpoints: Checkpoints, workers: Workers) -> State | None:
    """The newest checkpoint that worker 0 finds sound, loaded by every worker."""
    found = checkpoints.restore() if workers.chief else None
    content = workers.from_chief(dataclasses.asdict(found) if found else None)
    if content is None:
        return None
    state = State(**content)
    if not workers.chief:
        checkpoints.load(state)
    return state


def _save(checkpoints: Checkpoints, step: int, job: Job) -> State:
    """Worker 0 writes the checkpoint of a step; the others wait until it is there."""
    workers = job.workers
    if workers.count > 1:
        own = int(fingerprint(job.model)[:15], 16)
        found = workers.gather([own])[:, 0]
        others = np.flatnonzero(found != found[0])
        if len(others):
            raise RuntimeError(
                f"After step {step} the workers {others.tolist()} have other weights than worker "
                "0. Their hardware may be at fault; if it is not, please report this."
            )
    state = checkpoints.save(step) if workers.chief else None
    return State(**workers.from_chief(dataclasses.asdict(state) if state else None))


def check_bad_records(workers: Workers, own: Collection[int], most: int, budget: int) -> None:
    """Raises InputError where the workers together have met more bad records than are allowed.

    own: the numbers of this worker's. most: how many the worker with most of them has met.
    """
    if workers.count == 1 or most == 0:
        return  # a reader keeps to the budget itself
    row = [*sorted(own), *[-1] * (most - len(own))]
    met = set(workers.gather(row).ravel().tolist()) - {-1}
    if len(met) > budget:
        raise InputError(
            f"The workers have met {len(met)} bad records, each named where it was read; "
            f"--max_bad_records={budget} allows fewer."
        )


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
    pace: Pace,
    meet: Callable[[], bool],
    rate: optimizers.Schedule,
    monitor: Monitor,
) -> tuple[int, bool]:
    """Runs the steps first..stop-1, in calls that keep the pace, and reports them as one line.

    Returns the number of the next step, and whether all workers are to stop there.
    """
    start, done, stopping = time.monotonic(), first, False
    calls = []
    while done < stop and not stopping:
        steps, begin = min(pace.steps, stop - done), time.monotonic()
        with bounded(pace.limit(steps), f"Step {done} or one of the next stalled."):
            history = train(iterator, *_int64(done, steps))
            calls.append([column.numpy() for column in history])
            pace.note(time.monotonic() - begin, steps)
            stopping = meet()
        done += steps
    history = step.History(*(np.concatenate(column) for column in zip(*calls, strict=True)))
    seconds = time.monotonic() - start
    monitor.training(done, _summary(history, seconds, float(rate(tf.constant(done - 1)))))
    return done, stopping


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
    workers = f"{job.workers.count} workers, each " if job.workers.count > 1 else ""
    yield (
        "devices",
        f"{workers}{len(job.devices)} x {job.environment['device']}: {', '.join(job.devices)}; "
        f"TensorFlow sees {gpus or 'no'} GPU{'s' * (gpus != 1)}",
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
