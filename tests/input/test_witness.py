"""The witness notes what the pipeline hands on, slot by slot, and changes nothing of it."""

import hashlib

import numpy as np
import pytest

from input import order, pipeline
from input.config import ResolvedInput
from input.manifest import Manifest
from input.reader import RecordReader
from input.witness import Witness

SEED, FIRST, STEPS = 3, 9, 4  # the third step is the first of the next epoch
CONFIG = ResolvedInput(
    global_batch_size=16, micro_batch_size=4, image_size=12, mixup=0.2, augment="standard"
)


@pytest.fixture(scope="module")
def reader(data_dir) -> RecordReader:
    return RecordReader(Manifest.load(data_dir / "train"))


def due(step):
    """Every other one: of an int, or of a tensor."""
    return step % 2 == 0


@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (4, 2)])
def test_every_slot_of_a_due_step_is_noted_as_it_was_handed_on(reader, replicas, workers):
    plan = order.plan(CONFIG, reader.records, replicas)
    local = plan.draws_per_step * order.local_replicas(plan, workers)
    for worker in range(workers):
        place = {"seed": SEED, "first_step": FIRST, "worker": worker, "worker_count": workers}
        witness = Witness(due)
        watched = pipeline.train(CONFIG, reader, plan, **place, witness=witness)
        alone = pipeline.train(CONFIG, reader, plan, **place)
        count = STEPS * local
        pairs = zip(
            *(each.take(count).as_numpy_iterator() for each in (watched, alone)), strict=True
        )
        handed_on = {}
        for draw, (batch, same) in enumerate(pairs, FIRST * local):
            for column, other in zip(batch, same, strict=True):
                np.testing.assert_array_equal(column, other)
            handed_on[order.micro_batch(draw, plan, worker, workers)] = batch
        for step in range(FIRST, FIRST + STEPS):
            noted = witness.take(step)
            numbers = [number for at, number in handed_on if at == step] if due(step) else []
            assert sorted(noted) == sorted(numbers)
            for number, seen in noted.items():
                _, records = order.training_records(step, number, plan, SEED)
                np.testing.assert_array_equal(seen.records, records)
                slots = zip(*handed_on[step, number], strict=True)
                whole = [b"".join(column.tobytes() for column in slot) for slot in slots]
                assert list(seen.contents) == [hashlib.sha256(each).digest() for each in whole]


def test_what_was_taken_is_forgotten_and_so_is_what_came_before():
    witness = Witness(lambda step: True)
    pixels = np.zeros((2, 3, 3, 3), np.uint8)
    for step in (4, 5, 6):
        witness.note_records((step, 0), np.array([step, -1]))
        witness.note_content((step, 0), pixels, np.arange(2), np.ones(2, np.float32))
    assert witness.take(5)[0].records.tolist() == [5, -1]
    assert [witness.take(step) for step in (4, 5)] == [{}, {}]
    assert list(witness.take(6)) == [0]


@pytest.mark.parametrize("column", range(3))
def test_a_slot_s_hash_is_of_its_pixels_label_and_weight(column):
    columns = [np.zeros((2, 3, 3, 3), np.uint8), np.zeros(2, np.int32), np.ones(2, np.float32)]
    witness = Witness(lambda step: True)

    def contents():
        witness.note_records((0, 0), np.arange(2))
        witness.note_content((0, 0), *columns)
        return witness.take(0)[0].contents

    before = contents()
    assert before[0] == before[1]
    columns[column].ravel()[-1] += 1
    after = contents()
    assert (after[0], after[1] == before[1]) == (before[0], False)
