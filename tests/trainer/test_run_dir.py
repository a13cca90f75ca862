"""A run's folder: its definition's round trip, its lock, and what a later launch must match."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from input.config import InputConfig, ResolvedInput
from models.config import ModelConfig
from tests.conftest import ROOT, error
from trainer import recipe, run_dir
from trainer.config import Config, ResolvedConfig, ResolvedRun, RunConfig, RunDefinition
from trainer.errors import TrainerError
from trainer.recipe import OptimizerConfig

CONFIG = ResolvedConfig(
    ResolvedInput(data_dir="data", micro_batch_size=64, image_size=28),
    ModelConfig("cnn", dropout=0.1),
    recipe.resolve(OptimizerConfig(clip_norm=1.0), images_per_step=256, epochs=10),
    ResolvedRun(run_dir="run", intra_op_threads=2),
)
DEFINITION = RunDefinition(CONFIG, ("a", "b"), {"train": "1", "validation": "2"}, {"device": "CPU"})
# The same settings, as a command line has them.
GIVEN = Config(
    InputConfig(**vars(CONFIG.input)),
    CONFIG.model,
    OptimizerConfig(**vars(CONFIG.optimizer)),
    RunConfig(**vars(CONFIG.run)),
)


def test_round_trip(tmp_path):
    assert run_dir.find(tmp_path) is None
    run_dir.save(tmp_path, DEFINITION)
    assert run_dir.find(tmp_path) == DEFINITION == run_dir.load(tmp_path)
    # Those settings too that do not make a run another one.
    assert dataclasses.asdict(run_dir.load(tmp_path)) == dataclasses.asdict(DEFINITION)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"config": {"input": {"nonsense": 1}}}'])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    said = error(run_dir.find, tmp_path)
    assert said.startswith(str(tmp_path / "config.json"))
    assert "It is damaged, or of another version of samestep" in said


@pytest.mark.parametrize(
    ("group", "change", "words"),
    [
        ("input", {"micro_batch_size": None}, "micro_batch_size is null, not a whole number"),
        ("input", {"image_size": None}, "image_size is null, not a whole number"),
        ("run", {"intra_op_threads": None}, "intra_op_threads is null, not a whole number"),
        ("run", {"reduction": "exactly"}, 'reduction is "exactly", not "exact" or "fast"'),
        ("run", {"colour": 1}, "colour is not known"),
    ],
)
def test_a_wrong_setting_in_the_file_is_named(tmp_path, group, change, words):
    content = dataclasses.asdict(DEFINITION)
    content["config"][group] |= change
    (tmp_path / "config.json").write_text(json.dumps(content))
    said = error(run_dir.find, tmp_path)
    assert said.startswith(f"{tmp_path}/config.json: config.{group}.{words}. It is damaged")


def test_a_setting_out_of_its_range_in_the_file_is_named(tmp_path):
    content = dataclasses.asdict(DEFINITION)
    content["config"]["run"]["epochs"] = 0
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert "--epochs must be at least 1, not 0" in error(run_dir.find, tmp_path)


def test_every_change_of_one_byte_is_found(tmp_path):
    """Or it changes nothing: a space for a line's end."""
    run_dir.save(tmp_path, DEFINITION)
    path = tmp_path / "config.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 4, 32):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                found = run_dir.find(tmp_path)
            except TrainerError:
                continue
            assert dataclasses.asdict(found) == dataclasses.asdict(DEFINITION), (place, bit)


def test_a_run_that_was_begun_meanwhile_is_named(tmp_path):
    run_dir.check_complete(tmp_path, None)
    run_dir.save(tmp_path, DEFINITION)
    run_dir.check_complete(tmp_path, DEFINITION)
    said = error(run_dir.check_complete, tmp_path, None)
    assert said.startswith(f"Another launch began the run in {tmp_path} while this one started.")


