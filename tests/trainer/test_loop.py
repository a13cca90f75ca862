"""fit in this process: files, one trace, fallback, finished runs, memory; and its pure parts."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from input.errors import BadRecordError
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from tests.trainer.steps import train_that_counts
from tests.trainer.workers.runs import numbers
from trainer import loop, tracing
from trainer.checkpoint import Checkpoints
from trainer.config import Config, Hardware
from trainer.errors import PreemptedError, TrainerError
from trainer.ledger import Ledger
from trainer.run_dir import load, save
from trainer.run_dir import lock as folder_lock
from trainer.workers import preemption
from trainer.workers.agreement import Sync, Workers
from trainer.workers.watchdog import Pace


def metrics(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_files(finished):
    run_dir, state, _ = finished
    names = {path.name.split(".")[0] for path in run_dir.iterdir()}
    assert {"config", "checkpoints", "metrics", "events", "train", "validation"} <= names
    last = metrics(run_dir)[-1]
    assert (last["step"], last["fingerprint"]) == (15, state.fingerprint)
    assert last["validation/images"] == 43
    steps = [line["step"] for line in metrics(run_dir) if "train/loss" in line]
    assert steps == [5, 10, 15]
    assert (run_dir / "checkpoints" / "step-00000015").is_dir()


def test_everything_is_traced_once(finished):
    train, evaluate = finished.functions
    assert train.experimental_get_tracing_count() == 1
    assert evaluate.experimental_get_tracing_count() == 1


def test_a_finished_run_says_so(finished, data_dir, capsys):
    run_dir, state, _ = finished
    before = numbers(run_dir)
    assert loop.fit(settings(data_dir, run_dir), HARDWARE) == state
    assert numbers(run_dir) == before
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize("replicas", [1, 4])
def test_a_truncated_newest_checkpoint_falls_back_and_ends_the_same(
    finished, data_dir, tmp_path, capsys, replicas
):
    """Resumed from the checkpoint before, on other hardware: the same weights and metrics."""
    run_dir, state, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    newest = copy / "checkpoints" / "step-00000015"
    data = next(newest.glob("weights.data*"))
    data.write_bytes(data.read_bytes()[:-1])
    again = loop.fit(settings(data_dir, copy), Hardware(virtual_cpus=replicas))
    assert "step-00000015 is damaged" in capsys.readouterr().out
    assert again.fingerprint == state.fingerprint
    assert numbers(copy) == numbers(run_dir)


def test_another_config_is_refused(finished, data_dir):
    run_dir = finished.run_dir
    other = settings(data_dir, run_dir, seed=1)
    with pytest.raises(TrainerError, match=r"--seed=1 \(the run has 0\)"):
        loop.fit(other, HARDWARE)


def constant(data_dir, run_dir, epochs: int) -> Config:
    """A rate that stays, after a warm-up of half an epoch."""
    config = settings(data_dir, run_dir)
    return replace(
        config,
        optimizer=replace(config.optimizer, schedule="constant", warmup_epochs=0.5),
        run=replace(config.run, epochs=epochs),
    )


def test_a_run_with_a_constant_rate_can_be_extended(data_dir, tmp_path):
    """The same as with the larger number of epochs from the start."""
    at_once = loop.fit(constant(data_dir, tmp_path / "at_once", 2), HARDWARE)
    run_dir = tmp_path / "extended"
    assert loop.fit(constant(data_dir, run_dir, 1), HARDWARE).step == 5
    longer = loop.fit(constant(data_dir, run_dir, 2), Hardware(virtual_cpus=1))
    assert (longer.step, longer.fingerprint) == (10, at_once.fingerprint)
    assert numbers(run_dir) == numbers(tmp_path / "at_once")
    assert load(run_dir).config.run.epochs == 2
    assert error(loop.fit, constant(data_dir, run_dir, 1), HARDWARE) == (
        f"{run_dir} has done 10 steps, and with --epochs=1 a run has 5. Set at least --epochs=2."
    )
    assert load(run_dir).config.run.epochs == 2


def test_a_run_with_a_cosine_cannot_be_extended(finished, data_dir):
    config = settings(data_dir, finished.run_dir)
    longer = replace(config, run=replace(config.run, epochs=4))
    assert error(loop.fit, longer, HARDWARE) == (
        f"{finished.run_dir} holds another run: --epochs=4 (the run has 3). A cosine schedule ends "
        "with its epochs. To train on from the weights that are there, start in another --run_dir "
        f"with --init_weights={finished.run_dir}."
    )


def test_a_run_whose_definition_is_gone_is_not_begun_anew(finished, data_dir, tmp_path):
    """Under other flags it would be another run with this one's weights."""
    copy = shutil.copytree(finished.run_dir, tmp_path / "run")
    (copy / "config.json").unlink()
    before = sorted(path for path in copy.rglob("*"))
    said = error(loop.fit, settings(data_dir, copy), HARDWARE)
    assert said.startswith(f"{copy} holds a part of a run: {copy}/checkpoints is there, and config")
    assert sorted(path for path in copy.rglob("*")) == before


