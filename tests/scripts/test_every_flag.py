"""Every setting of a run changes something: what is read, computed, planned or written.

OBSERVED has another value for a setting, with which a run's pixels, weights, rates or steps are
different. The others show only over time, or in what a run does with its folder and its process:
PROVED names the test that sees each.
"""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from input.foundation.settings import settings as settings_of
from tests.conftest import ROOT, THREADS
from tests.trainer.conftest import settings
from trainer import assembly, tracing
from trainer.config import Config, Hardware
from trainer.step import History

OBSERVED: dict[str, dict[str, object]] = {
    "global_batch_size": {"global_batch_size": 16},
    "micro_batch_size": {"micro_batch_size": 4},
    "image_size": {"image_size": 8},
    "augment": {"augment": "none"},
    "crop_min_area": {"crop_min_area": 0.2},
    "color_jitter": {"color_jitter": 0.4},
    "erasing": {"erasing": 0.9},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "repeated_augmentation": {"repeated_augmentation": 2},
    "validation_share": {"validation_share": 0.2},
    "read_block": {"read_block": 8},
    "antialias": {"antialias": True, "image_size": 8},
    "model": {"model": "resnet18"},
    "dropout": {"dropout": 0.5},
    "pixels": {"pixels": "raw"},
    "stochastic_depth": {"model": "resnet18", "stochastic_depth": 0.9},
    "freeze": {"freeze": "block1"},
    "optimizer": {"optimizer": "sgd"},
    "learning_rate": {"learning_rate": 0.5},
    "learning_rate_per_256": {"learning_rate": None, "learning_rate_per_256": 0.5},
    "momentum": {"optimizer": "sgd", "momentum": 0.1},
    "nesterov": {"optimizer": "sgd", "nesterov": False},
    "weight_decay": {"weight_decay": 0.5},
    "warmup_epochs": {"warmup_epochs": 2.0},
    "schedule": {"schedule": "constant"},
    "schedule_power": {"schedule": "polynomial", "schedule_power": 5.0},
    "step_epochs": {"schedule": "step", "step_epochs": 0.4},
    "step_factor": {"schedule": "step", "step_epochs": 0.4, "step_factor": 0.5},
    "final_fraction": {"final_fraction": 0.5},
    "clip_norm": {"clip_norm": 0.01},
    "label_smoothing": {"label_smoothing": 0.3},
    "class_weights": {"class_weights": "balanced"},
    "ema_decay": {"ema_decay": 0.9},
    "layer_decay": {"layer_decay": 0.5},
    "head_learning_rate_scale": {"head_learning_rate_scale": 10.0},
    "epochs": {"epochs": 9},
    "seed": {"seed": 3},
    "precision": {"precision": "bfloat16"},
    "reduction": {"reduction": "fast"},
    "jit": {"jit": True},
}
# Setting -> file under tests/ and test.
PROVED = {
    "data_dir": "trainer/test_evaluate.py::test_another_split_and_other_records_can_be_evaluated",
    "eval_crop": "input/views/test_crop.py::test_evaluation_sees_the_central_square",
    "decoder": "trainer/test_assembly.py::test_what_is_unset_is_resolved_by_records_and_hardware",
    "validation_split": "trainer/test_data.py::test_another_split_takes_the_place_of_validation",
    "max_pixels": "input/test_reader.py",
    "max_bad_records": "input/test_bad_records.py",
    "run_dir": "trainer/test_loop.py::test_a_run_leaves_its_files",
    "init_weights": "trainer/test_transfer.py::test_a_model_starts_with_the_newest_weights",
    "init_model": "trainer/test_provenance.py",
    "nan_policy": "trainer/test_incidents.py::test_a_run_goes_back_and_leaves_them_out",
    "nan_steps": "trainer/test_incidents.py",
    "stop_after": "trainer/test_evaluate.py::test_a_run_ends_where_evaluations_get_no_better",
    "deterministic": "trainer/test_losses.py",
    "tf32": "trainer/workers/test_strategy.py",
    "intra_op_threads": "trainer/test_assembly.py",
    "steps_per_call": "trainer/workers/test_watchdog.py",
    "log_every_steps": "trainer/test_calendar.py::test_next_stop",
    "tensorboard": "scripts/test_commands.py::test_tensorboard_runs_beside_the_training",
    "histogram_every": "trainer/board/conftest.py",
    "profile_steps": "trainer/board/conftest.py",
    "checkpoint_every_steps": "trainer/test_loop.py::test_the_moment_of_a_save_changes_nothing",
    "checkpoint_every_minutes": "trainer/test_calendar.py::test_a_save_is_due_by_the_clock",
    "on_metrics": "trainer/test_hooks.py",
    "keep_checkpoints": "trainer/test_checkpoint.py::test_the_newest_and_the_best_are_kept",
    "check_replicas": "trainer/test_crosscheck.py",
    "hash_every": "trainer/test_recording.py",
    "stall_seconds": "trainer/workers/test_watchdog.py",
    "start_seconds": "trainer/workers/test_watchdog.py",
    "virtual_cpus": "trainer/workers/test_strategy.py",
    "gpus": "trainer/workers/test_strategy.py",
    "virtual_gpus": "trainer/workers/test_strategy.py",
    "gpu_memory_growth": "trainer/workers/test_strategy.py",
}


