"""A run that starts from another run's weights: what is copied, what is said, and the same bits."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from models.config import ModelConfig
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, loop, run_dir
from trainer.checkpoint import fingerprint
from trainer.config import Config, Hardware
from trainer.state import State
from trainer.transfer import Transfer, copy, transfer


def network(seed: int, classes: int = 3, *more: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(seed)
    image = keras.Input((4,))
    x = keras.layers.Dense(5, name="hidden")(keras.layers.Dropout(0.5, name="drop")(image))
    x = keras.layers.BatchNormalization(name="norm")(x)
    for layer in more:
        x = layer(x)
    return keras.Model(image, keras.layers.Dense(classes, name="head")(x))


class Twins(keras.layers.Layer):
    """Two layers of one name: their variables share a path."""

    def __init__(self):
        super().__init__(name="twins")
        self.first = keras.layers.Dense(5, name="twin")
        self.second = keras.layers.Dense(5, name="twin")

    def call(self, x):
        return self.second(self.first(x))


def test_variables_go_to_the_same_path_and_shape():
    source, model = network(1), network(2, 4, keras.layers.Dense(5, name="extra"))
    source.get_layer("norm").moving_mean.assign(np.full(5, 7.0))
    kept = {v.path: v.numpy() for v in model.variables}
    assert copy(source, model) == (
        6,
        ("extra/kernel", "extra/bias", "head/kernel", "head/bias"),
        ("head/kernel", "head/bias"),
    )
    theirs = {v.path: v.numpy() for v in source.variables}
    for v in model.variables:
        copied = v.path.startswith(("hidden", "norm"))
        assert np.array_equal(v.numpy(), (theirs if copied else kept)[v.path]), v.path
    assert np.all(model.get_layer("norm").moving_mean.numpy() == 7)


def test_variables_that_share_a_path_are_not_mistaken_for_each_other():
    source, model = network(1, 3, Twins()), network(2, 3, Twins())
    assert (
        source.get_layer("twins").first.kernel.path == source.get_layer("twins").second.kernel.path
    )
    assert copy(source, model) == (12, (), ())
    assert fingerprint(model) == fingerprint(source)


def test_long_lists_are_cut():
    state = State(5, "run", "0123456789abcdef" * 4, {})
    names = tuple("abcdefgh")
    assert dict(Transfer("runs/a", state, 4, names, names[:6]).rows()) == {
        "weights": "4 of 12 variables from runs/a, step 5, 0123456789abcdef",
        "not there": "a, b, c, d, e, f and 2 more: not in that run with the same shape",
        "not used": "a, b, c, d, e, f: not in this model with the same shape",
    }
    assert [name for name, _ in Transfer("runs/a", state, 4, (), ()).rows()] == ["weights"]


def starting_from(source, data_dir, folder="", **run) -> Config:
    """One epoch of another seed, and so of other random weights."""
    config = settings(data_dir, folder, init_weights=str(source), seed=5, **run)
    return replace(config, run=replace(config.run, epochs=1))


def larger(config: Config) -> Config:
    """Images of 24 pixels instead of 16: another classifier/kernel."""
    return replace(config, input=replace(config.input, image_size=24))


def test_a_model_starts_with_the_newest_weights(finished, data_dir):
    job = assembly.begin(starting_from(finished.run_dir, data_dir), HARDWARE)
    assert fingerprint(job.model) != finished.state.fingerprint
    found = transfer(job, None)
    assert found == Transfer(str(finished.run_dir), finished.state, 17, (), ())
    assert fingerprint(job.model) == finished.state.fingerprint


def test_without_the_flag_nothing_is_copied(data_dir):
    assert transfer(assembly.begin(settings(data_dir), HARDWARE), None) is None


@pytest.fixture(scope="module")
def started(finished, data_dir, tmp_path_factory) -> tuple:
    """A run with another head from a source of its own: source, run's folder, its state."""
    folder = tmp_path_factory.mktemp("started")
    shutil.copytree(finished.run_dir, folder / "source")
    config = larger(starting_from(folder / "source", data_dir, folder / "run"))
    return folder / "source", folder / "run", loop.fit(config, HARDWARE)


def test_replicas_do_not_change_the_bits(started, data_dir, tmp_path, capsys):
    source, _, state = started
    config = larger(starting_from(source, data_dir, tmp_path / "one"))
    assert loop.fit(config, Hardware(virtual_cpus=1)).fingerprint == state.fingerprint
    said = " ".join(capsys.readouterr().out.split())
    assert "weights 16 of 17 variables from" in said
    assert "not there classifier/kernel: not in that run with the same shape" in said
    plain = replace(config, run=replace(config.run, init_weights="", run_dir=f"{tmp_path}/plain"))
    assert loop.fit(plain, Hardware(virtual_cpus=1)).fingerprint != state.fingerprint


def test_the_definition_names_the_weights(started, finished):
    first = run_dir.load(started[1])
    assert first.config.run.init_weights == str(started[0])
    assert first.initial_weights == finished.state.fingerprint


def test_a_checkpoint_rules_on_resume(started, data_dir, tmp_path):
    """The source is needed no more; what it is called still makes the run this run."""
    source, folder, state = started
    shutil.copytree(folder, tmp_path / "run")
    config = larger(starting_from(source, data_dir, tmp_path / "run"))
    hidden = source.rename(source.with_name("hidden"))
    try:
        assert loop.fit(config, HARDWARE) == state
    finally:
        hidden.rename(source)
    other = replace(config, run=replace(config.run, init_weights=""))
    said = error(loop.fit, other, HARDWARE)
    assert f"--init_weights= (the run has {source})" in said


def test_a_source_that_has_changed_before_the_first_checkpoint_is_named(
    started, finished, data_dir, tmp_path
):
    source, folder, _ = started
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # as if it had been killed in its first steps
    (tmp_path / "run" / "metrics.jsonl").unlink()
    config = larger(starting_from(source, data_dir, tmp_path / "run"))
    newest = source / "checkpoints" / "step-00000015"
    hidden = newest.rename(source / "hidden")
    try:
        said = error(loop.fit, config, HARDWARE)
    finally:
        hidden.rename(newest)
    assert said.startswith(f"--init_weights={source} has other weights now (")
    assert f"when this run began with them ({finished.state.fingerprint[:16]}). Start in" in said
    assert loop.fit(config, HARDWARE).fingerprint == started[2].fingerprint


def test_what_cannot_be_a_source_is_named(finished, data_dir, tmp_path):
    source = finished.run_dir

    def said(config: Config) -> str:
        return error(transfer, assembly.begin(config, HARDWARE), None)

    config = starting_from(source, data_dir)
    assert said(replace(config, model=ModelConfig("resnet18"))) == (
        f"--init_weights={source} holds --model=cnn, and none of its 17 variables has the path and "
        "shape of one of --model=resnet18. Leave --init_weights out, or choose another model."
    )
    assert said(starting_from(source, data_dir, f"{source}/../{source.name}")) == (
        f"--init_weights={source} is the --run_dir itself. Give the folder of another run, or "
        "leave --init_weights out."
    )
    assert said(starting_from(tmp_path, data_dir)).startswith(
        f"--init_weights={tmp_path} holds no run: there is no config.json."
    )
    run_dir.save(tmp_path, run_dir.load(source))
    assert said(starting_from(tmp_path, data_dir)) == (
        f"{tmp_path}/checkpoints holds no latest checkpoint yet."
    )
