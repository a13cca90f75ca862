"""samestep-report as a process."""

import json

from tests.scripts.conftest import probed


def test_a_page_is_written_where_it_is_asked_for(recorded, tmp_path):
    done = probed("samestep-report", str(recorded), f"--page={tmp_path / 'page.html'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_folder_without_a_run_is_named_before_tensorflow_is_loaded(tmp_path):
    done = probed("samestep-report", str(tmp_path))
    assert done.returncode == 2
    assert f"--run_dir={tmp_path} holds no run" in done.stderr
    _, _, loaded = json.loads(done.stderr.splitlines()[-1])
    assert loaded == []