def all_settings() -> Iterator[str]:
    groups = (*Config.__annotations__.values(), Hardware)
    for group in groups:
        for setting in settings_of(group):
            yield setting.name


def changed(config: Config, changes: dict[str, object]) -> Config:
    groups = {}
    for group, value in vars(config).items():
        own = {name: each for name, each in changes.items() if hasattr(value, name)}
        groups[group] = replace(value, **own)
    return replace(config, **groups)


def signature(config: Config) -> str:
    """Of what the first steps read and compute, and of all learning rates."""
    job = assembly.begin(config, Hardware(virtual_cpus=1))
    training = tracing.training(job)
    iterator = tracing.micro_batches(job, training.plan, first_step=0)
    if training.averages:
        training.averages.start()
    history = training.train(iterator, tf.constant(0, tf.int64), tf.constant(2, tf.int64))
    digest = hashlib.sha256(repr((training.plan, History._fields)).encode())
    digest.update(repr([reader.records for reader in job.readers.values()]).encode())
    values = [v.numpy() for v in job.model.variables if v.name != "seed_generator_state"]
    values += [column.numpy() for column in history]
    values += [v.numpy() for v in training.averages.layer.variables] if training.averages else []
    total = training.plan.steps_per_epoch * config.run.epochs
    values.append(np.array([float(training.schedule(tf.constant(s))) for s in range(total)]))
    for value in values:
        digest.update(value.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def base(data_dir):
    found = settings(data_dir)
    return replace(found, run=replace(found.run, intra_op_threads=THREADS))


@pytest.fixture(scope="module")
def signatures():
    return {}


@pytest.mark.parametrize("name", OBSERVED)
def test_another_value_is_another_run(base, signatures, name):
    """Against the same settings with that one as it was."""
    changes = OBSERVED[name]
    others = {key: value for key, value in changes.items() if key != name}

    def signed(settings: dict[str, object]) -> str:
        key = repr(sorted(settings.items()))
        if key not in signatures:
            signatures[key] = signature(changed(base, settings))
        return signatures[key]

    assert signed(changes) != signed(others)


def test_the_same_settings_are_the_same_run(base):
    assert signature(base) == signature(base)


def test_no_setting_is_left_out():
    assert sorted([*OBSERVED, *PROVED]) == sorted(all_settings())


@pytest.mark.parametrize("name", PROVED)
def test_what_proves_a_setting_is_there_and_names_it(name):
    path, _, test = PROVED[name].partition("::")
    text = (ROOT / "tests" / path).read_text()
    names = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names
    assert name in text or test
