"""Training from the first step to the last, through any number of stops."""

import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from input import pipeline
from input.arrays import ArrayReader
from input.foundation.text import counted
from input.splits import TRAIN, VALIDATION
from trainer import (
    assembly,
    audit,
    calendar,
    cards,
    chief,
    evaluate,
    findings,
    hooks,
    incidents,
    launches,
    recording,
    run_dir,
    step,
    tracing,
    transfer,
)
from trainer.assembly import Job
from trainer.board import server
from trainer.board.show import Show
from trainer.checkpoint import Checkpoints
from trainer.config import Config, Hardware, RunDefinition
from trainer.errors import TrainerError
from trainer.hooks import Hook
from trainer.incidents import Incidents, RollBackError
from trainer.ledger import Ledger
from trainer.monitor import Monitor
from trainer.rows import Rows, summary
from trainer.skips import Skips
from trainer.state import State
from trainer.tracing import Training
from trainer.waits import Waits
from trainer.workers import preemption, progress
from trainer.workers.agreement import Sync, naming_lost_workers
from trainer.workers.preemption import Stop
from trainer.workers.watchdog import Pace, bounded


def fit(
    config: Config,
    hardware: Hardware,
    arrays: Mapping[str, ArrayReader] | None = None,
    hook: Hook | None = None,
) -> State:
    """Trains a run to its end, from its newest checkpoint if there is one.

    Whatever the hardware and however often it was stopped: the same weights. Returns the last
    checkpoint's state. Every worker of a run calls it. Raises PreemptedError after a signal.
    arrays: see assembly.begin. hook: in place of --on_metrics.
    """
    folder = run_dir.named(config.run)
    first = run_dir.find(folder)
    hook = hook or hooks.load(config.run.on_metrics)
    with naming_lost_workers():
        job = assembly.begin(config, hardware, first, arrays)
        if job.workers.chief:
            print("tracing the step", file=sys.stderr, flush=True)  # 2 to 40 s without a line
        return train(job, tracing.training(job), first, hook)


def train(job: Job, training: Training, first: RunDefinition | None, hook: Hook | None) -> State:
    """Trains a job, whose step is built, as fit does. first: the definition in the run's folder."""
    run, workers, own = job.config.run, job.workers, job.definition
    folder = Path(run.run_dir)
    lock = run_dir.lock(folder) if workers.chief else nullcontext()
    shown = run.tensorboard and workers.chief
    with preemption.watched() as stop, lock, server.beside(folder, shown):
        if workers.chief:
            run_dir.check_complete(folder, first)
        whole = workers.from_chief(RunDefinition, own)
        run_dir.check_workers(whole or own, own, workers.index)
        while True:
            try:
                return _from_checkpoint(job, training, first, stop, hook)
            except RollBackError:
                first = run_dir.find(folder)


