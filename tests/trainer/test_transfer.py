"""A run that starts from another run's weights: what is copied, what is said, and the same bits."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from models.config import ModelConfig
from tests.conftest import error
from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, loop, run_dir, tracing
from trainer.checkpoint import Checkpoints
from trainer.config import Config, Hardware
from trainer.fingerprint import fingerprint
from trainer.transfer import Transfer, _by_place, copy, transfer


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


def values(model: keras.Model) -> dict:
    return {place: v.numpy() for place, v in _by_place(model).items()}


def test_variables_go_to_the_same_path_and_shape():
    source, model = network(1), network(2, 4, keras.layers.Dense(5, name="extra"))
    source.get_layer("norm").moving_mean.assign(np.full(5, 7.0))
    kept = {v.path: v.numpy() for v in model.variables}
    assert copy(values(source), model) == (
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
    assert copy(values(source), model) == (12, (), ())
    assert fingerprint(model) == fingerprint(source)


def test_long_lists_are_cut():
    mark = "0123456789abcdef" * 4
    names = tuple("abcdefgh")
    assert dict(Transfer("runs/a, step 5", mark, 4, names, names[:6]).rows()) == {
        "weights": "4 of 12 variables from runs/a, step 5, 0123456789abcdef",
        "not there": "a, b, c, d, e, f and 2 more: not in that source with the same shape",
        "not used": "a, b, c, d, e, f: not in this model with the same shape",
    }
    assert [name for name, _ in Transfer("runs/a, step 5", mark, 4, (), ()).rows()] == ["weights"]


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
    state = finished.state
    source = f"{finished.run_dir}, step {state.step}"
    assert found == Transfer(source, state.fingerprint, 17, (), ())
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
    assert "not there classifier/kernel: not in that source with the same shape" in said
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
        f"--init_weights={source} holds a run and has 17 variables, and none of them has the path "
        "and shape of one of --model=resnet18. Leave --init_weights out, or choose another model."
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


# Keras 3.15 hands its variables to h5py in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_file_of_weights_starts_a_run(data_dir, tmp_path):
    """Twice the same bits; another file under its name is named before the first checkpoint."""
    path = tmp_path / "start.weights.h5"
    source = assembly.begin(settings(data_dir, seed=8), HARDWARE).model
    source.save_weights(path)
    config = starting_from(path, data_dir, tmp_path / "run")
    job = assembly.begin(config, HARDWARE)
    found = transfer(job, None)
    assert (found.copied, found.missing, found.unused) == (17, (), ())
    assert fingerprint(job.model) == fingerprint(source)
    state = loop.fit(config, HARDWARE)
    first = run_dir.load(tmp_path / "run")
    assert first.initial_weights == found.fingerprint
    again = replace(config, run=replace(config.run, run_dir=str(tmp_path / "again")))
    assert loop.fit(again, Hardware(virtual_cpus=1)).fingerprint == state.fingerprint
    source.trainable_variables[0].assign_add(source.trainable_variables[0] * 0 + 1)
    source.save_weights(path)
    assert "has other weights now" in error(transfer, job, first)


def test_frozen_layers_cost_nothing_and_stay(finished, data_dir, tmp_path):
    """No gradient, no slot, no place in the sum; their norms are used and not changed."""
    config = starting_from(finished.run_dir, data_dir, tmp_path / "run")
    config = replace(config, model=replace(config.model, freeze="block[12]"))
    whole = tracing.training(assembly.begin(starting_from(finished.run_dir, data_dir), HARDWARE))
    job = assembly.begin(config, HARDWARE)
    training = tracing.training(job)
    frozen = [v for v in job.model.variables if v.path.startswith(("block1", "block2"))]
    assert len(frozen) == 10
    names = {v.path for v in training.micro_batch.variables}
    names |= {v.path for v in training.micro_batch.statistics}
    assert not names & {v.path for v in frozen}
    numbers = sum(int(np.prod(v.shape)) for v in frozen)
    assert whole.micro_batch.layout.size - training.micro_batch.layout.size == numbers
    state = loop.fit(config, HARDWARE)
    before = {v.path: v.numpy() for v in _model_of(finished.run_dir).variables}
    changed = {
        v.path for v in _model_of(tmp_path / "run").variables if (v.numpy() != before[v.path]).any()
    }
    assert {path.partition("/")[0] for path in changed} - {"seed_generator"} == {
        "block3_conv",
        "block3_norm",
        "classifier",
    }
    one = replace(config, run=replace(config.run, run_dir=str(tmp_path / "one")))
    assert loop.fit(one, Hardware(virtual_cpus=1)).fingerprint == state.fingerprint


def _model_of(folder) -> keras.Model:
    first = run_dir.load(folder)
    model = assembly.new_model(first.config, first.config.input, 3, first.image_dtype)
    Checkpoints(folder, run_dir.identity(first), model).restore_existing("latest")
    return model


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("nothing", "--freeze=nothing is found in no layer with weights of cnn; its layers are"),
        ("", ""),
        (".", "--freeze=. is found in every layer of cnn; its layers are block1_conv"),
    ],
)
def test_what_cannot_be_frozen_is_said(data_dir, pattern, words):
    config = settings(data_dir)
    config = replace(config, model=replace(config.model, freeze=pattern))
    if words:
        assert words in error(assembly.begin, config, HARDWARE)
    else:
        assembly.begin(config, HARDWARE)
    assert error(ModelConfig, freeze="(").startswith("--freeze=( is no regular expression: ")