@pytest.mark.parametrize("part", ["checkpoints/step-00000007", "metrics.jsonl"])
def test_a_run_without_its_definition_is_not_begun_anew(tmp_path, part):
    run_dir.save(tmp_path, DEFINITION)
    if part == "metrics.jsonl":
        (tmp_path / part).write_text('{"step": 1, "train/loss": 1.0}\n')
    else:
        (tmp_path / part).mkdir(parents=True)
    run_dir.check_complete(tmp_path, DEFINITION)  # killed before its first checkpoint, say
    (tmp_path / "config.json").unlink()
    said = error(run_dir.check_complete, tmp_path, None)
    assert str((tmp_path / part).parent if "step" in part else tmp_path / part) in said
    assert "config.json is missing. Put back a copy of it, or start in another --run_dir." in said


def test_a_run_without_checkpoints_that_were_evaluated_is_not_begun_anew(tmp_path):
    run_dir.save(tmp_path, DEFINITION)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "validation/accuracy": 1.0}\n')
    said = error(run_dir.check_complete, tmp_path, DEFINITION)
    assert "metrics.jsonl is there, and checkpoints/step-* is missing" in said


def test_checkpoints_belong_to_what_no_launch_changes():
    def changed(group, **settings):
        part = replace(getattr(CONFIG, group), **settings)
        return run_dir.identity(replace(DEFINITION, config=replace(CONFIG, **{group: part})))

    own = run_dir.identity(DEFINITION)
    assert changed("run", run_dir="moved", keep_checkpoints=1) == own
    assert run_dir.identity(replace(DEFINITION, initial_weights="ab")) == own
    on_another = DEFINITION.environment | {"processor": "Z80"}
    assert run_dir.identity(replace(DEFINITION, environment=on_another)) == own
    others = {
        changed("run", seed=1),
        changed("run", epochs=11),
        changed("optimizer", learning_rate=0.2),
        changed("model", model="resnet18"),
        changed("input", micro_batch_size=32),
        run_dir.identity(replace(DEFINITION, classes=("b", "a"))),
        run_dir.identity(replace(DEFINITION, data={"train": "2", "validation": "2"})),
        run_dir.identity(replace(DEFINITION, environment={"device": "GPU"})),
    }
    assert len(others | {own}) == 9
    constant = replace(CONFIG, optimizer=replace(CONFIG.optimizer, schedule="constant"))
    longer = replace(constant, run=replace(CONFIG.run, epochs=11))
    one, other = (run_dir.identity(replace(DEFINITION, config=c)) for c in (constant, longer))
    assert one == other != own


def test_no_run_is_named(tmp_path):
    with pytest.raises(TrainerError, match="holds no run"):
        run_dir.load(tmp_path)


def test_unset_settings_keep_what_the_first_launch_made_of_them():
    launch = Config(
        replace(GIVEN.input, micro_batch_size=None, image_size=None),
        GIVEN.model,
        GIVEN.optimizer,
        replace(GIVEN.run, intra_op_threads=None),
    )
    assert launch != GIVEN
    assert run_dir.fill_in(launch, CONFIG) == GIVEN


def test_a_launch_that_leaves_out_what_it_may_decide_does_not_get_the_first_ones():
    """checkpoint_every_steps unset means: after each epoch, now."""
    first = replace(CONFIG, run=replace(CONFIG.run, checkpoint_every_steps=7))
    assert run_dir.fill_in(GIVEN, first).run.checkpoint_every_steps is None


def test_every_difference_is_listed():
    other = Config(
        replace(GIVEN.input, global_batch_size=128),
        replace(GIVEN.model, model="resnet18"),
        replace(GIVEN.optimizer, clip_norm=0.0),
        replace(GIVEN.run, seed=3),
    )
    said = error(run_dir.check_same, DEFINITION, other, {"train": "1", "validation": "3"})
    for words in (
        "--global_batch_size=128 (the run has 256)",
        "--model=resnet18 (the run has cnn)",
        "--clip_norm=0.0 (the run has 1.0)",
        "--seed=3 (the run has 0)",
        "other validation records",
        "another --run_dir",
    ):
        assert words in said
    assert "train records" not in said


