"""What the model sees of a micro-batch follows from its records, the seed and the epoch."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline, randomness
from input.config import ResolvedInput
from input.errors import BadRecordError
from input.manifest import Manifest
from input.prepare.config import WriteConfig
from input.prepare.writer import write
from input.reader import BLANK, RecordReader
from input.views import crop, micro_batch, mix, window

CONFIG = ResolvedInput(global_batch_size=8, micro_batch_size=8, image_size=16)
INDICES = np.array([3, 70, 0, 159])
SEED = 3


@pytest.fixture(scope="module")
def reader(data_dir) -> RecordReader:
    return RecordReader(Manifest.load(data_dir / "train"))


def training_slots(config, reader, indices=INDICES, epoch=0) -> micro_batch.Slots:
    uniforms = micro_batch.training_uniforms(config, SEED, epoch, indices)
    return micro_batch.read_slots(reader, indices, uniforms)


def test_slots_hold_what_the_reader_read(reader):
    indices = np.array([3, -1])
    uniforms = np.array([[0.25], [0.5]], np.float32)
    slots = micro_batch.read_slots(reader, indices, uniforms)
    block = reader.read(indices)
    assert slots.images.numpy().tolist() == block.images.tolist()
    assert slots.images[1] == BLANK
    for found, expected in zip(slots, (indices, None, *block[1:], uniforms), strict=True):
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_slots_of_a_bad_record_are_refused(records):
    records.flip(70, 100)
    with pytest.raises(BadRecordError, match="record 70"):
        micro_batch.read_slots(records.reader(), INDICES, np.zeros((4, 0), np.float32))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"augment": "none"},
        {"augment": "crop"},
        {"augment": "rand-m9-n2"},
        {"augment": "trivial", "color_jitter": 0.4, "erasing": 0.5},
    ],
)
def test_views_are_what_training_sees(reader, changes):
    config = replace(CONFIG, **changes)
    plan = order.plan(config, reader.records, replicas=1)
    image, _, _ = next(iter(pipeline.train(config, reader, plan, seed=SEED)))
    _, indices = order.training_records(0, 0, plan, seed=SEED)
    shown = micro_batch.training_views(config, reader, training_slots(config, reader, indices))
    np.testing.assert_array_equal(shown, image)


def test_the_crop_of_an_image_is_the_same_whatever_else_is_on():
    expected = randomness.uniform(SEED, 5, INDICES, window.UNIFORMS)
    for changes in ({}, {"augment": "rand-m9-n2", "color_jitter": 0.4}, {"mixup": 0.2}):
        uniforms = micro_batch.training_uniforms(replace(CONFIG, **changes), SEED, 5, INDICES)
        np.testing.assert_array_equal(uniforms[:, : window.UNIFORMS], expected)


def test_every_slot_has_the_mix_of_its_micro_batch():
    config = replace(CONFIG, mixup=0.2, cutmix=1.0)
    uniforms = micro_batch.training_uniforms(config, SEED, 5, INDICES)
    drawn = mix.draw(SEED, 5, INDICES, 0.2, 1.0)
    np.testing.assert_array_equal(uniforms[:, -mix.COLUMNS :], np.tile(drawn, (4, 1)))


def test_nothing_about_an_evaluation_is_random(reader):
    uniforms = micro_batch.evaluation_uniforms(INDICES)
    assert (uniforms.shape, uniforms.dtype) == ((4, 0), np.float32)
    config = replace(CONFIG, eval_crop=0.7)
    slots = micro_batch.read_slots(reader, INDICES, uniforms)
    found = micro_batch.evaluation_views(config, reader, slots)
    expected = [crop.eval_view(image, 16, 0.7) for image in slots.images]
    np.testing.assert_array_equal(found, expected)


def test_mixed_images_and_labels_are_those_of_mix(reader):
    config = replace(CONFIG, cutmix=1.0)
    slots = training_slots(config, reader)
    images = micro_batch.training_views(config, reader, slots)
    found = micro_batch.mixed(images, slots, classes=3)
    drawn = mix.Mix(*map(tf.constant, mix.draw(SEED, 0, INDICES, 0.0, 1.0)))
    expected = mix.mix(images, tf.one_hot(slots.labels, 3), tf.ones(4), drawn)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (found[0] != images).numpy().any()


@pytest.mark.parametrize("augment", ["none", "standard", "rand-m9-n2"])
def test_raw_records_look_like_the_encoded_ones(data_dir, reader, tmp_path, augment):
    config = replace(CONFIG, augment=augment)
    images, out = data_dir.parent / "images", tmp_path / "raw"
    write(WriteConfig(images=str(images), out=str(out), encoding="raw"))
    raw = RecordReader(Manifest.load(out / "train"))
    assert raw.schema.raw_dtype == "uint8"
    for views in (micro_batch.training_views, micro_batch.evaluation_views):
        found = views(config, raw, training_slots(config, raw))
        expected = views(config, reader, training_slots(config, reader))
        np.testing.assert_array_equal(found, expected)
