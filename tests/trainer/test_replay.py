"""Steps that are computed again have the hashes that they had, from any checkpoint and in parts."""

import shutil

import numpy as np
import pytest

from input import order
from tests.conftest import error
from tests.trainer import receipts
from tests.trainer.receipts import MODEL, STEPS, settings
from tests.trainer.test_recording import lines
from trainer import assembly, incidents
from trainer.config import Hardware
from trainer.receipt import KINDS
from trainer.replay import Replay, recompute


@pytest.fixture(scope="module")
def whole(recorded):
    """All steps, on two replicas."""
    return recompute(recorded, Hardware(virtual_cpus=2), 1, STEPS, MODEL)


def test_every_step_has_the_hashes_that_it_had(recorded, whole):
    assert (whole.start, whole.notes) == (0, ())
    for step, line in zip(whole.steps, lines(recorded), strict=True):
        assert step.hashes.differing(line) == ()


def test_nothing_is_written(recorded, whole):
    names = {path.name for path in recorded.rglob("*")}
    recompute(recorded, receipts.HARDWARE, 14, 15, MODEL)
    assert {path.name for path in recorded.rglob("*")} == names


def test_any_checkpoint_before_them_gives_the_same_steps_and_parts(recorded, whole):
    again = recompute(recorded, receipts.HARDWARE, 8, 12, MODEL)
    assert again.start == 5
    assert again.steps == whole.steps[7:12]


def test_the_parts_are_records_slots_and_variables_by_their_names(whole):
    step = whole.steps[6]
    assert tuple(step.parts) == KINDS
    plan = order.plan(settings("", "").input, 160, 1)
    records = np.concatenate(
        [order.training_records(6, number, plan, seed=0)[1] for number in range(4)]
    )
    assert [part.hash for part in step.parts["records"]] == [f"record {n}" for n in records]
    assert step.parts["pixels"][11].name == f"the image in slot 11, record {records[11]}"
    names = [part.name for part in step.parts["gradients"]]
    assert names[:5] == ["conv/kernel", "norm/gamma", "norm/beta", "head/kernel", "head/bias"]
    assert names[5:7] == [f"the change of norm/moving_{name}" for name in ("mean", "variance")]
    assert len(names) == 11
    total = sum(int(part.hash, 16) for part in step.parts["gradients"]) % 2**64
    assert f"{total:016x}" == step.hashes.gradients
    assert {part.name for part in step.parts["weights"]} == {
        name.removeprefix("the change of ") for name in names[:7]
    }


def test_other_bits_have_a_reason_where_the_run_was_elsewhere(recorded, monkeypatch):
    monkeypatch.setattr(assembly, "device_kind", lambda names: "another")
    said = list(Replay(recorded, receipts.HARDWARE, model=MODEL).notes())
    assert said == ["device was CPU and is another here: the bits may differ"]


def test_code_of_the_user_s_is_not_run_unasked(recorded):
    said = error(Replay, recorded, receipts.HARDWARE)
    assert said.endswith(f"Where you trust that, repeat it: --model={MODEL}")


def test_a_step_is_computed_without_the_records_that_were_left_out_by_then(recorded, tmp_path):
    """An incident in the second epoch: its records are missing from there on, and not before."""
    run = shutil.copytree(recorded, tmp_path / "run")
    incidents.add(run, incidents.Incident(first_step=6, last_step=6, back_to=5, records=32))
    replay = Replay(run, receipts.HARDWARE, model=MODEL)
    assert list(replay.states) == [5]  # the later ones are void
    replay.restore(0)
    steps = list(replay.steps(3, 8))
    left_out = [sum(part.hash == "record -1" for part in step.parts["records"]) for step in steps]
    assert left_out[:2] == [0, 0]
    assert left_out[3] == 32  # step 7, whose records they are
    assert steps[0].hashes.records == lines(recorded)[3].records
