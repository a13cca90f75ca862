"""Settings of how a run learns: their ranges, what suits where they are unset, open ends."""

import math
from dataclasses import replace
from typing import get_args

import pytest

from tests.conftest import error
from tests.trainer.steps import plain
from trainer import recipe
from trainer.optimizers import OPTIMIZERS
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


def test_every_optimizer_has_what_suits_it():
    assert set(recipe.SUITED) == set(OPTIMIZERS) == set(get_args(recipe.OptimizerName))


@pytest.mark.parametrize("name", recipe.SUITED)
def test_what_is_unset_suits_optimizer_batch_and_run(name):
    suited = recipe.SUITED[name]
    for images in (64, 256, 1024):
        found = recipe.resolve(OptimizerConfig(optimizer=name), images, epochs=30)
        growth = images / 256 if suited.linear else math.sqrt(images / 256)
        assert found.learning_rate == suited.rate * growth
        assert found.learning_rate_per_256 == suited.rate
        assert (found.weight_decay, found.warmup_epochs) == (suited.decay, 3.0)
        assert (found.step_epochs, found.optimizer) == (10.0, name)
        # As a resumed run has it: what is filled in changes nothing.
        assert recipe.resolve(OptimizerConfig(**vars(found)), images, epochs=30) == found
    assert recipe.resolve(OptimizerConfig(), 256, epochs=90).warmup_epochs == 5.0


def test_a_rate_that_is_given_stays():
    found = recipe.resolve(OptimizerConfig(learning_rate=0.5), 1024, 10)
    assert (found.learning_rate, found.learning_rate_per_256) == (0.5, None)
    given = OptimizerConfig(optimizer="sgd", learning_rate_per_256=0.2)
    assert recipe.resolve(given, 1024, 10).learning_rate == 0.8
    both = replace(given, learning_rate=0.5)
    assert error(recipe.resolve, both, 1024, 10) == (
        "--learning_rate=0.5 and --learning_rate_per_256=0.2, which is 0.8 here, exclude each "
        "other: leave one of them out."
    )


def test_a_card_says_how_the_rate_grows():
    settings = recipe.resolve(OptimizerConfig(optimizer="sgd"), 512, 10)
    assert recipe.shown(settings, 512) == (
        "sgd, learning rate 0.2 at 512 images a step (0.1 at 256 images a step, growing with them "
        "in proportion), 1 epoch of warm-up, then cosine; weight decay 0.001"
    )
    assert "growing with them as its square root" in recipe.shown(
        recipe.resolve(OptimizerConfig(), 512, 10), 512
    )
    assert "growing" not in recipe.shown(plain(), 512)
