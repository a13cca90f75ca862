"""Steps without finite gradients: the run that stops, and the one that goes back without them.

The records that are to blame have a weight that is no number, and so has their loss.
"""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from input import order
from tests.conftest import error
from tests.trainer.conftest import settings
from trainer import incidents, loop, tracing
from trainer.config import Hardware
from trainer.errors import PreemptedError, TrainerError
from trainer.incidents import Incident, Incidents
from trainer.state import State

BAD = range(7, 9)  # steps, of epochs of 5


@pytest.fixture
def poisoned(monkeypatch):
    """Training in which the records of the steps in BAD are to blame; the first epoch has none."""
    original, draw = tracing.micro_batches, order.training_records

    def training_records(step, micro_batch, plan, seed):
        epoch, records = draw(step, micro_batch, plan, seed)
        whole = replace(plan, left_out=frozenset())
        bad = [draw(each, n, whole, seed)[1] for each in BAD for n in range(plan.micro_batches)]
        if epoch == 0:
            records = np.where(np.isin(records, bad), np.setdiff1d(np.arange(160), bad)[0], records)
        return epoch, records

    def micro_batches(job, plan, first_step, *watchers):
        whole = replace(plan, left_out=frozenset())
        records = set(incidents.records_of(BAD.start, BAD.stop - 1, whole, seed=0))
        poison(job.readers["train"], records)
        return original(job, plan, first_step, *watchers)

    monkeypatch.setattr(order, "training_records", training_records)
    monkeypatch.setattr(tracing, "micro_batches", micro_batches)


def poison(reader, records):
    """Makes the weights of some records NaN."""
    if hasattr(reader, "poisoned"):
        return
    reader.poisoned, read = records, reader.read

    def read_poisoned(indices):
        block = read(indices)
        hit = np.isin(indices, sorted(records))
        weights = np.where(hit, np.nan, block.weights).astype(np.float32)
        return block._replace(weights=weights)

    reader.read = read_poisoned


def config(data_dir, folder, policy, **run):
    given = settings(data_dir, folder, nan_policy=policy, nan_steps=2, log_every_steps=4, **run)
    return replace(given, input=replace(given.input, decoder="tensorflow"))


def log(folder):
    lines = (folder / incidents.INCIDENTS_FILE).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_stops_and_names_the_records(data_dir, tmp_path, poisoned):
    said = error(loop.fit, config(data_dir, tmp_path, "stop"), Hardware(virtual_cpus=2))
    assert said.startswith("steps 7 to 8 had no finite loss or gradients; their records are ")
    assert "and 56 more. Look at them" in said


def test_a_run_goes_back_and_leaves_them_out(data_dir, tmp_path, poisoned, monkeypatch, capsys):
    """On any hardware, and where it is stopped after that: the same weights, the same log."""
    states = []
    for replicas in (1, 2):
        folder = tmp_path / str(replicas)
        states.append(
            loop.fit(config(data_dir, folder, "rollback"), Hardware(virtual_cpus=replicas))
        )
    assert states[0] == replace(states[1], files=states[0].files)
    assert log(tmp_path / "1") == log(tmp_path / "2")
    (found,) = log(tmp_path / "1")
    assert {k: found[k] for k in ("first_step", "last_step", "back_to", "records")} == {
        "first_step": 7,
        "last_step": 8,
        "back_to": 5,
        "records": 64,
    }
    assert "the run goes on from step 5 without them" in capsys.readouterr().out
    lines = [
        json.loads(each) for each in (tmp_path / "1" / "metrics.jsonl").read_text().splitlines()
    ]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == sorted(set(steps))  # what was done again is there once

    def advance(train, iterator, first, *args, original=loop.advance):
        history = original(train, iterator, first, *args)
        if first >= 5 and (tmp_path / "stopped" / incidents.INCIDENTS_FILE).exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return history

    stopping = config(data_dir, tmp_path / "stopped", "rollback")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", advance)
        with pytest.raises(PreemptedError):
            loop.fit(stopping, Hardware(virtual_cpus=1))
    again = loop.fit(stopping, Hardware(virtual_cpus=2))
    assert again.fingerprint == states[0].fingerprint


def test_a_run_goes_back_so_often_and_no_more(data_dir, tmp_path):
    """A rate without bound: no record is to blame."""
    given = config(data_dir, tmp_path, "rollback")
    given = replace(
        given,
        optimizer=replace(given.optimizer, optimizer="sgd", learning_rate=1e30, warmup_epochs=0.0),
    )
    said = error(loop.fit, given, Hardware(virtual_cpus=1))
    assert "The run has gone back 3 times already: its records are not to blame." in said
    assert len(log(tmp_path)) == 3


def test_a_checkpoint_that_an_incident_went_back_from_is_void():
    found = Incidents((Incident(7, 8, 5, 64), Incident(12, 13, 10, 64)))

    def state(step, count):
        return State(step, "run", "f", {}, incidents=count)

    assert found.made_void(state(6, 0)) and not found.made_void(state(5, 0))
    assert not found.made_void(state(9, 1)) and found.made_void(state(12, 1))
    assert not found.made_void(state(14, 2))
    assert not Incidents().made_void(state(6, 0))


def test_a_damaged_log_is_named(tmp_path):
    assert incidents.load(tmp_path) == Incidents()
    one = Incident(7, 8, 5, 64)
    incidents.add(tmp_path, one)
    incidents.add(tmp_path, one)
    assert incidents.load(tmp_path) == Incidents((one, one))
    path = tmp_path / incidents.INCIDENTS_FILE
    path.write_text(path.read_text().replace("64", "65", 1))
    with pytest.raises(TrainerError, match="which records the run leaves out: put back a copy"):
        incidents.load(tmp_path)
