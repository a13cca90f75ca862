"""Which record sits where: a permutation per epoch, the same slots on every hardware."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from input import order
from input.config import InputConfig
from input.errors import InputError
from input.order import EvaluationPlan, Plan

slow = settings(deadline=None)  # the cores may be shared
SEEDS = st.integers(-(2**63), 2**64)
EPOCHS = st.integers(0, 2**40)


def make_plan(records, batch, micro_batch, replicas=1) -> Plan:
    config = InputConfig(global_batch_size=batch, micro_batch_size=micro_batch)
    return order.plan(config, records, replicas)


def worker_draws(plan, workers, step, seed=0):
    """{(step, micro-batch): record numbers} of what all workers draw in one step."""
    elements = plan.draws_per_step * plan.replicas // workers
    found = {}
    for worker in range(workers):
        for draw in range(step * elements, (step + 1) * elements):
            place = order.micro_batch(draw, plan, worker, workers)
            assert place not in found
            found[place] = order.training_records(*place, plan, seed)[1].tolist()
    return found


# The permutation, once more: one number at a time, in Python's integers.


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def mix_all(*numbers):
    key = 0
    for number in numbers:
        key = mix((key + number) % 2**64)
    return key


def permute_one(position, n, seed, epoch):
    width = math.ceil(math.sqrt(n))  # exact for the small n here
    height = math.ceil(n / width)
    keys = [mix_all(seed, 0, epoch, i) for i in range(6)]
    while True:
        row, column = divmod(position, width)
        for even, odd in zip(keys[::2], keys[1::2], strict=True):
            column = (column + (mix(row ^ even) >> 32) * width // 2**32) % width
            row = (row + (mix(column ^ odd) >> 32) * height // 2**32) % height
        position = row * width + column
        if position < n:
            return position


def uniform_one(seed, epoch, number, i):
    return (mix(mix_all(seed, 1, epoch, number) + i) >> 40) / 2**24


def test_mix_is_splitmix64():
    # Its published first outputs from state 1234567 (Vigna's splitmix64.c, Rosetta Code).
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(3)]
    assert order._mix(np.array(states, np.uint64)).tolist() == expected
    assert [mix(state) for state in states] == expected


@slow
@given(n=st.integers(1, 10**6), seed=SEEDS, epoch=EPOCHS, data=st.data())
@example(n=1, seed=0, epoch=0, data=None)
def test_permute_is_the_definition(n, seed, epoch, data):
    positions = data.draw(st.lists(st.integers(0, n - 1), max_size=8)) if data else [0]
    expected = [permute_one(position, n, seed, epoch) for position in positions]
    assert order.permute(np.array(positions, np.int64), n, seed, epoch).tolist() == expected


@slow
@given(n=st.integers(1, 3000), seed=SEEDS, epoch=EPOCHS)
@example(n=2**16, seed=0, epoch=0)
@example(n=2**16 + 1, seed=0, epoch=0)
@example(n=313 * 314, seed=0, epoch=0)
def test_permute_is_a_bijection(n, seed, epoch):
    numbers = order.permute(np.arange(n), n, seed, epoch)
    assert numbers.dtype == np.int64
    assert np.array_equal(np.sort(numbers), np.arange(n))


GOLDEN = {
    (10, 0, 0): [3, 4, 2, 7, 9, 1, 5, 8],
    (1797, 0, 0): [992, 660, 1213, 172, 63, 368, 1735, 1240],
    (1797, 0, 1): [1768, 589, 173, 42, 1495, 153, 462, 1711],
    (1797, 1, 0): [1636, 1107, 61, 194, 958, 970, 579, 181],
    (1281167, 42, 89): [257743, 1267233, 1145111, 14097, 896985, 991619, 316984, 527700],
    (10**10, 2**63, 10**6): [2649747866, 2318321532, 2002573976, 5362250783],
}


@pytest.mark.parametrize(("n", "seed", "epoch"), GOLDEN)
def test_the_order_never_changes(n, seed, epoch):
    expected = GOLDEN[n, seed, epoch]
    assert order.permute(np.arange(len(expected)), n, seed, epoch).tolist() == expected


def test_a_whole_epoch_never_changes():
    numbers = order.permute(np.arange(60_000), 60_000, 7, 3)
    assert hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest() == (
        "b9666c3cf57e41896f105c936eaa1a8211072094a30e0dcc570f4c3522db8d1a"
    )


def test_the_randomness_of_views_never_changes():
    drawn = order.uniform(7, 3, np.array([0, 1, 10**10]), 2)
    assert (drawn * 2**24).tolist() == [
        [3649518, 12228727],
        [1465305, 9716516],
        [10894381, 16360014],
    ]


@slow
@given(seed=SEEDS, epoch=EPOCHS, number=st.integers(0, 2**62), i=st.integers(0, 30))
def test_uniform_is_the_definition(seed, epoch, number, i):
    drawn = order.uniform(seed, epoch, np.array([number]), i + 1)
    assert drawn[0, i] == uniform_one(seed, epoch, number, i)


@pytest.mark.parametrize("n", [20, 1797])
def test_every_record_is_as_likely_in_every_place(n):
    epochs = 2000
    places = [0, 1, n // 2, n - 1]
    drawn = np.stack([order.permute(np.array(places), n, 0, epoch) for epoch in range(epochs)])
    bins = 10
    # Pairs of records in each pair of bins; no record is in two places.
    records = np.bincount(np.arange(n) * bins // n)
    pairs = np.outer(records, records) - np.diag(records)
    expected = pairs / pairs.sum() * epochs
    for first, second in ((0, 1), (0, 2), (0, 3), (2, 3)):
        cells = drawn[:, first] * bins // n * bins + drawn[:, second] * bins // n
        counts = np.bincount(cells, minlength=bins**2).reshape(bins, bins)
        # chi square: mean `freedom`, standard deviation sqrt(2 * freedom)
        freedom = bins**2 - 1
        excess = ((counts - expected) ** 2 / expected).sum() - freedom
        assert excess < 5 * math.sqrt(2 * freedom)


def test_epochs_and_seeds_have_their_own_order():
    n = 1000
    orders = [order.permute(np.arange(n), n, s, e) for s in (0, 1, -1) for e in range(4)]
    for i, one in enumerate(orders):
        assert 0 <= (one == np.arange(n)).sum() < 12  # 1 is expected
        for other in orders[:i]:
            assert (one == other).sum() < 12


def test_an_epoch_has_each_record_at_most_once_and_leaves_out_others_each_time():
    plan = make_plan(records=107, batch=16, micro_batch=4)
    left_out = []
    for epoch in range(20):
        seen = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            for micro_batch in range(plan.micro_batches):
                found, numbers = order.training_records(step, micro_batch, plan, seed=5)
                assert found == epoch
                seen += numbers.tolist()
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
    assert len({number for numbers in alone.values() for number in numbers}) == 64
    for replicas, plan in plans.items():
        for workers in (1, 2, 4):
            if replicas % workers == 0:
                assert worker_draws(plan, workers, step) == alone


@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (4, 2), (8, 1), (8, 4)])
def test_replica_r_draws_its_k_micro_batches_in_turn(replicas, workers):
    plan = make_plan(records=1000, batch=64, micro_batch=4, replicas=replicas)
    k = plan.draws_per_step
    assert k * replicas == 16
    local = replicas // workers
    for worker in range(workers):
        # tf.distribute: element i of a worker goes to its replica i mod `local`.
        for local_replica in range(local):
            draws = range(local_replica, 2 * k * local, local)
            drawn = [order.micro_batch(draw, plan, worker, workers) for draw in draws]
            own = range(
                (worker * local + local_replica) * k, (worker * local + local_replica + 1) * k
            )
            assert drawn == [(step, micro_batch) for step in (0, 1) for micro_batch in own]


def test_ten_billion_records_on_a_thousand_workers():
    plan = make_plan(records=10**10, batch=32 * 2048, micro_batch=32, replicas=1024)
    drawn = worker_draws(plan, workers=1024, step=10**9)
    assert sorted(drawn) == [(10**9, micro_batch) for micro_batch in range(2048)]
    numbers = np.array(list(drawn.values()))
    assert len(np.unique(numbers)) == 32 * 2048
    assert numbers.min() >= 0
    assert 0.99 * 10**10 < numbers.max() < 10**10


@pytest.mark.parametrize(("n", "block"), [(1, 3), (12, 4), (1000, 7), (1000, 1000), (5, 6)])
def test_runs_of_neighbours_stay_together(n, block):
    """A bijection whose runs are neighbours on the ring of records, another one every epoch."""
    for epoch in range(3):
        found = order.shuffle(np.arange(n), n, 3, epoch, block)
        assert sorted(found) == list(range(n))
        runs = found[: n // block * block].reshape(-1, block)
        assert (np.diff(runs, axis=1) % n == 1 % n).all()
    if n == 1000 and block == 7:
        assert (found != order.shuffle(np.arange(n), n, 3, 0, block)).any()
        firsts = found[: n // block * block : block]
        assert (np.diff(firsts) % n != block).mean() > 0.9, "the runs are not shuffled"


def test_a_block_of_one_is_the_perfect_shuffle():
    one = order.shuffle(np.arange(100), 100, 3, 5)
    assert np.array_equal(one, order.permute(np.arange(100), 100, 3, 5))


def test_uniform_belongs_to_the_record_whatever_else_is_drawn():
    numbers = np.arange(1000)
    drawn = order.uniform(3, 2, numbers, 5)
    assert drawn.dtype == np.float32
    assert drawn.shape == (1000, 5)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.array_equal(order.uniform(3, 2, numbers[::-7], 5), drawn[::-7])
    assert np.array_equal(order.uniform(3, 2, numbers, 2), drawn[:, :2])


def test_uniform_is_uniform_and_independent():
    drawn = order.uniform(0, 0, np.arange(20_000), 4).astype(np.float64)
    others = [order.uniform(s, e, np.arange(20_000), 4) for s, e in ((1, 0), (0, 1), (-1, 0))]
    columns = np.concatenate([drawn, *others], axis=1)
    assert np.abs(columns.mean(axis=0) - 1 / 2).max() < 5 / math.sqrt(12 * 20_000)
    assert np.abs(columns.var(axis=0) - 1 / 12).max() < 0.003
    correlation = np.corrcoef(columns.T) - np.eye(16)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)
    assert abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 5 / math.sqrt(20_000)


@pytest.mark.parametrize("micro_batch", [1, 4, 5])
@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)])
def test_an_evaluation_has_every_record_once(replicas, workers, micro_batch):
    for records in (1, max(1, micro_batch - 1), micro_batch, micro_batch + 1, 97):
        plan = EvaluationPlan(micro_batch, replicas, records)
        assert (plan.draws - 1) * micro_batch * replicas < records
        elements = plan.draws * replicas // workers
        for passes in (0, 1):
            drawn = [
                order.evaluation_records(draw + passes * elements, plan, worker, workers)
                for worker in range(workers)
                for draw in range(elements)
            ]
            assert {each.shape for each in drawn} == {(micro_batch,)}
            numbers = np.concatenate(drawn)
            assert len(numbers) == plan.draws * micro_batch * replicas
            assert sorted(numbers[numbers >= 0]) == list(range(records))
            assert set(numbers[numbers < 0]) <= {-1}


def test_one_worker_evaluates_in_record_order():
    plan = EvaluationPlan(images_per_micro_batch=4, replicas=2, records=11)
    drawn = [order.evaluation_records(draw, plan).tolist() for draw in range(5)]
    assert drawn == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, -1], [-1] * 4, [0, 1, 2, 3]]


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


def test_resolve_fills_in_what_is_unset():
    config = InputConfig(global_batch_size=64)
    assert order.resolve(config, 28, replicas=4) == InputConfig(
        global_batch_size=64, micro_batch_size=16, image_size=28
    )
    for records_size, image_size in ((None, 224), (1, 1), (224, 224), (225, 224), (500, 224)):
        assert order.resolve(config, records_size, 1).image_size == image_size


def test_resolve_leaves_what_is_set():
    config = InputConfig(global_batch_size=64, micro_batch_size=8, image_size=32)
    assert order.resolve(config, 28, replicas=6) == config  # whether 6 is possible: plan() says


def error(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_an_uneven_batch_is_an_error_that_lists_what_is_even():
    assert error(order.resolve, InputConfig(global_batch_size=12), None, replicas=5) == (
        "12 images a step do not split evenly over 5 replicas; replica counts that do: "
        "1, 2, 3, 4, 6, 12. Set --global_batch_size."
    )
    assert error(make_plan, 1000, batch=256, micro_batch=64, replicas=6) == (
        "256 images a step in micro-batches of 64 do not split evenly over 6 replicas; replica "
        "counts that do: 1, 2, 4. Use one of these; a new run may set --micro_batch_size or "
        "--global_batch_size."
    )


def test_too_few_records_for_a_step_is_an_error():
    assert error(make_plan, 63, batch=64, micro_batch=64) == (
        "63 training records do not fill one step of 64 images. Set --global_batch_size to 63 or "
        "less."
    )


def test_workers_with_different_numbers_of_replicas_are_an_error():
    plan = make_plan(records=100, batch=12, micro_batch=1, replicas=4)
    message = (
        "4 replicas do not split evenly over 3 workers. Give each worker the same number of "
        "devices."
    )
    assert error(order.micro_batch, 0, plan, workers=3) == message
    assert error(order.evaluation_records, 0, EvaluationPlan(1, 4, 9), workers=3) == message
