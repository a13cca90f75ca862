"""The settings of samestep-launch."""

import pytest

from tests.conftest import error
from trainer.launch.config import LaunchConfig

CLUSTER = {"where": "kubernetes", "image": "registry/me/samestep:1", "claim": "data"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 0}, "--workers must be at least 1, not 0."),
        ({"gpus_per_worker": -1}, "--gpus_per_worker must be at least 0, not -1."),
        ({"max_restarts": -1}, "--max_restarts must be at least 0, not -1."),
        ({"grace_seconds": 0}, "--grace_seconds must be at least 1, not 0."),
        ({"cpus_per_worker": 0}, "--cpus_per_worker must be at least 1, not 0."),
    ],
)
def test_settings_check_themselves(settings, said):
    assert error(LaunchConfig, **settings) == said


@pytest.mark.parametrize("name", ["a", "digits-2", "a" * 40])
def test_a_name_that_dns_takes(name):
    assert LaunchConfig(name=name).name == name


@pytest.mark.parametrize("name", ["", "2digits", "Digits", "digits-", "a_b", "a" * 41, "a\n"])
def test_a_name_that_dns_would_not_take(name):
    assert error(LaunchConfig, name=name) == (
        f"--name must be 1 to 40 lower-case letters, digits and -, a letter first, not {name!r}."
    )


@pytest.mark.parametrize("missing", ["image", "claim"])
def test_kubernetes_needs_an_image_and_a_claim(missing):
    LaunchConfig(**CLUSTER)
    assert error(LaunchConfig, **CLUSTER | {missing: ""}) == (
        "--where=kubernetes needs --image=IMAGE with samestep in it, and --claim=CLAIM, a volume "
        "that all workers share."
    )
    LaunchConfig(**CLUSTER | {missing: "", "where": "slurm"})
