"""The pipeline's micro-batches: the same on every hardware, from any step on, and all counted."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline, synthetic
from input.arrays import ArrayReader
from input.config import InputConfig
from input.errors import InputError
from input.manifest import Manifest
from input.order import EvaluationPlan
from input.reader import RecordReader
from input.views.crop import DRAWS, eval_view, random_crop, train_view

CONFIG = InputConfig(global_batch_size=16, micro_batch_size=4, image_size=12)
SEED = 3


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
        epoch, numbers = order.training_records(step, micro_batch, plan(reader), SEED)
        block = reader.read(numbers)
        draws = order.uniform(SEED, epoch, numbers, DRAWS)
        crops = random_crop(tf.constant(draws), 0.5, flip=augment == "standard")
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


def test_synthetic_elements_are_like_the_pipelines(reader):
    dataset = synthetic.train(plan(reader), 12, num_classes=3)
    assert dataset.element_spec == pipeline.element_spec(plan(reader), 12)
    (images, labels, weights), again = take(dataset, 2)
    assert len(np.unique(images)) > 200
    assert set(labels) <= {0, 1, 2}
    assert weights.tolist() == [1, 1, 1, 1]
    assert_same([again], [(images, labels, weights)])


@pytest.mark.parametrize(("replicas", "workers"), [(2, 1), (4, 1), (2, 2), (4, 2)])
def test_every_hardware_sees_the_same_in_every_slot(reader, replicas, workers):
    steps = 3
    alone = np.empty((steps, 4), object)
    for i, element in enumerate(train(reader, 4 * steps, first_step=9)):
        alone[i // 4, i % 4] = element
    many = plan(reader, replicas)
    local = replicas // workers
    for worker in range(workers):
        dataset = pipeline.train(
            CONFIG, reader, many, seed=SEED, first_step=9, worker=worker, workers=workers
        )
        elements = take(dataset, 4 // workers * steps)
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
    epoch, numbers = order.training_records(10**9, 0, plan(reader), SEED)
    assert epoch == 10**8
    assert np.array_equal(element[1], reader.read(numbers).labels)


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


@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (4, 2)])
def test_an_evaluation_counts_every_record_once(data_dir, replicas, workers):
    reader = RecordReader(Manifest.load(data_dir / "validation"))
    config = replace(CONFIG, eval_crop=0.9)
    evaluation = EvaluationPlan(8, replicas, reader.records)
    block = reader.read(np.arange(reader.records))
    expected = {
        eval_view(tf.constant(image), 12, 0.9).numpy().tobytes(): label
        for image, label in zip(block.images, block.labels, strict=True)
    }
    assert len(expected) == reader.records == 43
    draws = evaluation.draws * replicas // workers
    elements = []
    for worker in range(workers):
        dataset = pipeline.evaluate(config, reader, evaluation, worker=worker, workers=workers)
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
    with pytest.raises(InputError, match="4 replicas do not split evenly over 3 workers"):
        pipeline.train(CONFIG, reader, plan(reader, 4), seed=0, workers=3)


# Whatever else goes wrong in decoding is no bad record: it is repaired exactly or stops the run.


def test_a_passing_failure_changes_nothing(reader, monkeypatch):
    expected = train(reader, 8)
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

    monkeypatch.setattr(pipeline, "train_view", view)
    assert_same(train(reader, 8), expected)
    assert len(failures) == 3
    assert reader.bad_records == {}


def test_a_failure_that_no_image_explains_stops_the_run(reader, monkeypatch):
    def view(image, *args):
        if not tf.executing_eagerly():  # in the pipeline, not where the bad image is looked for
            tf.debugging.Assert(tf.strings.length(image) < 0, ["only in the graph"])
        return train_view(image, *args)

    monkeypatch.setattr(pipeline, "train_view", view)
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="only in the graph"),
        pipeline.naming_bad_records(reader),
    ):
        train(reader, 1)
    assert reader.bad_records == {}


def test_a_failure_of_another_kind_is_no_bad_record(reader, monkeypatch):
    def view(image, *args):
        if tf.executing_eagerly():
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        tf.debugging.Assert(tf.strings.length(image) < 0, ["only in the graph"])
        return train_view(image, *args)

    monkeypatch.setattr(pipeline, "train_view", view)
    with (
        pytest.raises(tf.errors.OpError, match="out of memory"),
        pipeline.naming_bad_records(reader),
    ):
        train(reader, 1)
    assert reader.bad_records == {}


def test_a_failure_of_the_reader_stops_the_run(reader, monkeypatch):
    def read(numbers):
        raise KeyError("a defect of the reader")

    monkeypatch.setattr(reader, "read", read)
    with (
        pytest.raises(tf.errors.OpError, match="a defect of the reader"),
        pipeline.naming_bad_records(reader),
    ):
        train(reader, 1)
