"""Odd things where a run's or a data set's files should be: one line, no traceback, no wait."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from input.foundation import retry
from input.foundation.errors import UserError
from input.manifest import Manifest, find_splits
from scripts import doorway
from tests.trainer.conftest import HARDWARE, settings
from trainer import loop, run_dir
from trainer.config import Hardware
from trainer.evaluate import evaluate_run
from trainer.export import export_run
from trainer.monitor import Monitor


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop_of_links(path: Path) -> None:
    path.symlink_to(path.name)


ODD = {"folder": Path.mkdir, "pipe": pipe, "device": device, "loop": loop_of_links}
FILES = ("config.json", ".lock", "checkpoints", "metrics.jsonl")


@pytest.fixture(scope="module")
def sound(tmp_path_factory, data_dir) -> Path:
    """A run of an epoch."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    config = settings(data_dir, folder)
    loop.fit(config, HARDWARE)
    return folder


def refused(call: Callable[[], object]) -> str:
    """What the command would say in its one line."""
    with pytest.raises((UserError, OSError)) as caught:
        call()
    error = caught.value
    if isinstance(error, OSError):
        assert error.errno in doorway._OF_THE_SYSTEM, error
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("file", FILES)
def test_in_a_runs_folder(sound, data_dir, tmp_path, kind, file, monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: None)
    run = shutil.copytree(sound, tmp_path / "run")
    path = run / file
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if kind == "folder" and file == "checkpoints":
        pytest.skip("it is one")
    ODD[kind](path)
    refused(lambda: loop.fit(settings(data_dir, run), HARDWARE))
    if file == "config.json":
        for command in (run_dir.load, lambda r: evaluate_run(r, Hardware())):
            assert str(path) in refused(lambda command=command: command(run))
        assert str(path) in refused(lambda: export_run(run, tmp_path / "out"))


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("file", ["state.json", "weights.index"])
def test_in_a_checkpoint_it_is_damage(sound, data_dir, tmp_path, kind, file, capsys):
    run = shutil.copytree(sound, tmp_path / "run")
    newest = max((run / "checkpoints").iterdir())
    (newest / file).unlink()
    ODD[kind](newest / file)
    loop.fit(settings(data_dir, run), HARDWARE)
    said = capsys.readouterr().out
    assert f"checkpoint {newest} is damaged: " in said
    assert newest.is_dir() and newest.with_name(f"{newest.name}.damaged").is_dir()


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("what", ["a split", "its manifest", "the data"])
def test_in_a_data_set(data_dir, tmp_path, kind, what):
    data = shutil.copytree(data_dir, tmp_path / "data")
    paths = {
        "a split": data / "train",
        "its manifest": data / "train/manifest.json",
        "the data": data,
    }
    path = paths[what]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    ODD[kind](path)
    refused(lambda: Manifest.load(data / "train"))
    refused(lambda: loop.fit(settings(data, tmp_path / "run"), HARDWARE))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_name_that_is_too_long(data_dir, tmp_path):
    long = tmp_path / ("x" * 300)
    for call in (
        lambda: Manifest.load(long),
        lambda: find_splits(long),
        lambda: loop.fit(settings(long, tmp_path / "run"), HARDWARE),
        lambda: loop.fit(settings(data_dir, long), HARDWARE),
        lambda: evaluate_run(long, Hardware()),
    ):
        assert "File name too long" in refused(call)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC])
def test_what_the_system_refuses(sound, data_dir, tmp_path, monkeypatch, number):
    """root may open everything: the refusals are made up."""
    run, opened, denied = shutil.copytree(sound, tmp_path / "run"), os.open, []

    def denying(path, *arguments, **options):
        if isinstance(path, Path) and path.name in denied:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", denying)
    for file in ("config.json", "metrics.jsonl"):
        denied[:] = [file]
        assert os.strerror(number) in refused(lambda: loop.fit(settings(data_dir, run), HARDWARE))
    for file in ("manifest.json", "train-00000.tfrecord.idx", "train-00000.tfrecord.crc32c"):
        denied[:] = [file]
        assert os.strerror(number) in refused(lambda: Manifest.load(data_dir / "train"))


def test_a_metrics_file_that_is_none(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    assert "metrics.jsonl" in refused(lambda: Monitor(tmp_path, 10, 5, 0))
