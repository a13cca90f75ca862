"""The pipeline's micro-batches: the same on every hardware, from any step on, and all counted."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline, randomness
from input.arrays import ArrayReader
from input.config import ResolvedInput
from input.errors import InputError
from input.manifest import Manifest
from input.order import EvaluationPlan
from input.reader import RecordReader
from input.views.crop import eval_view, random_crop, train_view
from input.views.window import UNIFORMS

CONFIG = ResolvedInput(global_batch_size=16, micro_batch_size=4, image_size=12)
SEED = 3
KINDS = {
    "jitter": {"color_jitter": 0.4},
    "erasing": {"erasing": 0.5, "augment": "none"},
    "mixup": {"mixup": 0.2},
    "rand": {"augment": "rand-m9-n2"},
    "trivial": {"augment": "trivial"},
    "all": {"color_jitter": 0.4, "erasing": 0.3, "mixup": 0.2, "cutmix": 1.0},
}
AUGMENTED = ResolvedInput(global_batch_size=32, micro_batch_size=8, image_size=16)


@pytest.fixture(scope="module")
def reader(data_dir) -> RecordReader:
    return RecordReader(Manifest.load(data_dir / "train"))


def plan(reader, replicas=1, config=CONFIG):
    return order.plan(config, reader.records, replicas)


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def train(reader, count, config=CONFIG, **options):
    return take(
        pipeline.train(config, reader, plan(reader, config=config), seed=SEED, **options), count
    )


def assert_same(found, expected):
    for element, other in zip(found, expected, strict=True):
        for a, b in zip(element, other, strict=True):
            assert np.array_equal(a, b)


def test_the_examples_of_the_module_run(data_dir, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(data_dir)
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(pipeline)
    assert results.attempted > 10
    assert results.failed == 0


@pytest.mark.parametrize("augment", ["none", "crop", "standard"])
def test_a_micro_batch_is_what_order_reader_and_images_say(reader, augment):
    config = replace(CONFIG, augment=augment, crop_min_area=0.5, eval_crop=0.8)
    first = 25  # in the third epoch of 10 steps
    for i, (images, labels, weights) in enumerate(train(reader, 8, config, first_step=first)):
        step, micro_batch = first + i // 4, i % 4
        epoch, indices = order.training_records(step, micro_batch, plan(reader), SEED)
        block = reader.read(indices)
        uniforms = randomness.uniform(SEED, epoch, indices, UNIFORMS)
        crops = random_crop(tf.constant(uniforms), 0.5, flip=augment == "standard")
        for slot in range(4):
            if augment == "none":
                view = eval_view(tf.constant(block.images[slot]), 12, 0.8)
            else:
                crop = tf.nest.map_structure(lambda each: each[slot], crops)  # noqa: B023
                view = train_view(tf.constant(block.images[slot]), 12, crop)
            assert np.array_equal(images[slot], view)
        assert np.array_equal(labels, block.labels)
        assert np.array_equal(weights, np.ones(4))


def test_every_shape_is_static(reader):
    arrays = np.zeros((20, 9, 9), np.float32)
    floats = ArrayReader(arrays, np.zeros(20, int))
    for source, dtype in ((reader, tf.uint8), (floats, tf.float32)):
        for augment in ("none", "standard"):
            config = replace(CONFIG, augment=augment)
            expected = (
                tf.TensorSpec([4, 12, 12, 3], dtype),
                tf.TensorSpec([4], tf.int32),
                tf.TensorSpec([4], tf.float32),
            )
            dataset = pipeline.train(config, source, plan(source), seed=0)
            assert dataset.element_spec == expected
            assert pipeline.element_spec(plan(source), 12, dtype) == expected
        evaluation = EvaluationPlan(4, 1, source.records)
        assert pipeline.evaluate(CONFIG, source, evaluation).element_spec == expected


def test_soft_labels_are_a_weight_for_each_class(reader):
    config = replace(CONFIG, mixup=0.2)
    dataset = pipeline.train(config, reader, plan(reader), seed=0)
    expected = pipeline.element_spec(plan(reader), 12, soft_classes=3)
    assert dataset.element_spec == expected
    assert expected[1] == tf.TensorSpec([4, 3], tf.float32)
    evaluation = EvaluationPlan(4, 1, reader.records)  # counts whole images
    hard = pipeline.element_spec(evaluation, 12)
    assert pipeline.evaluate(config, reader, evaluation).element_spec == hard


@pytest.mark.parametrize(("replicas", "worker_count"), [(2, 1), (4, 1), (2, 2), (4, 2)])
def test_every_hardware_sees_the_same_in_every_slot(reader, replicas, worker_count):
    steps = 3
    alone = np.empty((steps, 4), object)
    for i, element in enumerate(train(reader, 4 * steps, first_step=9)):
        alone[i // 4, i % 4] = element
    many = plan(reader, replicas)
    local = replicas // worker_count
    for worker in range(worker_count):
        dataset = pipeline.train(
            CONFIG, reader, many, seed=SEED, first_step=9, worker=worker, worker_count=worker_count
        )
        elements = take(dataset, 4 // worker_count * steps)
        for local_replica in range(local):
            # tf.distribute: element i of a worker goes to its replica i mod `local`.
            replica = worker * local + local_replica
            k = many.draws_per_step
            expected = alone[:, replica * k : (replica + 1) * k].ravel()
            assert_same(elements[local_replica::local], expected)


@pytest.mark.parametrize("replicas", [2, 4])
def test_tf_distribute_hands_them_out_in_turn(reader, strategies, replicas):
    many = plan(reader, replicas)
    strategy = strategies[replicas]
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda _: pipeline.train(CONFIG, reader, many, seed=SEED)
        )
    )
    alone = train(reader, 8)
    for step in range(2):
        for turn in range(many.draws_per_step):
            columns = [strategy.experimental_local_results(each) for each in next(iterator)]
            found = [tuple(each.numpy() for each in of) for of in zip(*columns, strict=True)]
            places = [step * 4 + r * many.draws_per_step + turn for r in range(replicas)]
            assert_same(found, [alone[place] for place in places])


def test_resumed_is_never_stopped(reader):
    steps = 25  # two and a half epochs
    whole = train(reader, steps * 4)
    for done in (1, 10, 24):
        assert_same(train(reader, (steps - done) * 4, first_step=done), whole[done * 4 :])


def test_a_run_starts_at_step_a_billion(reader):
    (element,) = train(reader, 1, first_step=10**9)
    epoch, indices = order.training_records(10**9, 0, plan(reader), SEED)
    assert epoch == 10**8
    assert np.array_equal(element[1], reader.read(indices).labels)


def test_seeds_and_epochs_look_different(reader):
    config = replace(CONFIG, global_batch_size=160, micro_batch_size=160)
    epochs = take(pipeline.train(config, reader, plan(reader, config=config), seed=SEED), 2)
    other = take(pipeline.train(config, reader, plan(reader, config=config), seed=SEED + 1), 1)
    seen = [{image.tobytes() for image in images} for images, _, _ in (*epochs, *other)]
    assert [len(each) for each in seen] == [160, 160, 160]
    assert len(set.union(*seen)) == 480


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(reader, threads):
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    dataset = pipeline.train(CONFIG, reader, plan(reader), seed=SEED).with_options(options)
    assert_same(take(dataset, 60), train(reader, 60))


@pytest.mark.parametrize(("replicas", "worker_count"), [(1, 1), (2, 1), (4, 2)])
def test_an_evaluation_counts_every_record_once(data_dir, replicas, worker_count):
    reader = RecordReader(Manifest.load(data_dir / "validation"))
    config = replace(CONFIG, eval_crop=0.9)
    evaluation = EvaluationPlan(8, replicas, reader.records)
    block = reader.read(np.arange(reader.records))
    expected = {
        eval_view(tf.constant(image), 12, 0.9).numpy().tobytes(): label
        for image, label in zip(block.images, block.labels, strict=True)
    }
    assert len(expected) == reader.records == 43
    draws = evaluation.draws * replicas // worker_count
    elements = []
    for worker in range(worker_count):
        dataset = pipeline.evaluate(
            config, reader, evaluation, worker=worker, worker_count=worker_count
        )
        passes = take(dataset, 2 * draws)
        assert_same(passes[draws:], passes[:draws])
        elements += passes[:draws]
    seen = {}
    for images, labels, weights in elements:
        for image, label, weight in zip(images, labels, weights, strict=True):
            if weight:
                assert image.tobytes() not in seen
                seen[image.tobytes()] = label
            else:
                assert not image.any()
    assert seen == expected


def test_workers_must_be_alike(reader):
    with pytest.raises(InputError, match="4 replicas cannot be split evenly over 3 workers"):
        pipeline.train(CONFIG, reader, plan(reader, 4), seed=0, worker_count=3)


def micro_batches(reader, config, replicas, first_step=0, steps=2) -> dict:
    """(step, micro-batch) -> its arrays."""
    plan = order.plan(config, reader.records, replicas)
    dataset = pipeline.train(config, reader, plan, seed=3, first_step=first_step)
    first = first_step * plan.micro_batches
    elements = dataset.take(steps * plan.micro_batches).as_numpy_iterator()
    return {order.micro_batch(first + i, plan): each for i, each in enumerate(elements)}


def test_all_replicas_of_all_workers_are_compared_on_a_micro_batch_of_training(reader):
    numbers, two = set(), plan(reader, 4)
    expected = micro_batches(reader, CONFIG, replicas=1, steps=11)
    for worker_count in (1, 2):
        dataset = pipeline.compared(
            CONFIG, reader, two, seed=3, first_step=4, every_steps=3, worker_count=worker_count
        )
        copies = 4 // worker_count
        found = take(dataset, 3 * copies)
        for place, step in enumerate((4, 7, 10)):
            number = order.compared_micro_batch(step, two, seed=3)
            numbers.add(number)
            for copy in found[place * copies : (place + 1) * copies]:
                assert_same([copy], [expected[step, number]])
    assert len(numbers) > 1


def test_epochs_begin_with_the_micro_batches_of_training(reader, monkeypatch):
    its = plan(reader, 1)
    expected = micro_batches(reader, CONFIG, 1, steps=2 * its.steps_per_epoch + 1)
    read = []
    training_records = order.training_records
    monkeypatch.setattr(
        order, "training_records", lambda *at: read.append(at[0]) or training_records(*at)
    )
    dataset = pipeline.beginnings(CONFIG, reader, its, seed=3, first_epoch=1, most=2)
    found = list(dataset.take(3).as_numpy_iterator())
    assert_same(found, [expected[epoch * its.steps_per_epoch, 0] for epoch in (1, 2)])
    assert max(read) == 2 * its.steps_per_epoch  # nothing is read ahead


@pytest.mark.parametrize("kind", KINDS)
def test_hardware_threads_and_resuming_change_nothing(reader, kind, monkeypatch):
    config = replace(AUGMENTED, **KINDS[kind])
    expected = micro_batches(reader, config, replicas=1)
    others = [micro_batches(reader, config, replicas) for replicas in (2, 4)]
    others.append(micro_batches(reader, config, 1, first_step=1, steps=1))
    monkeypatch.setattr(pipeline, "PARALLEL", 1)
    others.append(micro_batches(reader, config, replicas=2))
    for other in others:
        for place, columns in other.items():
            for found, column in zip(columns, expected[place], strict=True):
                np.testing.assert_array_equal(found, column)
    same = config.augment if config.augment == "none" else "standard"
    plain = micro_batches(reader, replace(AUGMENTED, augment=same), replicas=1)
    # A share of 1, or nearly, is a likely draw of mixup's: that leaves some as they were.
    assert any((expected[place][0] != plain[place][0]).any() for place in plain)
    label = expected[0, 0][1]
    assert (label.shape, label.dtype) == (
        ((8, 3), np.float32) if config.soft_labels else ((8,), np.int32)
    )


def test_floating_pixels_take_all_but_jitter():
    pixels = np.random.default_rng(0).random((40, 16, 16, 3)).astype(np.float32)
    reader = ArrayReader(pixels, np.arange(40) % 3)
    config = replace(AUGMENTED, erasing=0.5, mixup=0.2, cutmix=1.0)
    image, label, _ = next(iter(micro_batches(reader, config, 1).values()))
    assert (image.dtype, label.dtype) == (np.float32, np.float32)
    for settings in ({"color_jitter": 0.1}, {"augment": "trivial"}, {"augment": "rand-m9-n2"}):
        with pytest.raises(InputError, match="need pixels of 8 bits; these are float32"):
            micro_batches(reader, replace(config, **settings), 1)


def test_evaluation_is_not_augmented(reader):
    plan = order.EvaluationPlan(8, 1, reader.records)
    found = [
        next(iter(pipeline.evaluate(config, reader, plan)))
        for config in (AUGMENTED, replace(AUGMENTED, **KINDS["all"]))
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
