"""The rows that a run shows at its start and its end."""

import json
from dataclasses import replace

import pytest

from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, cards, launches, tracing
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


BEST = replace(STATE, step=5, evaluation=replace(STATE.evaluation, correct=10))
LINE = {
    "train/loss": 0.5,
    "train/skipped_steps": 1,
    "run/bad_records": 2,
    "images_per_second": 100.0,
    "seconds_per_step": 1.0,
    "time/input": 0.5,
    "time/device": 3.5,
    "time/host": 1.0,
}


def test_how_a_run_ended(job, tmp_path):
    lines = [{"step": 5, **LINE}, {"step": 10, **LINE, "time/evaluating": 5.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in (0, 3, 5):
        launches.add(tmp_path, step, ["CPU:0"], 1)
    config = job.config
    rows = dict(cards.end_rows(tmp_path, STATE, BEST, config))
    code = replace(config, model=replace(config.model, model="net.py:build"))
    own = dict(cards.end_rows(tmp_path, STATE, BEST, code))
    assert own == rows | {"export": f"{rows['export']} --model=net.py:build"}
    assert rows == {
        "result": "accuracy 0.9000 on 10/10, loss 0.250000",
        "best": "accuracy 1.0000 on 10/10, loss 0.250000 at step 5",
        "weights": f"fingerprint {STATE.fingerprint}",
        "time": "0:00:15: input 7 %, device 47 %, host 13 %, saving 0 %, evaluating 33 %",
        "speed": "100 images/s while training",
        "restarts": "2, at steps 3, 5",
        "bad records": "2, with weight 0",
        "skipped steps": "2",
        "run": str(tmp_path),
        "watch": f"tensorboard --logdir {tmp_path}",
        "export": f"samestep-export --run_dir={tmp_path} --out={tmp_path}/export",
    }


def test_what_is_not_known_of_a_run_is_said(job, tmp_path):
    """Its first steps were made by a version that wrote no times."""
    lines = [{"step": 5, "train/loss": 1.0}, {"step": 10, **LINE}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert dict(cards.end_rows(tmp_path, STATE, BEST, job.config))["time"].startswith(
        "0:00:05, of 5 of the 10 steps: input 10 %"
    )
    (tmp_path / "metrics.jsonl").write_text("")
    rows = dict(cards.end_rows(tmp_path, STATE, BEST, job.config))
    assert rows["time"] == "unknown"
    assert "speed" not in rows
    assert [rows[name] for name in ("restarts", "bad records", "skipped steps")] == ["none"] * 3


def test_the_same_run_again_is_in_another_folder(job):
    config = replace(job.config, run=replace(job.config.run, run_dir="runs/first"))
    said = cards.again(config)
    assert said.startswith("the same run again: samestep-train --data_dir=")
    assert " --run_dir=runs/first-again " in said
    in_memory = replace(config, input=replace(config.input, data_dir=""))
    assert cards.again(in_memory) == ""
