"""The rows that a run shows at its start and its end."""

from dataclasses import replace

import pytest

from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, cards, tracing
from trainer.audit import Audit
from trainer.state import EvaluationResult, State
from trainer.workers import strategy

FOUND = Audit(draws=2, operations=9, layers=("block1_conv",))
STATE = State(10, "run", "0123456789abcdef" * 4, {}, EvaluationResult(0.25, 9, 10, 10))


@pytest.fixture(scope="module")
def job(data_dir):
    return assembly.begin(settings(data_dir), HARDWARE)


def start(job, state=None, first=None) -> dict[str, str]:
    plan = tracing.training(job).plan
    return dict(cards.start_rows(job, plan, FOUND, state, first or job.definition))


def test_what_a_new_run_starts_from(job):
    rows = start(job)
    assert rows["devices"].startswith(
        f"2 x CPU ({strategy.processor()}): CPU:0, CPU:1; TensorFlow sees "
    )
    assert rows["batch"] == "32 images a step = 4 micro-batches of 8, 2 per replica"
    assert rows["same result"] == (
        "on 1, 2 or 4 devices, with --micro_batch_size=8 --intra_op_threads=2"
    )
    assert rows["steps"] == "5 an epoch, 15 in all"
    assert rows["records"] == "160 to train, 43 to validate"
    assert rows["per class"] == "circle 54, cross 53, square 53"
    # 93,472 in front of the classifier, which weighs 2x2 places of 128.
    parameters = 93_472 + 4 * 128 * 3 + 3
    assert rows["model"] == f"cnn, {parameters:,} parameters, 16 pixels, float32"
    assert rows["pixels"] == "unit: -1..1 in float32"
    assert rows["audit"] == "nothing reshapes the batch before block1_conv, on 2 replicas"
    assert rows["start"] == "step 0, a new run"
    assert "warning" not in rows


def test_a_resumed_run_says_where_it_goes_on(job):
    assert start(job, STATE)["start"] == "step 10, 0123456789abcdef"


def test_what_may_change_the_bits_is_said(job):
    first = replace(
        job.definition, environment={**job.definition.environment, "tensorflow": "2.20.0"}
    )
    said = start(job, first=first)["warning"]
    now = job.definition.environment["tensorflow"]
    assert said.startswith(f"tensorflow was 2.20.0 at the first launch and is {now} now: ")


def test_a_move_to_another_model_of_cpu_is_said(job):
    environment = job.definition.environment
    first = replace(job.definition, environment={**environment, "processor": "Z80"})
    said = start(job, first=first)["warning"]
    assert said.startswith(f"processor was Z80 at the first launch and is {strategy.processor()} ")
    older = {name: value for name, value in environment.items() if name != "processor"}
    assert "warning" not in start(job, first=replace(first, environment=older))
    on_gpu = {"device": "NVIDIA H200"}
    moved = replace(job, definition=replace(job.definition, environment=environment | on_gpu))
    first = replace(first, environment=first.environment | on_gpu)
    assert "warning" not in start(moved, first=first)


def test_records_without_checksums_are_named(job, data_dir):
    assert "not checked" not in start(job)
    train = job.manifests["train"]
    shards = tuple(replace(shard, checksums=None) for shard in train.shards)
    old = replace(job, manifests={**job.manifests, "train": replace(train, shards=shards)})
    said = start(old)["not checked"]
    assert said.startswith("whether train still holds what was indexed; ")
    assert f"samestep-records index {data_dir} adds" in said


def test_the_first_twelve_of_many_classes_are_shown(job):
    names = tuple(f"class{i}" for i in range(15))
    many = replace(job.manifests["train"], classes=names, records_per_class=tuple(range(15)))
    crowded = replace(job, manifests={**job.manifests, "train": many})
    said = start(crowded)["per class"]
    assert said.startswith("class0 0, class1 1, ")
    assert said.endswith("class11 11, and 3 more classes")


def test_how_a_run_ended(tmp_path):
    best = replace(STATE, step=5, evaluation=replace(STATE.evaluation, correct=10))
    rows = dict(cards.end_rows(tmp_path, STATE, best, "cnn"))
    own = dict(cards.end_rows(tmp_path, STATE, best, "net.py:build"))
    assert own == rows | {"export": f"{rows['export']} --model=net.py:build"}
    assert rows == {
        "result": "accuracy 0.9000 on 10/10, loss 0.250000",
        "best": "accuracy 1.0000 on 10/10, loss 0.250000 at step 5",
        "weights": f"fingerprint {STATE.fingerprint}",
        "run": str(tmp_path),
        "watch": f"tensorboard --logdir {tmp_path}",
        "export": f"samestep-export --run_dir={tmp_path} --out={tmp_path}/export",
    }
