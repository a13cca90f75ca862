"""Which record sits where: a permutation per epoch, the same slots on every hardware."""

import numpy as np
import pytest

from input import order
from input.config import InputConfig, ResolvedInput
from input.native import library
from input.order import EvaluationPlan, Plan
from tests.conftest import error


def make_plan(records, batch, micro_batch, replicas=1) -> Plan:
    config = ResolvedInput(global_batch_size=batch, micro_batch_size=micro_batch, image_size=28)
    return order.plan(config, records, replicas)


def worker_draws(plan, worker_count, step, seed=0):
    """{(step, micro-batch): record indices} of what all workers draw in one step."""
    elements = plan.draws_per_step * plan.replicas // worker_count
    found = {}
    for worker in range(worker_count):
        for draw in range(step * elements, (step + 1) * elements):
            place = order.micro_batch(draw, plan, worker, worker_count)
            assert place not in found
            found[place] = order.training_records(*place, plan, seed)[1].tolist()
    return found


def test_an_epoch_has_each_record_at_most_once_and_leaves_out_others_each_time():
    plan = make_plan(records=107, batch=16, micro_batch=4)
    left_out = []
    for epoch in range(20):
        seen = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            for micro_batch in range(plan.micro_batches):
                found, indices = order.training_records(step, micro_batch, plan, seed=5)
                assert found == epoch
                seen += indices.tolist()
        assert len(set(seen)) == len(seen) == 96
        assert set(seen) < set(range(107))
        left_out.append(frozenset(range(107)) - set(seen))
    assert len(set(left_out)) == 20
    assert len(frozenset.union(*left_out)) > 80


@pytest.mark.parametrize("step", [0, 7, 10**9])
def test_every_hardware_has_the_same_records_in_the_same_slots(step):
    plans = {r: make_plan(records=1000, batch=64, micro_batch=4, replicas=r) for r in (1, 2, 4, 8)}
    alone = worker_draws(plans[1], 1, step)
    assert list(alone) == [(step, micro_batch) for micro_batch in range(16)]
    assert len({index for indices in alone.values() for index in indices}) == 64
    for replicas, plan in plans.items():
        for worker_count in (1, 2, 4):
            if replicas % worker_count == 0:
                assert worker_draws(plan, worker_count, step) == alone


@pytest.mark.parametrize(("replicas", "worker_count"), [(1, 1), (2, 1), (4, 2), (8, 1), (8, 4)])
def test_replica_r_draws_its_k_micro_batches_in_turn(replicas, worker_count):
    plan = make_plan(records=1000, batch=64, micro_batch=4, replicas=replicas)
    k = plan.draws_per_step
    assert k * replicas == 16
    local = replicas // worker_count
    for worker in range(worker_count):
        # tf.distribute: element i of a worker goes to its replica i mod `local`.
        for local_replica in range(local):
            draws = range(local_replica, 2 * k * local, local)
            drawn = [order.micro_batch(draw, plan, worker, worker_count) for draw in draws]
            own = range(
                (worker * local + local_replica) * k, (worker * local + local_replica + 1) * k
            )
            assert drawn == [(step, micro_batch) for step in (0, 1) for micro_batch in own]


def test_ten_billion_records_on_a_thousand_workers():
    plan = make_plan(records=10**10, batch=32 * 2048, micro_batch=32, replicas=1024)
    drawn = worker_draws(plan, worker_count=1024, step=10**9)
    assert sorted(drawn) == [(10**9, micro_batch) for micro_batch in range(2048)]
    indices = np.array(list(drawn.values()))
    assert len(np.unique(indices)) == 32 * 2048
    assert indices.min() >= 0
    assert 0.99 * 10**10 < indices.max() < 10**10


@pytest.mark.parametrize("micro_batch", [1, 4, 5])
@pytest.mark.parametrize(
    ("replicas", "worker_count"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)]
)
def test_an_evaluation_has_every_record_once(replicas, worker_count, micro_batch):
    for records in (1, max(1, micro_batch - 1), micro_batch, micro_batch + 1, 97):
        plan = EvaluationPlan(micro_batch, replicas, records)
        assert (plan.draws - 1) * micro_batch * replicas < records
        elements = plan.draws * replicas // worker_count
        for passes in (0, 1):
            drawn = [
                order.evaluation_records(draw + passes * elements, plan, worker, worker_count)
                for worker in range(worker_count)
                for draw in range(elements)
            ]
            assert {each.shape for each in drawn} == {(micro_batch,)}
            indices = np.concatenate(drawn)
            assert len(indices) == plan.draws * micro_batch * replicas
            assert sorted(indices[indices >= 0]) == list(range(records))
            assert set(indices[indices < 0]) <= {-1}


def test_one_worker_evaluates_in_record_order():
    plan = EvaluationPlan(images_per_micro_batch=4, replicas=2, records=11)
    drawn = [order.evaluation_records(draw, plan).tolist() for draw in range(5)]
    assert drawn == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, -1], [-1] * 4, [0, 1, 2, 3]]
    assert order.evaluated_records(plan).tolist() == [drawn[0:2], drawn[2:4]]
    own = order.evaluated_records(plan, worker=1, worker_count=2)
    assert own.tolist() == [drawn[1:2], drawn[3:4]]


def test_evaluation_draws_are_exact_for_huge_numbers():
    assert EvaluationPlan(1, 1, 10**17 + 1).draws == 10**17 + 1


