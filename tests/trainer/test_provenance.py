"""Code that a run's folder names is run only where the user has named it, and is the same code."""

import shutil
from dataclasses import replace

import pytest

from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer import loop, provenance, run_dir
from trainer.config import Hardware
from trainer.evaluate import evaluate_run
from trainer.export import export_run

NET = """
import pathlib
import keras
pathlib.Path(__file__).with_name("ran").touch()
def build(input_shape, num_classes):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3),
        keras.layers.{layer}(), keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(num_classes),
    ])
"""


def own(data_dir, folder, name, **run):
    config = settings(data_dir, folder)
    config = replace(config, run=replace(config.run, epochs=1, **run))
    return replace(config, model=replace(config.model, model=name, dropout=0.0))


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """A run with a model of its own code, as somebody might send it."""
    folder = tmp_path_factory.mktemp("sent")
    net = folder / "nice_model.py"
    net.write_text(NET.format(layer="ReLU"))
    loop.fit(own(data_dir, folder / "run", f"{net}:build"), HARDWARE)
    return folder


@pytest.fixture
def sent(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "sent")
    (trained / "ran").unlink(missing_ok=True)
    return folder


def test_what_a_folder_names_is_not_run_unasked(trained, sent, data_dir, tmp_path):
    name = f"{trained}/nice_model.py:build"
    calls = {
        "--model": [
            lambda: evaluate_run(sent / "run", Hardware()),
            lambda: export_run(sent / "run", tmp_path / "export"),
        ],
        "--init_model": [
            lambda: loop.fit(
                own(data_dir, tmp_path / "new", "cnn", init_weights=str(sent / "run")), HARDWARE
            )
        ],
    }
    for flag, refused in calls.items():
        for call in refused:
            assert error(call) == (
                f"{sent}/run names a model that is code, {name}, and would run it: "
                f"{trained}/nice_model.py. Where you trust that, repeat it: {flag}={name}"
            )
    assert not (trained / "ran").exists()


def test_what_the_user_repeats_is_run(trained, sent, data_dir, tmp_path):
    name = f"{trained}/nice_model.py:build"
    result = evaluate_run(sent / "run", Hardware(), model=name)
    assert export_run(sent / "run", tmp_path / "export", model=name).evaluation == result
    start = {"init_weights": str(sent / "run"), "init_model": name}
    loop.fit(own(data_dir, tmp_path / "new", name, **start), HARDWARE)
    other = f"{sent}/nice_model.py:build"
    assert f"--model={other}, but {sent}/run was trained with {name}" in error(
        evaluate_run, sent / "run", Hardware(), model=other
    )


def test_a_shipped_model_needs_no_name(data_dir, tmp_path):
    loop.fit(own(data_dir, tmp_path / "run", "cnn"), HARDWARE)
    assert run_dir.load(tmp_path / "run").source == ""
    evaluate_run(tmp_path / "run", Hardware())


def test_another_source_of_the_same_graph_is_said(trained, data_dir, tmp_path, capsys):
    net = trained / "nice_model.py"
    name, before = f"{net}:build", net.read_text()
    run = shutil.copytree(trained / "run", tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").unlink()
    first = run_dir.load(run)
    assert first.source and first.graph
    assert provenance.note(first) == ""
    try:
        net.write_text(before + "# a comment\n")
        capsys.readouterr()
        assert loop.fit(own(data_dir, run, name), HARDWARE).step == 5
        said = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"and was {first.source[:16]} at the first launch; it computes the same" in said
        assert run_dir.load(run).source == first.source
        evaluate_run(run, Hardware(), model=name)
        assert f"note: the source of {name} is" in capsys.readouterr().out
        net.write_text(NET.format(layer="ELU"))
        said = error(loop.fit, own(data_dir, run, name), HARDWARE)
        assert "at the first launch, and it computes something else now. Put the source" in said
    finally:
        net.write_text(before)


def test_other_records_than_the_runs_are_said(trained, data_dir, tmp_path, capsys):
    name = f"{trained}/nice_model.py:build"
    evaluate_run(trained / "run", Hardware(), model=name)
    assert "note:" not in capsys.readouterr().out
    other = tmp_path / "other"
    shutil.copytree(data_dir / "train", other / "validation")
    evaluate_run(trained / "run", Hardware(), model=name, data_dir=str(other))
    said = capsys.readouterr().out
    trained_on = run_dir.load(trained / "run").data
    assert said.startswith(
        f"note: other validation records than the run's: {trained_on['train'][:16]} in {other}, "
        f"the run has {trained_on['validation'][:16]}\n"
    )
