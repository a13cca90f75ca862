"""Devices, records and model of a run: what is resolved, what is refused, where it goes on."""

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from input import order
from input.config import ResolvedInput
from input.errors import BadRecordError, InputError
from input.native import library
from tests.conftest import CLASSES, THREADS, error, rewrite
from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, recipe, run_dir, tracing
from trainer.config import Hardware, ResolvedConfig, ResolvedRun
from trainer.fingerprint import fingerprint
from trainer.workers import strategy


@pytest.fixture
def records(data_dir, tmp_path):
    """A copy of the records that may be spoiled."""
    return shutil.copytree(data_dir, tmp_path / "records")


def change_manifest(split, **changes):
    rewrite(split / "manifest.json", **changes)


def refused(data_dir) -> str:
    return error(assembly.begin, settings(data_dir), HARDWARE)


def test_what_is_unset_is_resolved_by_records_and_hardware(data_dir):
    given = settings(data_dir)
    unset = replace(given, input=replace(given.input, micro_batch_size=None))
    job = assembly.begin(unset, Hardware(virtual_cpus=1))
    assert type(job.config) is ResolvedConfig
    assert (type(job.config.input), type(job.config.run)) == (ResolvedInput, ResolvedRun)
    assert job.config.input.micro_batch_size == 32  # the whole batch, on any hardware
    assert job.config.input.image_size == 16  # of the records
    assert job.config.run.intra_op_threads == THREADS
    assert job.model.input.shape == (None, 16, 16, 3)
    # Everything else is as it was given.
    for name, group in vars(given).items():
        if name == "input":
            expected = order.resolve(unset.input, 16)
        elif name == "optimizer":
            expected = recipe.resolve(group, given.input.global_batch_size, given.run.epochs)
        else:
            expected = group
        assert vars(getattr(job.config, name)) == vars(expected)


def test_a_definition_says_all_that_makes_the_run(data_dir):
    job = assembly.begin(settings(data_dir), HARDWARE)
    definition = job.definition
    assert definition.config == job.config
    assert definition.classes == CLASSES
    assert definition.data == {
        split: manifest.fingerprint for split, manifest in job.manifests.items()
    }
    assert definition.data.keys() == {"train", "validation"}
    assert definition.environment["device"] == "CPU"
    assert definition.environment["processor"] == strategy.processor()
    assert job.devices == ["CPU:0", "CPU:1"]
    assert (job.workers.index, job.workers.count, job.workers.chief) == (0, 1, True)


def test_a_resumed_run_keeps_what_its_first_launch_resolved(finished, data_dir):
    first = run_dir.load(finished.run_dir)
    given = settings(data_dir, finished.run_dir)
    unset = replace(
        given,
        input=replace(given.input, micro_batch_size=None),
        run=replace(given.run, intra_op_threads=None),
    )
    job = assembly.begin(unset, Hardware(virtual_cpus=1), first)
    assert job.config == first.config


def test_another_run_is_refused(finished, data_dir):
    other = settings(data_dir, finished.run_dir, seed=1)
    first = run_dir.load(finished.run_dir)
    assert "--seed=1 (the run has 0)" in error(assembly.begin, other, HARDWARE, first)


def test_missing_records_are_named():
    assert refused("").startswith("--data_dir is missing: ")
    assert "--data_dir=/nowhere is not there. " in refused("/nowhere")


def test_the_readers_have_the_runs_limits(data_dir):
    given = settings(data_dir)
    small = replace(given, input=replace(given.input, max_pixels=255, max_bad_records=2))
    reader = assembly.begin(small, HARDWARE).readers["train"]
    with pytest.raises(BadRecordError, match="256 pixels are more than --max_pixels=255"):
        reader.read(np.arange(3))
    assert len(reader.bad_records) == 3


def test_splits_of_other_classes_are_refused(records):
    change_manifest(records / "validation", classes=["circle", "cross", "triangle"])
    said = refused(records)
    assert "train and validation differ in their classes" in said
    assert "only train has square; only validation has triangle. Write both" in said


def test_splits_of_other_pixels_are_refused(records):
    path = records / "validation" / "manifest.json"
    schema = json.loads(path.read_text())["schema"]
    raw = {**schema, "raw_dtype": "float32", "raw_shape": [2, 2, 3]}
    change_manifest(records / "validation", schema=raw)
    assert "train has uint8 pixels and validation float32" in refused(records)


