"""The proof's kills come when they are drawn for, and its verdict is every bit's."""

import random
import sys

import pytest

from input.errors import InputError
from scripts import proof
from trainer.errors import TrainerError

KILLED = [run for run in proof.OTHERS if len(run.virtual_cpus) > 1]


@pytest.mark.parametrize("run", KILLED, ids=lambda run: run.name)
@pytest.mark.parametrize(("total", "every"), [(31, 5), (62, 10), (1000, 166)])
def test_kills_are_spread_over_the_run(run, total, every):
    for seed in range(200):
        kills = proof.draw_kills(run, total, every, random.Random(seed))
        steps = [kill.step for kill in kills]
        assert len(set(steps)) == len(run.virtual_cpus) - 1
        assert steps == sorted(steps)
        assert steps[0] > 0 and steps[-1] < total - 1
        assert (steps[0] < every) == run.early
        assert all(step > every for step in steps[1:])
        assert [kill.step % every for kill in kills if kill.saving] == [0]


def test_a_run_too_short_for_its_kills_is_refused():
    with pytest.raises(InputError, match="6 steps are too few for 4 kills"):
        proof.draw_kills(KILLED[0], 6, 2, random.Random(0))


# A run that makes a step every 20 ms, and never finishes its checkpoint after step 4.
TRAINING = """
import json, pathlib, sys, time
run_dir = pathlib.Path(sys.argv[1])
run_dir.mkdir(exist_ok=True)
for step in range(1, int(sys.argv[2]) + 1):
    time.sleep(0.02)
    with (run_dir / "metrics.jsonl").open("a") as file:
        print(json.dumps({"step": step, "seconds_per_step": 0.02}), file=file)
    if step == 4:
        (run_dir / "checkpoints" / "step-00000004.incomplete").mkdir(parents=True)
        time.sleep(600)
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Launches TRAINING for some steps; returns where it was killed."""

    def run(kill: proof.Kill | None, steps: int = 500, code: int = 0) -> str:
        argv = [sys.executable, "-c", TRAINING, str(tmp_path / "run"), str(steps), str(code)]
        monkeypatch.setattr(proof, "module_command", lambda *_: argv)
        proof._launch(tmp_path / "run", tmp_path / "log", [], kill)
        return proof._place(tmp_path / "run")

    return run


def test_a_kill_comes_when_it_is_said_to(launch):
    place = launch(proof.Kill(2, False, 0.0))
    assert place in ("2 (unsaved)", "3 (unsaved)", "4 (saving)")


def test_a_kill_comes_while_a_checkpoint_is_written(launch):
    assert launch(proof.Kill(4, True, 0.5)) == "4 (saving)"


def test_a_kill_that_finds_nobody_is_an_error(launch):
    with pytest.raises(TrainerError, match="faster than its kill"):
        launch(proof.Kill(9, False, 0.0), steps=3)


def test_a_launch_that_fails_is_an_error(launch):
    with pytest.raises(TrainerError, match="ended with code 3"):
        launch(None, steps=1, code=3)


def test_one_other_fingerprint_is_no_proof(capsys):
    same = proof.Outcome(proof.REFERENCE, [], 0.97, "a" * 64)
    assert proof._judge([same, same]) == 0
    assert "PROVED: 2 runs, 1 result" in capsys.readouterr().out
    assert proof._judge([same, same._replace(fingerprint="a" * 63 + "b")]) == 1
    assert "BROKEN: 2 different results" in capsys.readouterr().out