def test_a_run_that_another_launch_begins_meanwhile_is_not_taken_for_a_new_one(
    finished, data_dir, tmp_path, monkeypatch
):
    def slow_lock(folder):
        shutil.copytree(finished.run_dir, folder)
        return folder_lock(folder)

    monkeypatch.setattr(loop.run_dir, "lock", slow_lock)
    said = error(loop.fit, settings(data_dir, tmp_path / "run"), HARDWARE)
    assert said.startswith(f"Another launch began the run in {tmp_path / 'run'} while this one")


def test_a_config_of_another_run_is_refused(finished, data_dir, tmp_path):
    copy = shutil.copytree(finished.run_dir, tmp_path / "run")
    other = settings(data_dir, copy)
    other = replace(other, optimizer=replace(other.optimizer, learning_rate=0.125))
    first = load(copy)
    optimizer = replace(first.config.optimizer, learning_rate=0.125)
    save(copy, replace(first, config=replace(first.config, optimizer=optimizer)))
    assert "is of another run than config.json beside it" in error(loop.fit, other, HARDWARE)


def test_two_launches_in_one_directory_are_refused(finished, data_dir):
    run_dir = finished.run_dir
    with folder_lock(run_dir), pytest.raises(TrainerError, match="Another process trains"):
        loop.fit(settings(data_dir, run_dir), HARDWARE)


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_a_signal_saves_and_the_run_goes_on(finished, data_dir, tmp_path, monkeypatch, number):
    def advance(*args, original=loop.advance):
        os.kill(os.getpid(), number)
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        with pytest.raises(PreemptedError) as stop:
            loop.fit(settings(data_dir, tmp_path), HARDWARE)
    assert str(stop.value) == (
        f"stopped by {number.name} after step 1 of 15. saved: step 1; the same command goes on"
    )
    assert stop.value.exit_code == 75
    assert (tmp_path / "checkpoints" / "step-00000001").is_dir()
    again = loop.fit(settings(data_dir, tmp_path), HARDWARE)
    assert again.fingerprint == finished.state.fingerprint


def test_a_signal_during_the_evaluation_makes_no_further_step(
    finished, data_dir, tmp_path, monkeypatch
):
    def build(*args, original=loop.evaluate.build_evaluation):
        evaluation = original(*args)

        def interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            return evaluation()

        return interrupted

    with monkeypatch.context() as patch:
        patch.setattr(loop.evaluate, "build_evaluation", build)
        with pytest.raises(PreemptedError, match="saved: step 5; the same command goes on"):
            loop.fit(settings(data_dir, tmp_path), HARDWARE)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert "validation/accuracy" in json.loads(lines[-1])
    again = loop.fit(settings(data_dir, tmp_path), HARDWARE)
    assert again.fingerprint == finished.state.fingerprint