def test_a_run_is_restored_with_any_records_of_its_classes(finished, records):
    first = run_dir.load(finished.run_dir)
    shutil.move(records / "validation", records / "test")
    change_manifest(records / "test", image_size=None)
    job = assembly.restored(first, Hardware(), data_dir=str(records), split="test")
    assert job.readers.keys() == {"test"}
    assert job.config.input == first.config.input  # data_dir does not count
    assert job.config.input.data_dir == str(records)
    change_manifest(records / "test", classes=["circle", "cross", "triangle"])
    said = error(assembly.restored, first, Hardware(), data_dir=str(records), split="test")
    assert f"{records}/test has other classes than the run was trained on" in said


def test_the_records_of_a_run_are_where_it_was_trained_unless_said(finished, data_dir):
    first = run_dir.load(finished.run_dir)
    job = assembly.restored(first, Hardware(), data_dir="", split="train")
    assert job.manifests["train"].folder == data_dir / "train"


def test_other_pixels_than_the_runs_are_refused(finished, data_dir):
    floats = dataclasses.replace(run_dir.load(finished.run_dir), image_dtype="float32")
    said = error(assembly.restored, floats, Hardware(), data_dir="", split="validation")
    assert said == f"{data_dir}/validation has uint8 pixels; the run was trained on float32."


def test_the_model_follows_from_the_seed_alone(data_dir):
    config = assembly.begin(settings(data_dir), Hardware()).config
    one, same = (assembly.new_model(config, config.input, 3, "uint8") for _ in range(2))
    other_seed = replace(config, run=replace(config.run, seed=1))
    other = assembly.new_model(other_seed, config.input, 3, "uint8")
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_a_batch_that_does_not_fit_the_devices_is_refused(data_dir):
    job = assembly.begin(settings(data_dir), Hardware(virtual_cpus=3))
    said = error(tracing.training, job)
    assert "do not split evenly over 3 replicas, but over 1, 2 or 4 replicas." in said


def test_micro_batches_go_on_at_any_step(data_dir):
    """The third step is the third step, whatever was read before it."""
    job = assembly.begin(settings(data_dir), Hardware(virtual_cpus=1))
    plan = tracing.training(job).plan
    assert (plan.steps_per_epoch, plan.micro_batches, plan.draws_per_step) == (5, 4, 4)
    start = tracing.micro_batches(job, plan, 0)
    for _ in range(2 * plan.draws_per_step):
        next(start)
    later = tracing.micro_batches(job, plan, 2)
    for _ in range(plan.draws_per_step):
        for one, other in zip(next(start), next(later), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_run_keeps_its_decoder(data_dir, tmp_path):
    given = settings(data_dir, tmp_path / "run")
    first = assembly.begin(given, HARDWARE).definition
    used = "native" if library.available() else "tensorflow"
    assert first.config.input.decoder == used
    assert first.environment["decoder"] == library.version(used)
    assert assembly.begin(given, HARDWARE, first).config == first.config  # auto: as it was

    other = "tensorflow" if used == "native" else "native"
    changed = replace(given, input=replace(given.input, decoder=other))
    message = error(assembly.begin, changed, HARDWARE, first)
    assert f"--decoder={other} (the run has {used})" in message

    older = replace(first, environment=first.environment | {"decoder": "native 0"})
    message = error(assembly.begin, given, HARDWARE, older)
    assert f"were decoded by native 0, and here is {library.version(used)}" in message


def test_a_run_that_was_decoded_natively_does_not_go_on_without_the_library(data_dir, monkeypatch):
    given = settings(data_dir)
    first = assembly.begin(given, HARDWARE).definition
    native = replace(first, config=replace(first.config, input=as_native(first.config.input)))

    def missing():
        raise InputError("The native decoder was not built.")

    monkeypatch.setattr(library, "load", missing)
    assert "was not built" in error(assembly.begin, given, HARDWARE, native)


def as_native(inputs: ResolvedInput) -> ResolvedInput:
    return replace(inputs, decoder="native")


def test_a_word_that_is_a_value_of_its_own_is_not_unset(data_dir):
    """--pixels=auto stays auto: without its own --pixels a run is another one."""
    given = settings(data_dir)
    unit = replace(given, model=replace(given.model, pixels="unit"))
    first = assembly.begin(unit, HARDWARE).definition
    assert "--pixels=auto (the run has unit)" in error(assembly.begin, given, HARDWARE, first)
