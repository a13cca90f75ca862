"""The receipt of a run: the same on any hardware and after any stop, and it changes nothing."""

import json
import shutil

import pytest

from tests.trainer import receipts
from tests.trainer.receipts import STEPS, settings, train
from trainer import assembly, receipt, run_dir, tracing
from trainer.config import Hardware
from trainer.receipt import RECEIPT_FILE


def lines(run) -> tuple[receipt.Line, ...]:
    found = receipt.load(run, run_dir.identity(run_dir.load(run)))
    assert not found.fault
    return found.lines


def state(run):
    return json.loads((run / "checkpoints" / f"step-{STEPS:08d}" / "state.json").read_text())


def test_there_is_a_line_for_each_step_and_its_weights_are_the_checkpoint_s(recorded):
    found = lines(recorded)
    assert [line.step for line in found] == list(range(1, STEPS + 1))
    assert found[-1].weights == state(recorded)["fingerprint"]
    for kind in receipt.KINDS:
        assert len({getattr(line, kind) for line in found}) == STEPS


@pytest.mark.parametrize("cpus", [2, 4])
def test_it_is_the_same_on_any_number_of_replicas(recorded, data_dir, tmp_path, cpus):
    run = train(data_dir, tmp_path, Hardware(virtual_cpus=cpus))
    assert (run / RECEIPT_FILE).read_bytes() == (recorded / RECEIPT_FILE).read_bytes()


def test_it_is_the_same_after_a_stop_on_other_hardware(recorded, data_dir, tmp_path):
    """The newest checkpoint is gone, and the last line was cut short."""
    run = shutil.copytree(recorded, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / f"step-{STEPS:08d}")
    path = run / RECEIPT_FILE
    path.write_bytes(path.read_bytes()[:-40])
    train(data_dir, run, Hardware(virtual_cpus=2))
    assert path.read_bytes() == (recorded / RECEIPT_FILE).read_bytes()


def test_its_lines_are_those_of_due_steps_and_of_epochs_ends(recorded, data_dir, tmp_path):
    """And the weights are those of a run that hashes each step."""
    found = lines(train(data_dir, tmp_path, hash_every=4, steps_per_call=3))
    assert [line.step for line in found] == [4, 5, 8, 10, 12, 15]
    every = {line.step: line for line in lines(recorded)}
    assert all(line.differing(every[line.step]) == () for line in found)


def test_a_run_without_one_has_the_same_weights(recorded, data_dir, tmp_path):
    run = train(data_dir, tmp_path, hash_every=0)
    assert not (run / RECEIPT_FILE).exists()
    assert state(run)["fingerprint"] == state(recorded)["fingerprint"]


@pytest.mark.parametrize("every", [0, 4])
def test_nothing_of_it_is_in_the_step_of_a_run_without(data_dir, tmp_path, every):
    job = assembly.begin(settings(data_dir, tmp_path, hash_every=every), receipts.HARDWARE)
    training = tracing.training(job)
    trace = tracing.trace(training, tracing.micro_batches(job, training.plan, 0))
    hashes = "StatelessRandomUniformFullIntV2" in str(trace.graph.as_graph_def())
    assert hashes == bool(every)


def test_a_run_that_stops_writing_it_leaves_no_line_of_a_step_that_is_done_again(
    recorded, data_dir, tmp_path
):
    run = shutil.copytree(recorded, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / f"step-{STEPS:08d}")
    train(data_dir, run, hash_every=0)
    assert [line.step for line in lines(run)] == list(range(1, 11))
