"""The model's settings check themselves, and say so as a user error."""

import math

import pytest

from input.foundation.errors import UserError
from models.config import ModelConfig
from models.errors import ModelError
from tests.conftest import error


@pytest.mark.parametrize(
    ("dropout", "rule"),
    [
        (-0.1, "at least 0 and below 1, not -0.1."),
        (1.0, "at least 0 and below 1, not 1.0."),
        (math.nan, "a finite number, not nan."),
    ],
)
def test_dropout_is_a_rate(dropout, rule):
    assert error(ModelConfig, dropout=dropout) == f"--dropout must be {rule}"


def test_a_wrong_setting_is_a_model_error_and_ends_with_2():
    with pytest.raises(ModelError) as caught:
        ModelConfig(dropout=2.0)
    assert isinstance(caught.value, UserError)
    assert caught.value.exit_code == 2


def test_the_defaults_are_settings_too():
    assert ModelConfig() == ModelConfig("cnn", 0.0)