def test_plan_states_the_numbers_of_the_run():
    assert make_plan(records=1000, batch=64, micro_batch=8, replicas=4) == Plan(
        images_per_step=64,
        images_per_micro_batch=8,
        micro_batches=8,
        replicas=4,
        records=1000,
        steps_per_epoch=15,
    )
    assert make_plan(records=64, batch=64, micro_batch=8).steps_per_epoch == 1


def test_a_plan_says_which_replica_counts_give_the_same_run():
    plan = make_plan(records=100, batch=24, micro_batch=2, replicas=3)
    assert plan.replica_counts == [1, 2, 3, 4, 6, 12]


def test_read_block_keeps_neighbours_together():
    config = ResolvedInput(global_batch_size=64, micro_batch_size=16, image_size=28, read_block=8)
    plan = order.plan(config, 1000, 1)
    for step, micro_batch in ((0, 0), (14, 3), (15, 0)):
        _, indices = order.training_records(step, micro_batch, plan, seed=5)
        assert (np.diff(indices.reshape(2, 8), axis=1) % 1000 == 1).all()


def test_resolve_fills_in_what_is_unset():
    config = InputConfig(global_batch_size=64)
    assert order.resolve(config, 28) == ResolvedInput(
        global_batch_size=64,
        micro_batch_size=32,
        image_size=28,
        augment="crop",
        crop_min_area=0.7,
        decoder=library.resolve("auto"),
    )
    for records_size, image_size in ((None, 224), (1, 1), (224, 224), (225, 224), (500, 224)):
        assert order.resolve(config, records_size).image_size == image_size


@pytest.mark.parametrize(
    ("images", "found"), [(256, 32), (32, 32), (20, 20), (96, 32), (100, 25), (37, 1), (1, 1)]
)
def test_a_micro_batch_is_the_largest_divisor_up_to_32(images, found):
    assert order.resolve(InputConfig(global_batch_size=images), None).micro_batch_size == found


@pytest.mark.parametrize(
    ("size", "augment", "area"),
    [(28, "crop", 0.7), (127, "crop", 0.7), (128, "standard", 0.08), (224, "standard", 0.08)],
)
def test_small_images_are_cropped_less_and_not_mirrored(size, augment, area):
    found = order.resolve(InputConfig(image_size=size), 64)
    assert (found.augment, found.crop_min_area) == (augment, area)


def test_a_larger_micro_batch_is_what_a_replica_has_of_a_step():
    config = ResolvedInput(global_batch_size=64, micro_batch_size=16, image_size=28)
    larger = [
        order.larger_micro_batch(order.plan(config, 1000, replicas), config)
        for replicas in (1, 2, 4)
    ]
    assert larger == [64, 32, None]


def test_resolve_leaves_what_is_set():
    config = InputConfig(
        global_batch_size=64,
        micro_batch_size=8,
        image_size=32,
        augment="none",
        crop_min_area=0.3,
        decoder="tensorflow",
    )
    assert order.resolve(config, 28) == ResolvedInput(**vars(config))


def test_an_uneven_batch_is_an_error_that_lists_what_is_even():
    assert error(make_plan, 1000, batch=256, micro_batch=64, replicas=6) == (
        "256 images a step in micro-batches of 64 do not split evenly over 6 replicas, but "
        "over 1, 2 or 4 replicas. Use so many; a new run may set --micro_batch_size or "
        "--global_batch_size."
    )


def test_too_few_records_for_a_step_is_an_error():
    assert error(make_plan, 63, batch=64, micro_batch=64) == (
        "A step of 64 images is not filled by 63 training records. Set --global_batch_size to 63 "
        "or less."
    )


def test_workers_with_different_numbers_of_replicas_are_an_error():
    plan = make_plan(records=100, batch=12, micro_batch=1, replicas=4)
    message = (
        "4 replicas cannot be split evenly over 3 workers. Give each worker the same number of "
        "devices."
    )
    assert error(order.micro_batch, 0, plan, worker_count=3) == message
    assert error(order.evaluation_records, 0, EvaluationPlan(1, 4, 9), worker_count=3) == message


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_a_record_has_several_views_in_a_step_and_none_in_another(replicas):
    config = ResolvedInput(
        global_batch_size=24, micro_batch_size=6, image_size=28, repeated_augmentation=3
    )
    plan = order.plan(config, 1000, replicas)
    seen = []
    for step in range(plan.steps_per_epoch):
        of_step, views = [], []
        for micro_batch in range(plan.micro_batches):
            _, records = order.training_records(step, micro_batch, plan, seed=5)
            of_step += records.tolist()
            views += order.view_numbers(micro_batch, records, plan).tolist()
        assert of_step[:8] == of_step[8:16] == of_step[16:]
        assert len(set(views)) == 24
        assert views[:8] == of_step[:8]
        seen += of_step[:8]
    assert len(set(seen)) == len(seen) == 8 * plan.steps_per_epoch


def test_one_view_of_each_record_is_the_record():
    plan = make_plan(100, batch=16, micro_batch=8)
    _, records = order.training_records(3, 1, plan, seed=5)
    np.testing.assert_array_equal(order.view_numbers(1, records, plan), records)


def test_views_divide_the_step():
    assert error(InputConfig, global_batch_size=64, repeated_augmentation=3) == (
        "64 images a step do not divide into --repeated_augmentation=3 views of each record. Set "
        "it to a divisor of 64."
    )
