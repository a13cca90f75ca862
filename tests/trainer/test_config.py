"""The definition of a run: its round trip, what a resume fills in, and what it refuses."""

import math
from dataclasses import replace

import pytest

from input.config import InputConfig
from models.config import ModelConfig
from trainer import config
from trainer.config import Config, Hardware, OptimizerConfig, RunConfig, Stored
from trainer.errors import TrainerError

CONFIG = Config(
    InputConfig(data_dir="data", micro_batch_size=64, image_size=28),
    ModelConfig("cnn", dropout=0.1),
    OptimizerConfig(clip_norm=1.0),
    RunConfig(run_dir="run", intra_op_threads=2),
)
STORED = Stored(CONFIG, ("a", "b"), {"train": "1", "validation": "2"}, {"device": "CPU"})


def test_round_trip(tmp_path):
    assert config.find(tmp_path) is None
    config.save(tmp_path, STORED)
    assert config.find(tmp_path) == STORED == config.load(tmp_path)
    assert config.find(tmp_path).config.to_json() == CONFIG.to_json()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"config": {"input": {"nonsense": 1}}}'])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(TrainerError, match=r"config\.json does not describe a run"):
        config.find(tmp_path)


def test_no_run_is_named(tmp_path):
    with pytest.raises(TrainerError, match="holds no run"):
        config.load(tmp_path)


def test_unset_settings_keep_what_the_first_launch_made_of_them():
    launch = Config(
        replace(CONFIG.input, micro_batch_size=None, image_size=None),
        CONFIG.model,
        CONFIG.optimizer,
        replace(CONFIG.run, intra_op_threads=None),
    )
    assert config.fill_in(launch, CONFIG) == CONFIG


def test_every_difference_is_listed():
    other = Config(
        replace(CONFIG.input, global_batch_size=128),
        replace(CONFIG.model, model="resnet18"),
        replace(CONFIG.optimizer, clip_norm=0.0),
        replace(CONFIG.run, seed=3),
    )
    with pytest.raises(TrainerError) as error:
        config.check_same(STORED, other, {"train": "1", "validation": "3"})
    for words in (
        "--global_batch_size=128 (the run has 256)",
        "--model=resnet18 (the run has cnn)",
        "--clip_norm=0.0 (the run has 1.0)",
        "--seed=3 (the run has 0)",
        "other validation records",
        "another --run_dir",
    ):
        assert words in str(error.value)
    assert "train records" not in str(error.value)


def test_what_does_not_change_the_result_may_differ():
    other = Config(
        replace(CONFIG.input, data_dir="elsewhere", max_bad_records=3),
        CONFIG.model,
        CONFIG.optimizer,
        replace(CONFIG.run, run_dir="moved", log_every_steps=1, steps_per_call=3),
    )
    config.check_same(STORED, other, STORED.data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OptimizerConfig(learning_rate=-1.0), "--learning_rate must be 0 or more"),
        (lambda: OptimizerConfig(weight_decay=math.nan), "--weight_decay must be 0 or more, not"),
        (lambda: OptimizerConfig(momentum=1.0), "--momentum must be at least 0 and below 1"),
        (lambda: RunConfig(epochs=0), "--epochs must be 1 or more"),
        (lambda: RunConfig(checkpoint_every_steps=0), "--checkpoint_every_steps must be 1"),
        (lambda: Hardware(virtual_cpus=0), "--virtual_cpus must be 1 or more"),
        (lambda: Hardware(virtual_cpus=2, gpus=1), "exclude each other"),
    ],
)
def test_settings_check_themselves(make, words):
    with pytest.raises(TrainerError, match=words):
        make()


def test_a_worker_that_differs_is_named():
    config.check_workers(STORED, STORED, 1)
    other = replace(
        STORED,
        config=replace(CONFIG, run=replace(CONFIG.run, seed=1)),
        data={"train": "1", "validation": "3"},
        environment={"device": "GPU"},
    )
    with pytest.raises(TrainerError) as refusal:
        config.check_workers(STORED, other, 3)
    for word in ("Worker 3", "--seed=1 (worker 0 has 0)", "other validation records", "device GPU"):
        assert word in str(refusal.value)