def _from_checkpoint(
    job: Job, training: Training, first: RunDefinition | None, stop: Stop, hook: Hook | None
) -> State:
    run, folder, workers = job.config.run, Path(job.config.run.run_dir), job.workers
    before = workers.from_chief(Incidents, incidents.load(folder) if workers.chief else None)
    assert before is not None  # worker 0 has read them, or raised
    plan = dataclasses.replace(
        training.plan, left_out=incidents.left_out(before, training.plan, run.seed)
    )
    reader, rolls_back = job.readers[TRAIN], run.nan_policy == "rollback"
    total_steps = plan.steps_per_epoch * run.epochs
    checkpoints = Checkpoints(
        folder,
        run_dir.identity(first or job.definition),
        job.model,
        training.optimizer,
        run.keep_checkpoints,
        epoch=plan.steps_per_epoch if rolls_back else None,
        averages=training.averages,
        loss_scale=training.micro_batch.loss_scale,
    )
    state = chief.restore(checkpoints, workers, before)
    done, stop.saved = state.step if state else 0, state.step if state else None
    if done > total_steps:
        raise TrainerError(
            f"{folder} has done {counted(done, 'step')}, and with --epochs={run.epochs} a run has "
            f"{total_steps}. Set at least --epochs={math.ceil(done / plan.steps_per_epoch)}."
        )
    transferred = None if state else transfer.transfer(job, first)
    definition = chief.define(job, first, transferred)
    if training.averages and not state:
        training.averages.start()
    if rolls_back and not state:  # there has to be something to go back to
        state = chief.save(checkpoints, 0, job, None)

    evaluation = evaluate.build_evaluation(
        job.strategy, job.model, job.config.input, job.readers[VALIDATION], workers
    )
    waits = Waits()
    recorder = recording.Recorder(job, plan, done, run_dir.identity(definition))
    iterator = tracing.micro_batches(job, plan, done, waits, recorder.witness)
    trace = tracing.trace(training, iterator)
    pace = Pace(run.steps_per_call, run.stall_seconds)
    budget = job.config.input.max_bad_records
    clock = calendar.SaveClock(run.checkpoint_every_minutes)
    sync = Sync(
        *(workers, pace, lambda: stop.requested, clock.due, reader.bad_records, budget),
        lambda: waits.seconds,
    )

    compare = tracing.comparison(job, training)
    limit = None if run.nan_policy == "skip" else run.nan_steps
    skips = Skips(
        plan.steps_per_epoch,
        plan.micro_batches,
        limit,
        lambda step: not incidents.records_of(step, step, plan, run.seed),
        first=state.skipped_from if state else 0,
        in_a_row=state.skipped if state else 0,
    )
    begins = workers.chief and done < total_steps
    restarts = launches.add(folder, done, job.devices, workers.count) if begins else 0
    with (
        Monitor(folder, total_steps, plan.steps_per_epoch, done, workers.chief, hook) as monitor,
        Show(monitor.board, job, plan) as show,
    ):
        found = audit.audit(trace, job.model)
        monitor.card("samestep", cards.start_rows(job, plan, found, state, definition, transferred))
        show.start(done)
        train = show.profiled(training.train)
        ledger = Ledger(waits.exact)
        while True:
            if state and state.step == done and done and done % plan.steps_per_epoch == 0:
                if state.evaluation is None:
                    steps = job.readers[VALIDATION].records / plan.images_per_step
                    with (
                        bounded(pace.limit(2 * steps), f"The evaluation at {done} stalled."),
                        ledger.part("evaluating"),
                    ):
                        state, seen = evaluate.evaluated(state, evaluation, training.averages)
                    if workers.chief:
                        findings.save(folder, state, seen)
                        checkpoints.note(state)
                monitor.evaluation(state, ledger.line())
                ended = evaluate.stops_early(state, run.stop_after, done < total_steps)
                show.evaluation(state, last=bool(ended) or done == total_steps)
                if ended:
                    monitor.say(ended)
                    break
            if done == total_steps:
                break
            if state and state.step == done and sync.sync():  # during the start or the evaluation
                raise stop.preempted(done, total_steps)
            show.micro_batch(done)
            periods = (
                *(run.log_every_steps, run.histogram_every, run.checkpoint_every_steps),
                *(job.compare_every, run.hash_every, plan.steps_per_epoch),
            )
            end = calendar.next_stop(done, total_steps, *periods)
            with pipeline.naming_bad_records(reader):
                rows = advance(train, iterator, done, end, sync, ledger)
            done = rows.end
            counts = {"run/restarts": restarts, "run/bad_records": sync.bad_records}
            monitor.training(done, summary(rows, training.schedule) | counts | ledger.line())
            if workers.chief and (warning := ledger.warning()):
                monitor.say(f"warning: {warning}")
            monitor.bad_records(reader.bad_records)
            show.weights(done)
            recorder.note(done, rows.history, pace)
            if skipped := skips.note(rows.history, done):
                say = print if workers.chief else None
                incidents.act(skipped, before, run, plan, checkpoints.last_of_an_epoch, say)
            if calendar.due(done, job.compare_every) and not rows.stopping:
                with (
                    bounded(pace.limit(1), f"The comparison of the replicas at {done} stalled."),
                    ledger.part("device"),
                    pipeline.naming_bad_records(reader),
                ):
                    compare(done)
            if (
                rows.stopping
                or sync.saving
                or done % plan.steps_per_epoch == 0
                or calendar.due(done, run.checkpoint_every_steps)
            ):
                with (
                    bounded(pace.limit(0), f"The checkpoint of step {done} stalled."),
                    ledger.part("saving"),
                ):
                    state = chief.save(
                        checkpoints,
                        done,
                        job,
                        state,
                        skipped=skips.in_a_row,
                        skipped_from=skips.first,
                        incidents=len(before.found),
                    )
                stop.saved = done
                if workers.chief:
                    progress.report(done)
                clock.restart()
            if rows.stopping:
                raise stop.preempted(done, total_steps)
        assert state is not None  # there is at least one step
        at_end = cards.end_rows(folder, state, checkpoints.best(), job.config)
        monitor.finish("finished", at_end, below=cards.again(job.config))
    return state


def advance(
    train: step.Step, iterator: Iterator[Any], first: int, stop: int, sync: Sync, ledger: Ledger
) -> Rows:
    """Runs the steps first..stop-1, or fewer where a worker was asked to stop."""
    start, done, stopping = time.monotonic(), first, False
    calls = []
    while done < stop and not stopping:
        steps, begin = min(sync.steps, stop - done), time.monotonic()
        with bounded(sync.pace.limit(steps), f"Step {done} or one of the next stalled."):
            history = train(iterator, *_int64(done, steps))
            calls.append([column.numpy() for column in history])
            seconds = time.monotonic() - begin
            sync.pace.note(seconds, steps)
            stopping = sync.sync()
            ledger.call(steps, seconds, sync.waited)
        done += steps
    columns = (np.concatenate(column) for column in zip(*calls, strict=True))
    return Rows(step.History(*columns), time.monotonic() - start, done, stopping)


def _int64(*numbers: int) -> tuple[tf.Tensor, ...]:
    """Tensors: a Python number would be traced anew for every value."""
    return tuple(tf.constant(number, tf.int64) for number in numbers)