def test_the_moment_of_a_save_changes_nothing(finished, data_dir, tmp_path, monkeypatch):
    """Saved by the clock at every line of metrics, and never."""
    saved = []

    def write(self, step, *args, original=Checkpoints.save, **known):
        saved.append(step)
        return original(self, step, *args, **known)

    monkeypatch.setattr(Checkpoints, "save", write)
    config = settings(data_dir, tmp_path)
    for minutes, expected in ((1e-9, range(1, 16)), (0.0, (5, 10, 15))):
        run = replace(
            config.run,
            run_dir=str(tmp_path / str(minutes)),
            log_every_steps=1,
            checkpoint_every_minutes=minutes,
        )
        state = loop.fit(replace(config, run=run), HARDWARE)
        assert state.fingerprint == finished.state.fingerprint
        assert saved == list(expected)
        saved.clear()


def test_a_shard_that_is_deleted_during_training_is_named(data_dir, tmp_path, monkeypatch):
    """It is the reader that fails, and not the run's folder, whose lock is held around it."""
    shutil.copytree(data_dir, tmp_path / "records")
    shards = list((tmp_path / "records" / "train").glob("*.tfrecord"))

    def training(*args, original=tracing.training):
        for shard in shards:
            shard.unlink()
        return original(*args)

    monkeypatch.setattr(tracing, "training", training)
    with pytest.raises(BadRecordError) as failure:
        loop.fit(settings(tmp_path / "records", tmp_path / "run"), HARDWARE)
    assert failure.value.shard in map(str, shards)
    assert failure.value.reason == "the shard cannot be read: No such file or directory"


def test_an_error_of_the_system_is_not_taken_for_one_of_the_folder(data_dir, tmp_path, monkeypatch):
    def advance(*args):
        raise FileNotFoundError(2, "No such file or directory", "elsewhere")

    monkeypatch.setattr(loop, "advance", advance)
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        loop.fit(settings(data_dir, tmp_path), HARDWARE)
    folder_lock(tmp_path).close()  # and the lock is given back


def test_a_folder_is_needed(data_dir):
    assert error(loop.fit, settings(data_dir), HARDWARE).startswith("--run_dir is missing: ")


def test_memory_stays_in_2000_steps(data_dir, tmp_path):
    """Resident memory of this process over 2,000 real steps, after the first 200."""
    sizes = {}

    def advance(*args, original=loop.advance):
        outcome = original(*args)
        sizes[args[3]] = resident_megabytes()
        return outcome

    config = settings(data_dir, tmp_path, log_every_steps=20, checkpoint_every_steps=500)
    tiny = replace(
        config,
        input=replace(config.input, global_batch_size=4, micro_batch_size=2, image_size=8),
        run=replace(config.run, epochs=50),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        state = loop.fit(tiny, HARDWARE)
    assert state.step == 2000
    assert sizes[2000] - sizes[200] < 50


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Clock(Pace):
    """Every call is said to take a second a step: three fit into the next."""

    def note(self, seconds, steps):
        super().note(float(steps), steps)


def sync_of(strategies, stop_requested=lambda: False) -> Sync:
    return Sync(Workers(strategies[1]), Clock(20, None), stop_requested)


def test_advance_makes_every_step_once_in_calls_as_long_as_agreed(strategies):
    calls, sync = [], sync_of(strategies)
    rows = loop.advance(train_that_counts(calls), None, 5, 13, sync, Ledger())
    assert calls == [(5, 1), (6, 3), (9, 3), (12, 1)]
    assert rows.history.loss.tolist() == list(range(5, 13))
    assert rows.history.hashes.tolist() == [[step] for step in range(5, 13)]
    assert (rows.end, rows.stopping) == (13, False)
    loop.advance(train_that_counts(calls), None, 13, 15, sync, Ledger())
    assert calls[4:] == [(13, 2)], "the next call is as long as was agreed before"


def test_advance_ends_after_the_call_in_which_it_was_asked_to_stop(strategies):
    calls = []
    sync = sync_of(strategies, stop_requested=lambda: len(calls) == 2)
    rows = loop.advance(train_that_counts(calls), None, 0, 100, sync, Ledger())
    assert (rows.end, rows.stopping) == (4, True)
    assert rows.history.loss.tolist() == [0, 1, 2, 3]