@pytest.mark.parametrize("epochs", [9, 11])
def test_epochs_make_another_run_where_the_rate_depends_on_them(epochs):
    other = replace(GIVEN, run=replace(GIVEN.run, epochs=epochs))
    said = error(run_dir.check_same, DEFINITION, other, DEFINITION.data)
    assert f"--epochs={epochs} (the run has 10)" in said
    assert ("--init_weights=run." in said) == (epochs > 10)
    assert run_dir.extended(DEFINITION, other) == DEFINITION
    constant = replace(GIVEN.optimizer, schedule="constant")
    first = replace(DEFINITION, config=replace(CONFIG, optimizer=constant))
    other = replace(other, optimizer=constant)
    run_dir.check_same(first, other, DEFINITION.data)
    found = run_dir.extended(first, other)
    assert found.config.run.epochs == epochs
    same = replace(found.config, run=replace(found.config.run, epochs=10))
    assert replace(found, config=same) == first


def test_what_does_not_change_the_result_may_differ():
    other = Config(
        replace(GIVEN.input, data_dir="elsewhere", max_bad_records=3),
        GIVEN.model,
        GIVEN.optimizer,
        replace(GIVEN.run, run_dir="moved", log_every_steps=1, steps_per_call=3),
    )
    run_dir.check_same(DEFINITION, other, DEFINITION.data)


def test_a_worker_that_differs_is_named():
    run_dir.check_workers(DEFINITION, DEFINITION, 1)
    on_another = DEFINITION.environment | {"processor": "Z80"}
    run_dir.check_workers(DEFINITION, replace(DEFINITION, environment=on_another), 1)
    other = replace(
        DEFINITION,
        config=replace(CONFIG, run=replace(CONFIG.run, seed=1)),
        data={"train": "1", "validation": "3"},
        environment={"device": "GPU"},
    )
    said = error(run_dir.check_workers, DEFINITION, other, 3)
    for word in ("Worker 3", "--seed=1 (worker 0 has 0)", "other validation records", "device GPU"):
        assert word in said


def test_a_second_launch_is_refused_while_the_first_one_holds_the_lock(tmp_path):
    folder = tmp_path / "runs" / "new"  # made by the lock
    with run_dir.lock(folder):
        assert error(run_dir.lock, folder) == (
            f"Another process trains in {folder}. Wait for it, stop it, or use another --run_dir."
        )
    run_dir.lock(folder).close()


def test_a_folder_inside_a_run_leads_to_it(tmp_path):
    run_dir.save(tmp_path, DEFINITION)
    inside = tmp_path / "checkpoints" / "step-00000010"
    for folder in (inside.parent, inside):
        said = error(run_dir.load, folder)
        assert said.endswith(f"there is no config.json. --run_dir={tmp_path} does.")


def test_the_checkpoints_of_a_folder(tmp_path):
    assert run_dir.checkpoints(tmp_path) == []
    names = ["step-00000020", "step-00000010", "step-00000030.incomplete", "step-00000005.damaged"]
    for name in names:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in run_dir.checkpoints(tmp_path)] == sorted(names[:2])


def test_a_killed_launch_leaves_no_lock(tmp_path):
    program = (
        "import sys, time; from trainer import run_dir; from pathlib import Path\n"
        "file = run_dir.lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout.readline() == b"locked\n"
            assert "Another process trains in" in error(run_dir.lock, tmp_path)
        finally:
            holder.kill()
    run_dir.lock(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    said = error(run_dir.lock, tmp_path / "file" / "run")
    assert f"--run_dir={tmp_path / 'file' / 'run'} cannot be written: " in said
    assert "use another --run_dir" in said


def test_only_what_the_system_refuses_is_a_matter_of_the_folder(tmp_path):
    said = error(lambda: refuse_inside_writing(tmp_path, OSError(28, "No space left on device")))
    assert said == (
        f"--run_dir={tmp_path} cannot be written: [Errno 28] No space left on device. Repair that "
        "and run the same command again, or use another --run_dir."
    )
    with pytest.raises(ZeroDivisionError):
        refuse_inside_writing(tmp_path, ZeroDivisionError())


def refuse_inside_writing(folder, what: Exception) -> None:
    with run_dir.writing(folder):
        raise what
