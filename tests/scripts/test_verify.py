"""samestep-verify: its steps, what it prints, and its exit codes."""

import shutil

import pytest

from scripts import verify
from scripts.verify import VerifyConfig
from tests.conftest import error
from tests.trainer.receipts import HARDWARE, MODEL


def test_steps_are_a_first_and_a_last_one():
    config = VerifyConfig(run_dir="RUN", steps="1000:1010")
    assert (config.first, config.last) == (1000, 1010)
    for wrong in ("7", "0:3", "3:", "a:b", "1:2:3", "-1:2"):
        said = error(VerifyConfig, run_dir="RUN", steps=wrong)
        assert said == f"--steps must be two steps, as 1000:1010, not {wrong!r}."
    said = error(VerifyConfig, run_dir="RUN", steps="8:7")
    assert said == "--steps=8:7 ends before it begins."


@pytest.mark.parametrize("changed", [False, True])
def test_the_last_line_and_the_exit_code_are_the_verdict(recorded, tmp_path, capsys, changed):
    run = shutil.copytree(recorded, tmp_path / "run")
    if changed:
        path = run / "receipt.jsonl"
        path.write_text(path.read_text().replace('"step": 12,', '"step": 11,'))
    config = VerifyConfig(run_dir=str(run), steps="11:11", model=MODEL)
    code = verify.verify(config, HARDWARE)
    last = capsys.readouterr().out.splitlines()[-1]
    if changed:
        assert (code, last.startswith("NOT VERIFIED receipt.jsonl: line 12, of step 11, ")) == (
            1,
            True,
        )
    else:
        assert (code, last) == (0, f"VERIFIED     {run}")
