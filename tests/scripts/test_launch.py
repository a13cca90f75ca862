"""What comes after -- is the workers' command; the rest is samestep-launch's own."""

import sys
from typing import get_args

import pytest

from input.foundation.settings import settings
from scripts import launch
from tests.conftest import error
from tests.scripts.conftest import python
from trainer.launch import kubernetes, local, slurm
from trainer.launch.config import LaunchConfig

PLACES = {"local": local, "slurm": slurm, "kubernetes": kubernetes}


def where(name: str) -> LaunchConfig:
    return LaunchConfig(where=name, image="image", claim="claim")


@pytest.mark.parametrize(
    ("arguments", "own", "command"),
    [
        ([], [], []),
        (["--workers=2"], ["--workers=2"], []),
        (["--workers=2", "--"], ["--workers=2"], []),
        (["--", "train", "--help"], [], ["train", "--help"]),
        (["--workers=2", "--", "train", "--epochs=3"], ["--workers=2"], ["train", "--epochs=3"]),
        (["--name=x", "--", "sh", "-c", "--", "y"], ["--name=x"], ["sh", "-c", "--", "y"]),
        (["--workers=2", "samestep-train", "--epochs=3"], ["--workers=2"], []),  # -- is missing
    ],
)
def test_the_command_comes_after_two_hyphens(monkeypatch, arguments, own, command):
    entered = []
    monkeypatch.setattr(sys, "argv", ["samestep-launch", *arguments])
    monkeypatch.setattr(launch, "enter", lambda *given: entered.append(given))
    monkeypatch.setattr(local, "launch", lambda command, config: command)
    launch.main()
    [(_, run, config_type)] = entered
    assert config_type is LaunchConfig
    assert sys.argv == ["samestep-launch", *own]
    assert run.args == (command,)


def test_a_missing_command_is_refused():
    message = error(launch.launch, [], LaunchConfig(workers=2))
    assert message.startswith("The command is missing. It comes after --, as in samestep-launch ")


def test_a_missing_command_is_one_line_and_exit_2():
    refused = python("-m", "scripts.launch", "--workers=2", "--")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: The command is missing")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("name", PLACES)
def test_each_place_launches_with_its_own_module(monkeypatch, name):
    """Its exit code is the command's."""
    calls = []
    for place, module in PLACES.items():

        def stand_in(command, config, place=place):
            calls.append((place, command, config))
            return 7

        monkeypatch.setattr(module, "launch", stand_in)
    assert launch.launch(["train", "--x"], where(name)) == 7
    assert calls == [(name, ["train", "--x"], where(name))]


def test_no_place_is_without_its_module():
    (setting,) = (each for each in settings(LaunchConfig) if each.name == "where")
    assert set(get_args(setting.kind)) == set(PLACES)
