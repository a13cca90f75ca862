"""samestep-plan: its own settings, and the card it shows."""

import pytest

from input.config import InputConfig
from models.config import ModelConfig
from scripts.plan import PlanConfig, plan
from tests.conftest import error
from trainer.config import Config, RunConfig
from trainer.recipe import OptimizerConfig


def settings(data_dir) -> Config:
    inputs = InputConfig(data_dir=str(data_dir), global_batch_size=32, micro_batch_size=8)
    return Config(inputs, ModelConfig(), OptimizerConfig(), RunConfig(epochs=3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "--workers must be at least 1, not 0."),
        ({"replicas_per_worker": 0}, "--replicas_per_worker must be at least 1, not 0."),
        ({"images_per_second": 0.0}, "--images_per_second must be above 0, not 0.0."),
        (
            {"bandwidth_gigabits": float("inf")},
            "--bandwidth_gigabits must be a finite number, not inf.",
        ),
    ],
)
def test_hardware_that_cannot_be_is_refused(wrong, message):
    assert error(PlanConfig, **wrong) == message


def test_the_card_is_of_the_hardware_that_was_asked_for(data_dir, capsys):
    hardware = PlanConfig(
        workers=2, replicas_per_worker=2, images_per_second=80.0, bandwidth_gigabits=1.0
    )
    plan(settings(data_dir), hardware)
    shown = " ".join(capsys.readouterr().out.split())
    assert "4 = 2 workers x 2; the same result on 1, 2 or 4 replicas" in shown
    assert "5 an epoch, 15 in all" in shown
    assert "ms between the workers at 1 Gbit/s" in shown
    assert "of 4 replicas without communication" in shown


def test_records_are_needed():
    message = error(plan, settings(""), PlanConfig())
    assert (
        message
        == "--data_dir is missing: the folder that samestep-records write --out=DIR has made."
    )
