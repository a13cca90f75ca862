"""An honest receipt verifies; a changed line, record or checkpoint is named, and so is its step."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from input import order
from input.manifest import Manifest
from tests.conftest import error
from tests.input.conftest import Records
from tests.trainer import receipts
from tests.trainer.receipts import MODEL, PLANTED, settings
from tests.trainer.test_recording import lines
from trainer import receipt, run_dir, verify
from trainer.config import Hardware
from trainer.receipt import KINDS, RECEIPT_FILE, Hashes
from trainer.replay import Replay
from trainer.verify import Window


def verified(run, *asked, hardware=receipts.HARDWARE, **options) -> str:
    window = Window(*asked) if asked else None
    return verify.verify(run, hardware, window, model=MODEL, say=lambda _: None, **options)


def rechained(run: Path, change) -> None:
    """Rewrites the receipt as a forger would: change(list of Hashes) -> the same, with a chain."""
    before = run_dir.identity(run_dir.load(run))
    values = [
        Hashes(**{k: v for k, v in asdict(line).items() if k != "chain"}) for line in lines(run)
    ]
    (run / RECEIPT_FILE).unlink()
    for hashes in change(values):
        line = receipt.chained(before, hashes)
        receipt.append(run, line)
        before = line.chain


@pytest.fixture
def run(recorded, tmp_path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(recorded, tmp_path / "run")


@pytest.mark.parametrize(
    ("asked", "cpus", "recomputed"),
    [
        ((), 1, "steps 11 to 15, from checkpoint step-00000010"),
        ((2, 4), 4, "steps 1 to 4, from the initial weights"),
        ((6, 8), 2, "steps 6 to 8, from checkpoint step-00000005"),
    ],
)
def test_an_honest_run_is_verified_on_any_hardware(recorded, asked, cpus, recomputed):
    said, window = [], Window(*asked) if asked else None
    hardware = Hardware(virtual_cpus=cpus)
    assert verify.verify(recorded, hardware, window, model=MODEL, say=said.append) == ""
    assert said[0] == "receipt      15 lines, steps 1 to 15: an unbroken chain"
    assert said[1] == f"recomputing  {recomputed}"
    assert said[-1].endswith("records, pixels, gradients and weights as recorded")


def test_a_changed_hash_breaks_the_chain(run):
    path = run / RECEIPT_FILE
    texts = path.read_text().splitlines()
    line = json.loads(texts[8])
    texts[8] = json.dumps(line | {"gradients": f"{int(line['gradients'], 16) ^ 1:016x}"})
    path.write_text("\n".join([*texts, ""]))
    assert verified(run) == (
        f"{RECEIPT_FILE}: line 9, of step 9, does not follow from the line before it"
    )


def test_a_changed_hash_in_a_chain_made_anew_is_found_by_computing_its_step(run):
    rechained(run, lambda all: [replace(h, gradients="0" * 16) if h.step == 13 else h for h in all])
    assert verified(run) == (
        "step 13: gradients computed again from checkpoint step-00000010 are not those of the "
        "receipt, records, pixels and weights are"
    )
    assert verified(run, 5, 9) == ""  # which is another window


@pytest.mark.parametrize("vouched", [True, False])
def test_a_changed_record_is_found_where_it_is_used(run, data_dir, tmp_path, vouched):
    """One whose label was changed, with its checksums or without."""
    data = shutil.copytree(data_dir, tmp_path / "data")
    records = Records(data / "train")
    plan = order.plan(settings("", "").input, 160, 1)
    index = int(order.training_records(6, 2, plan, seed=0)[1][5])
    image, label = records.content(index)
    if vouched:
        records.replace(index, image, (label + 1) % 3)
    else:
        records.flip(index, 40)
    said = verified(run, 5, 9, data_dir=str(data))
    if vouched:
        assert said == (
            "step 7: pixels, gradients and weights computed again from checkpoint step-00000005 "
            "are not those of the receipt, records are"
        )
        assert verified(run, 5, 6, data_dir=str(data)) == ""  # where it is not used
    else:
        assert said.startswith(f"Bad record: shard {records.locate(index)[0]}, record {index}, ")


def test_other_records_are_named_where_no_step_of_the_window_shows_it(run, monkeypatch):
    monkeypatch.setattr(Manifest, "fingerprint", "e" * 64)
    said = verified(run, 5, 6)
    own = run_dir.load(run).data["train"]
    assert said == f"the training records are others: {'e' * 16}, and the run's were {own[:16]}"


def resaved(run: Path, step: int, change) -> None:
    """Replaces a checkpoint by one that is as sound, with something changed in it."""
    replay = Replay(run, receipts.HARDWARE, model=MODEL)
    replay.restore(step)
    change(replay)
    state = replay.states[step]
    shutil.rmtree(run / "checkpoints" / f"step-{step:08d}")
    known = {name: getattr(state, name) for name in ("evaluation", "best", "since_best")}
    replay._checkpoints.save(step, **known)


def change_a_weight(replay):
    bias = receipts.weight(replay.job.model, "head/bias")
    bias.assign(bias + 1e-3)


def change_a_slot(replay):
    slot = next(v for v in replay._training.optimizer.variables if v.shape == (3,))
    slot.assign(slot + 1e-3)


def test_a_changed_checkpoint_is_found_beside_its_line(run):
    resaved(run, 10, change_a_weight)
    assert verified(run).startswith("checkpoint step-00000010: its weights are ")


def test_a_changed_checkpoint_is_found_on_the_way(run):
    rechained(run, lambda all: [h for h in all if h.step in (5, 14)])
    resaved(run, 10, change_a_weight)
    assert verified(run, 5, 12) == (
        "checkpoint step-00000010: not the weights that the run had there"
    )


def test_a_changed_optimizer_is_found_in_the_next_step(run):
    resaved(run, 10, change_a_slot)
    assert verified(run) == (
        "step 11: weights computed again from checkpoint step-00000010 are not those of the "
        "receipt, records, pixels and gradients are"
    )


def test_a_damaged_checkpoint_is_named(run):
    data = next((run / "checkpoints" / "step-00000015").glob("weights.data*"))
    data.write_bytes(data.read_bytes()[:-1])
    assert verified(run) == f"checkpoint step-00000015: {data.name} is not what was written"


@pytest.mark.parametrize("name", ["weight", "gradient"])
def test_a_device_that_computed_wrongly_is_found_at_its_step(planted, name):
    said = verified(planted[name], 0, 15)
    first = PLANTED[name].kinds
    assert said.startswith(f"step 7: {receipt.listed(first)} computed again from the initial")


def test_a_run_that_has_no_receipt_cannot_be_verified(run):
    (run / RECEIPT_FILE).unlink()
    assert error(verified, run).startswith(f"{run} has no receipt yet: a run writes receipt.jsonl")


@pytest.mark.parametrize(
    ("asked", "window"),
    [
        (None, (20, 40)),  # a checkpoint without a line behind it is of no use
        ((0, 1), (0, 10)),
        ((19, 20), (0, 20)),
        ((20, 21), (20, 30)),
        ((21, 30), (20, 30)),
        ((39, 40), (20, 40)),
    ],
)
def test_a_window_begins_at_a_checkpoint_and_ends_at_a_line(asked, window):
    steps = Window(*asked) if asked else None
    assert verify.window([10, 20, 30, 40], [20, 40], steps) == window


def test_a_window_ends_before_the_receipt_does():
    assert error(verify.window, [10, 20], [], Window(14, 21)) == (
        "--steps=15:21: the receipt ends at step 20, and no later step can be checked."
    )
    assert verify.window([10, 20], [], None) == (0, 20)


@pytest.mark.parametrize("kind", KINDS)
def test_only_kinds_that_are_the_same_each_time_are_compared(kind):
    """Without op determinism a GPU has other gradients each time."""
    line = receipt.chained("", Hashes(5, "r", "p", "g", "w"))
    other = replace(Hashes(5, "r", "p", "g", "w"), **{kind: "other"})
    assert verify.of_step(other, line, KINDS, "step 0").startswith(f"step 5: {kind} computed again")
    found = verify.of_step(other, line, KINDS[:2], "step 0")
    assert bool(found) == (kind in ("records", "pixels"))
