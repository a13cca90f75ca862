"""fit in this process: files, one trace, fallback, finished runs, memory; and its pure parts."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tests.conftest import THREADS

from input.config import InputConfig
from input.errors import InputError
from models.config import ModelConfig
from trainer import evaluate, loop, step
from trainer.config import Config, EvaluateConfig, Hardware, OptimizerConfig, RunConfig
from trainer.errors import PreemptedError, TrainerError
from trainer.workers.watchdog import Pace

HARDWARE = Hardware(virtual_cpus=2)


def settings(data_dir, run_dir, **run) -> Config:
    return Config(
        InputConfig(data_dir=str(data_dir), global_batch_size=32, micro_batch_size=8),
        ModelConfig("cnn", dropout=0.2),
        OptimizerConfig(learning_rate=0.05),
        RunConfig(run_dir=str(run_dir), epochs=3, intra_op_threads=THREADS, **run),
    )


@pytest.fixture(scope="module")
def traces():
    """Trace counts of every train and evaluate function that the module's runs build."""
    functions = []
    patch = pytest.MonkeyPatch()
    for name in ("build_train", "build_evaluate"):
        original = getattr(step, name)

        def build(*args, original=original, **kwargs):
            functions.append(original(*args, **kwargs))
            return functions[-1]

        patch.setattr(step, name, build)
    yield functions
    patch.undo()


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory, traces):
    """A run of 3 epochs of 5 steps on 2 virtual CPUs, never stopped."""
    run_dir = tmp_path_factory.mktemp("finished")
    state = loop.fit(settings(data_dir, run_dir), HARDWARE)
    return run_dir, state


def metrics(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def without_times(lines):
    times = ("images_per_second", "seconds_per_step")
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


def test_a_run_leaves_its_files(finished):
    run_dir, state = finished
    names = {path.name.split(".")[0] for path in run_dir.iterdir()}
    assert {"config", "checkpoints", "metrics", "events"} <= names
    last = metrics(run_dir)[-1]
    assert (last["step"], last["fingerprint"]) == (15, state.fingerprint)
    assert last["validation/images"] == 43
    steps = [line["step"] for line in metrics(run_dir) if "train/loss" in line]
    assert steps == [5, 10, 15]
    assert (run_dir / "checkpoints" / "step-00000015").is_dir()


def test_everything_is_traced_once(finished, traces):
    assert len(traces) >= 2
    assert [function.experimental_get_tracing_count() for function in traces] == [1] * len(traces)


def test_a_finished_run_says_so(finished, data_dir, capsys):
    run_dir, state = finished
    before = metrics(run_dir)
    assert loop.fit(settings(data_dir, run_dir), HARDWARE) == state
    assert metrics(run_dir) == before
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize("replicas", [1, 4])
def test_a_truncated_newest_checkpoint_falls_back_and_ends_the_same(
    finished, data_dir, tmp_path, capsys, replicas
):
    """Resumed from the checkpoint before, on other hardware: the same weights and metrics."""
    run_dir, state = finished
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    newest = copy / "checkpoints" / "step-00000015"
    data = next(newest.glob("weights.data*"))
    data.write_bytes(data.read_bytes()[:-1])
    again = loop.fit(settings(data_dir, copy), Hardware(virtual_cpus=replicas))
    assert "step-00000015 is damaged" in capsys.readouterr().out
    assert again.fingerprint == state.fingerprint
    assert without_times(metrics(copy)) == without_times(metrics(run_dir))


def test_evaluation_of_the_directory_is_that_of_the_run(finished):
    run_dir, state = finished
    for replicas in (1, 2):
        result = evaluate.evaluate_run(
            EvaluateConfig(run_dir=str(run_dir)), Hardware(virtual_cpus=replicas)
        )
        assert result.to_json() == state.evaluation


def test_another_config_is_refused(finished, data_dir):
    run_dir, _ = finished
    other = settings(data_dir, run_dir, seed=1)
    with pytest.raises(TrainerError, match=r"--seed=1 \(the run has 0\)"):
        loop.fit(other, HARDWARE)


def test_two_launches_in_one_directory_are_refused(finished, data_dir):
    run_dir, _ = finished
    with loop._only_launch(run_dir), pytest.raises(TrainerError, match="Another process trains"):
        loop.fit(settings(data_dir, run_dir), HARDWARE)


def test_sigterm_saves_and_the_run_goes_on(finished, data_dir, tmp_path, monkeypatch):
    def advance(*args, original=loop.advance):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        with pytest.raises(PreemptedError, match="stopped by SIGTERM after step 1 of 15") as stop:
            loop.fit(settings(data_dir, tmp_path), HARDWARE)
    signal.signal(signal.SIGTERM, before)  # a process that stops ignores further ones
    assert stop.value.exit_code == 75
    assert (tmp_path / "checkpoints" / "step-00000001").is_dir()
    _, undisturbed = finished
    assert loop.fit(settings(data_dir, tmp_path), HARDWARE).fingerprint == undisturbed.fingerprint


class Gathered:
    """Workers that have met these bad records."""

    def __init__(self, *met: list[int]):
        self.count, self._met = len(met), met

    def gather(self, own):
        rows = [[*row, *[-1] * (len(own) - len(row))] for row in self._met]
        assert own == rows[0]
        return np.array(rows)


def test_the_workers_share_one_budget_of_bad_records():
    same = Gathered([3, 5], [5])
    loop.check_bad_records(same, {5: "", 3: ""}, most=2, budget=2)
    with pytest.raises(InputError, match=r"met 3 bad records.*--max_bad_records=2"):
        loop.check_bad_records(Gathered([3, 5], [7]), {3: "", 5: ""}, most=2, budget=2)


def test_calls_keep_a_pace_and_a_limit():
    pace = Pace(steps_per_call=20, stall_seconds=None)
    assert (pace.steps, pace.limit(1)) == (1, 300)
    pace.note(30, 1)  # the first call is slow
    for _ in range(2):
        pace.note(5, 10)
    assert pace.proposal() == 6
    assert pace.limit(6) == 300 + 6 * 0.5
    pace = Pace(steps_per_call=20, stall_seconds=8)
    pace.note(0.02, 20)
    assert pace.proposal() == 20
    assert pace.limit(20) == pytest.approx(8.02)
    slow = Pace(steps_per_call=20, stall_seconds=None)
    slow.note(100, 1)
    assert (slow.proposal(), slow.limit(1)) == (1, 1100)


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


@pytest.mark.parametrize(
    ("done", "total", "periods", "expected"),
    [
        (0, 100, (20, None, 62), 20),
        (60, 100, (20, None, 62), 62),
        (62, 100, (20, None, 62), 80),
        (80, 100, (50, 7, 62), 84),
        (98, 100, (50, 7, 62), 100),
        (99, 99, (20,), 99),
    ],
)
def test_next_stop(done, total, periods, expected):
    assert loop.next_stop(done, total, *periods) == expected


@pytest.mark.parametrize(
    ("done", "every", "expected"), [(10, 5, True), (11, 5, False), (10, None, False)]
)
def test_due(done, every, expected):
    assert loop.due(done, every) is expected


@pytest.mark.gpu
@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="no GPU on this machine")
def test_gpus_run_the_same_code(data_dir, tmp_path):
    deterministic = settings(data_dir, tmp_path, deterministic=True)
    one = loop.fit(deterministic, Hardware(gpus=1))
    shutil.rmtree(tmp_path)
    assert loop.fit(deterministic, Hardware(gpus=1)).fingerprint == one.fingerprint
