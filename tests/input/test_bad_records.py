"""A bad record stops the run or costs its own slot alone; any other failure stops the run."""

import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline
from input.config import ResolvedInput
from input.errors import BadRecordError
from input.manifest import Manifest
from input.reader import RecordReader
from input.views import crop
from input.views.crop import train_view
from tests.input.conftest import (
    IN_DECODING,
    IN_READING,
    check_names,
    payload_byte,
    undecodable_jpeg,
    undecodable_png,
)

CONFIG = ResolvedInput(global_batch_size=16, micro_batch_size=8, image_size=12)
EPOCH = 160 // 8  # micro-batches
SEED = 3


def batches(reader, count=EPOCH, config=CONFIG):
    """Some micro-batches as NumPy arrays."""
    plan = order.plan(config, reader.records, 1)
    dataset = pipeline.train(config, reader, plan, seed=SEED)
    return list(dataset.take(count).as_numpy_iterator())


@pytest.fixture(scope="module")
def undamaged(data_dir):
    return batches(RecordReader(Manifest.load(data_dir / "train")), EPOCH + 4)


@pytest.mark.parametrize("damage", [payload_byte, *IN_DECODING])
def test_a_bad_record_stops_the_run_and_is_named(records, damage):
    bad = damage(records)
    reader = records.reader()
    with pytest.raises(BadRecordError) as caught, pipeline.naming_bad_records(reader):
        batches(reader)
    check_names(caught.value, records, bad)


@pytest.mark.parametrize("damages", [[undecodable_png], [*IN_READING, *IN_DECODING]])
def test_within_the_budget_only_the_slots_of_bad_records_change(records, undamaged, damages):
    bad = {index: why for damage in damages for index, why in damage(records).items()}
    reader = records.reader(max_bad_records=len(bad))
    found = batches(reader, EPOCH + 4)
    plan = order.plan(CONFIG, 160, 1)
    lost = 0
    for draw, (images, labels, weights) in enumerate(found):
        _, indices = order.training_records(*order.micro_batch(draw, plan), plan, SEED)
        is_bad = np.isin(indices, list(bad))
        lost += is_bad.sum() if draw < EPOCH else 0
        assert np.array_equal(weights, np.where(is_bad, 0, 1))
        for new, old in zip((images, labels), undamaged[draw], strict=False):
            assert np.array_equal(new[~is_bad], old[~is_bad])
            assert not new[is_bad].any()
    assert lost == len(bad)
    assert reader.bad_records.keys() == bad.keys()
    for index, error in reader.bad_records.items():
        assert error.record == index
        check_names(error, records, bad)


def test_a_budget_one_too_small_stops_the_run(records):
    bad = undecodable_png(records) | undecodable_jpeg(records) | payload_byte(records)
    reader = records.reader(max_bad_records=2)
    with pytest.raises(BadRecordError), pipeline.naming_bad_records(reader):
        batches(reader)
    assert reader.bad_records.keys() == bad.keys()


def test_a_record_that_turns_bad_is_counted_once(records):
    reader = records.reader(max_bad_records=1)
    plan = order.plan(CONFIG, 160, 1)
    iterator = pipeline.train(CONFIG, reader, plan, seed=SEED).as_numpy_iterator()
    lost = []
    for epoch in range(5):
        weights = [next(iterator)[2].sum() for _ in range(EPOCH)]
        lost.append(160 - sum(weights))
        if epoch == 1:
            payload_byte(records)
    assert lost[:2] == [0, 0]
    assert lost[3:] == [1, 1]  # what was read ahead decides about epoch 2
    assert list(reader.bad_records) == [70]


def test_errors_of_others_keep_their_name(records):
    with (
        pytest.raises(tf.errors.OpError, match="another"),
        pipeline.naming_bad_records(records.reader()),
    ):
        raise tf.errors.InternalError(None, None, "another")


# Whatever else goes wrong in decoding is no bad record: it is repaired exactly or stops the run.


def test_a_passing_failure_changes_nothing(records, monkeypatch):
    reader = records.reader()
    expected = batches(reader, 8)
    failures = []

    def view(image, *args):
        def fail_once(one):
            if len(failures) < 3:
                failures.append(one)
                raise ValueError("a passing failure")
            return one

        return train_view(
            tf.ensure_shape(tf.numpy_function(fail_once, [image], tf.string), []), *args
        )

    monkeypatch.setattr(crop, "train_view", view)
    for element, other in zip(batches(reader, 8), expected, strict=True):
        for a, b in zip(element, other, strict=True):
            assert np.array_equal(a, b)
    assert len(failures) == 3
    assert reader.bad_records == {}


def test_a_failure_that_no_image_explains_stops_the_run(records, monkeypatch):
    reader = records.reader()

    def view(image, *args):
        if not tf.executing_eagerly():  # in the pipeline, not where the bad image is looked for
            tf.debugging.Assert(tf.strings.length(image) < 0, ["only in the graph"])
        return train_view(image, *args)

    monkeypatch.setattr(crop, "train_view", view)
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="only in the graph"),
        pipeline.naming_bad_records(reader),
    ):
        batches(reader, 1)
    assert reader.bad_records == {}


def test_a_failure_of_another_kind_is_no_bad_record(records, monkeypatch):
    reader = records.reader()

    def view(image, *args):
        if tf.executing_eagerly():
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        tf.debugging.Assert(tf.strings.length(image) < 0, ["only in the graph"])
        return train_view(image, *args)

    monkeypatch.setattr(crop, "train_view", view)
    with (
        pytest.raises(tf.errors.OpError, match="out of memory"),
        pipeline.naming_bad_records(reader),
    ):
        batches(reader, 1)
    assert reader.bad_records == {}


def test_a_failure_of_the_reader_stops_the_run(records, monkeypatch):
    reader = records.reader()

    def read(indices):
        raise KeyError("a defect of the reader")

    monkeypatch.setattr(reader, "read", read)
    with (
        pytest.raises(tf.errors.OpError, match="a defect of the reader"),
        pipeline.naming_bad_records(reader),
    ):
        batches(reader, 1)
