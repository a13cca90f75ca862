"""The settings of a run check themselves; in resolved ones nothing that matters is unset."""

import dataclasses
import math
from types import NoneType
from typing import get_args, get_type_hints

import pytest

from input.config import InputConfig
from input.foundation.settings import settings
from models.config import ModelConfig
from tests.conftest import error
from trainer.config import Config, Hardware, ResolvedConfig, ResolvedRun, RunConfig
from trainer.errors import TrainerError
from trainer.recipe import OptimizerConfig


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: OptimizerConfig(learning_rate=-1.0),
            "--learning_rate must be at least 0, not -1.0.",
        ),
        (
            lambda: OptimizerConfig(weight_decay=math.nan),
            "--weight_decay must be a finite number, not nan.",
        ),
        (
            lambda: OptimizerConfig(momentum=1.0),
            "--momentum must be at least 0 and below 1, not 1.0.",
        ),
        (
            lambda: OptimizerConfig(label_smoothing=-0.1),
            "--label_smoothing must be at least 0 and below 1, not -0.1.",
        ),
        (lambda: RunConfig(epochs=0), "--epochs must be at least 1, not 0."),
        (
            lambda: RunConfig(seed=2**32),
            "--seed must be at least 0 and at most 4294967295, not 4294967296.",
        ),
        (
            lambda: RunConfig(checkpoint_every_steps=0),
            "--checkpoint_every_steps must be at least 1, not 0.",
        ),
        (lambda: RunConfig(stall_seconds=0.0), "--stall_seconds must be above 0, not 0.0."),
        (
            lambda: RunConfig(start_seconds=math.inf),
            "--start_seconds must be a finite number, not inf.",
        ),
        (
            lambda: ResolvedRun(intra_op_threads=0),
            "--intra_op_threads must be at least 1, not 0.",
        ),
        (lambda: Hardware(virtual_cpus=0), "--virtual_cpus must be at least 1, not 0."),
        (
            lambda: Hardware(virtual_cpus=2, gpus=1),
            "--virtual_cpus and --gpus exclude each other: leave one of them out.",
        ),
        (lambda: Hardware(virtual_gpus=0), "--virtual_gpus must be at least 1, not 0."),
        (
            lambda: Hardware(virtual_cpus=2, virtual_gpus=2),
            "--virtual_cpus and --virtual_gpus exclude each other: leave one of them out.",
        ),
    ],
)
def test_settings_check_themselves(make, said):
    assert error(make) == said
    with pytest.raises(TrainerError):
        make()


def may_be_unset(config_type: type) -> dict[str, bool]:
    """Setting -> whether it may be None, of the settings that make a run this run."""
    hints = get_type_hints(config_type)
    compared = [field.name for field in dataclasses.fields(config_type) if field.compare]
    return {name: NoneType in get_args(hints[name]) for name in compared}


def test_which_settings_follow_from_others_records_and_hardware():
    unset = [
        name
        for group in get_type_hints(Config).values()
        for name, may in may_be_unset(group).items()
        if may
    ]
    assert unset == [
        *("micro_batch_size", "image_size", "augment", "crop_min_area"),
        *("learning_rate", "learning_rate_per_256", "weight_decay", "warmup_epochs"),
        *("step_epochs", "stop_after", "intra_op_threads"),
    ]


def test_a_resolved_config_has_the_same_settings_and_none_of_them_unset():
    resolved = get_type_hints(ResolvedConfig)
    for name, group in get_type_hints(Config).items():
        assert issubclass(resolved[name], group)
        assert may_be_unset(resolved[name]).keys() == may_be_unset(group).keys()
        unset = {each for each, may in may_be_unset(resolved[name]).items() if may}
        assert unset <= {"learning_rate_per_256", "stop_after"}  # which mean that there is none


def test_a_resolved_run_needs_what_a_run_may_leave_unset():
    with pytest.raises(TypeError, match="intra_op_threads"):
        ResolvedRun()
    assert isinstance(ResolvedRun(intra_op_threads=2), RunConfig)


def test_what_only_one_launch_decides_does_not_make_a_run_another_one():
    run = RunConfig(run_dir="a", steps_per_call=3, log_every_steps=1, keep_checkpoints=9)
    assert run == RunConfig(run_dir="b", checkpoint_every_steps=7, stall_seconds=1.0)
    assert run != RunConfig(run_dir="a", seed=1)
    assert RunConfig() != RunConfig(tf32=True)
    one, other = (
        Config(InputConfig(data_dir=folder), ModelConfig(), OptimizerConfig(), RunConfig())
        for folder in ("a", "b")
    )
    assert one == other


def test_every_setting_has_its_value():
    config = Config.of(epochs=7, model="resnet18")
    values = {setting.name: value for setting, value in config.values()}
    assert (values["epochs"], values["model"], values["global_batch_size"]) == (7, "resnet18", 256)
    assert len(values) == sum(len(settings(type(getattr(config, name)))) for name in vars(config))
