"""Settings of how a run learns: what is out of range, and which schedules have no end."""

import pytest

from tests.conftest import error
from trainer.recipe import OptimizerConfig, ResolvedOptimizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "--learning_rate must be at least 0, not -1.0."),
        ({"learning_rate_per_256": -1.0}, "--learning_rate_per_256 must be at least 0, not -1.0."),
        ({"momentum": 1.0}, "--momentum must be at least 0 and below 1, not 1.0."),
        ({"schedule_power": 0.0}, "--schedule_power must be above 0, not 0.0."),
        ({"step_epochs": 0.0}, "--step_epochs must be above 0, not 0.0."),
        ({"step_factor": 1.5}, "--step_factor must be above 0 and at most 1, not 1.5."),
        ({"final_fraction": 2.0}, "--final_fraction must be at least 0 and at most 1, not 2.0."),
        ({"ema_decay": 1.0}, "--ema_decay must be at least 0 and below 1, not 1.0."),
    ],
)
def test_what_is_out_of_range_is_an_error(settings, message):
    assert error(OptimizerConfig, **settings) == message


@pytest.mark.parametrize(
    ("schedule", "open_ended"),
    [
        ("cosine", False),
        ("linear", False),
        ("polynomial", False),
        ("step", True),
        ("constant", True),
    ],
)
def test_which_schedules_depend_on_the_length_of_the_run(schedule, open_ended):
    assert OptimizerConfig(schedule=schedule).open_ended is open_ended


def test_a_resolved_optimizer_needs_what_may_be_unset():
    with pytest.raises(TypeError, match="learning_rate"):
        ResolvedOptimizer()
