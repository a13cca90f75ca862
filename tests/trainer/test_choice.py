"""A choice that several commands have is the same setting in all of them."""

import pytest

from input.foundation.settings import settings
from scripts.evaluate import EvaluateConfig
from scripts.export import ExportConfig
from scripts.predict import PredictConfig
from scripts.verify import VerifyConfig


@pytest.mark.parametrize("name", ["model", "checkpoint", "weights"])
@pytest.mark.parametrize("config", [ExportConfig, PredictConfig])
def test_what_is_chosen_is_chosen_alike(name, config):
    ours, theirs = ({s.name: s for s in settings(each)} for each in (EvaluateConfig, config))
    assert ours[name] == theirs[name]


@pytest.mark.parametrize("name", ["run_dir", "model", "data_dir"])
def test_a_run_that_is_verified_is_named_alike(name):
    ours, theirs = ({s.name: s for s in settings(each)} for each in (EvaluateConfig, VerifyConfig))
    assert ours[name] == theirs[name]
