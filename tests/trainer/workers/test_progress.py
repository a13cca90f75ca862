"""What is reported is what is read; nothing is an error."""

from trainer.workers import progress


def test_a_reported_step_is_read(tmp_path, monkeypatch):
    file = tmp_path / "progress"
    assert progress.read(file) == ""
    monkeypatch.setenv(progress.VARIABLE, str(file))
    for step in (5, 120):
        progress.report(step)
        assert progress.read(file) == str(step)


def test_without_a_launcher_nothing_is_reported(monkeypatch):
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    progress.report(5)


def test_a_file_that_cannot_be_written_or_read_is_no_progress(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path))
    progress.report(5)
    assert progress.read(tmp_path) == ""
    (tmp_path / "f").write_bytes(b"\xff")
    assert progress.read(tmp_path / "f") == ""
