"""A checkpoint is whole or not there; a damaged one is named and the one before it taken."""

import json
from dataclasses import asdict, replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from input.foundation import typed_json
from tests.conftest import error
from trainer.averages import Averages
from trainer.checkpoint import Checkpoints
from trainer.errors import TrainerError
from trainer.fingerprint import fingerprint
from trainer.loss_scale import LossScale
from trainer.state import EvaluationResult

RUN = "f" * 64  # whose checkpoints they are


def dense(seed=0, units=3) -> keras.Model:
    keras.utils.set_random_seed(seed)
    image = keras.Input((4,))
    return keras.Model(image, keras.layers.Dense(units)(keras.layers.Dropout(0.5)(image)))


def built_optimizer(model):
    optimizer = keras.optimizers.AdamW(0.1)
    optimizer.build(model.trainable_variables)
    return optimizer


@pytest.fixture
def saved(tmp_path):
    """Checkpoints at the steps 1, 2 and 3, each with weights of its own."""
    model = dense()
    checkpoints = Checkpoints(tmp_path, RUN, model, built_optimizer(model))
    for step in (1, 2, 3):
        model.trainable_variables[0].assign(np.full((4, 3), float(step)))
        checkpoints.save(step)
    return tmp_path


def restore(folder, say=lambda _: None):
    model = dense(seed=9)
    state = Checkpoints(folder, RUN, model, built_optimizer(model)).restore(say=say)
    return state, model.trainable_variables[0].numpy()[0, 0]


def evaluated(accuracy: float | None) -> EvaluationResult:
    images = 0 if accuracy is None else 10
    return EvaluationResult(1.0, correct=round(10 * (accuracy or 0)), images=images, records=10)


def newest(folder):
    return folder / "checkpoints" / "step-00000003"


def test_the_newest_is_restored(saved):
    state, value = restore(saved)
    assert (state.step, value) == (3, 3.0)


def test_no_checkpoint_is_no_error(tmp_path):
    assert restore(tmp_path)[0] is None
    with pytest.raises(TrainerError, match="holds no latest checkpoint yet"):
        Checkpoints(tmp_path, RUN, dense()).restore_existing("latest")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_state(folder, **change):
    path = folder / "state.json"
    content = {**json.loads(path.read_text()), **change}
    del content[typed_json.DIGEST]
    path.write_text(json.dumps(content))


def edit(folder, old, new):
    text = (folder / "state.json").read_text()
    assert old in text
    (folder / "state.json").write_text(text.replace(old, new))


DAMAGE = {
    "truncated data": lambda folder: truncate(next(folder.glob("weights.data*"))),
    "flipped bit": lambda folder: flip(next(folder.glob("weights.data*"))),
    "flipped bit in the index": lambda folder: flip(folder / "weights.index"),
    "missing data": lambda folder: next(folder.glob("weights.data*")).unlink(),
    "missing state": lambda folder: (folder / "state.json").unlink(),
    "truncated state": lambda folder: truncate(folder / "state.json"),
    "empty state": lambda folder: (folder / "state.json").write_text(""),
    "state that is no object": lambda folder: (folder / "state.json").write_text("[1]"),
    "state without a step": lambda folder: (folder / "state.json").write_text("{}"),
    "state of another step": lambda folder: change_state(folder, step=2),
    "state with a step that is a text": lambda folder: change_state(folder, step="3"),
    "no files, as its state says": lambda folder: (
        change_state(folder, files={}),
        [path.unlink() for path in folder.glob("weights*")],
    ),
    "state with another fingerprint": lambda folder: edit(folder, '"run": "f', '"run": "e'),
    "state with a key too many": lambda folder: change_state(folder, colour="red"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_newest_falls_back_to_the_one_before(saved, damage):
    damage(newest(saved))
    said = []
    state, value = restore(saved, said.append)
    assert (state.step, value) == (2, 2.0)
    assert "step-00000003 is damaged" in said[0]
    assert said[1:] == [f"checkpoint {newest(saved)} is kept as step-00000003.damaged"]


def test_a_wrong_fingerprint_is_damage(saved):
    change_state(newest(saved), fingerprint="0" * 64)
    said = []
    assert restore(saved, said.append)[0].step == 2
    assert "fingerprint" in said[0]


def test_all_damaged_is_an_error(saved):
    for folder in (saved / "checkpoints").iterdir():
        DAMAGE["truncated data"](folder)
    with pytest.raises(TrainerError, match="is sound"):
        restore(saved)


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("damage", ["flipped bit", "empty state"])
def test_a_damaged_one_does_not_count_as_newest(saved, damage):
    """Its number is higher than those of the steps that are done again."""
    newest(saved).rename(newest(saved).with_name("step-00000009"))
    change_state(newest(saved).with_name("step-00000009"), step=9)
    DAMAGE[damage](newest(saved).with_name("step-00000009"))
    model, said = dense(), []
    checkpoints = Checkpoints(saved, RUN, model, built_optimizer(model), keep=1)
    checkpoints.restore(say=said.append)
    assert said[-1].endswith("step-00000009 is kept as step-00000009.damaged")
    checkpoints.save(3)
    checkpoints.save(4)
    # 2 was restored: it is known to be sound.
    assert names(saved) == ["step-00000002", "step-00000004", "step-00000009.damaged"]
    assert restore(saved)[0].step == 4


def test_a_damaged_checkpoint_is_written_again(saved):
    for _ in range(2):
        DAMAGE["truncated data"](newest(saved))
        model = dense()
        checkpoints = Checkpoints(saved, RUN, model, built_optimizer(model))
        checkpoints.restore(say=lambda _: None)
        checkpoints.save(3)
        assert restore(saved)[0].step == 3
    kept = ["step-00000003.damaged", "step-00000003.damaged1"]
    assert names(saved) == [*(f"step-{step:08d}" for step in (1, 2, 3)), *kept]


def test_one_that_was_damaged_after_the_start_is_set_aside(saved):
    checkpoints = Checkpoints(saved, RUN, model := dense(), built_optimizer(model))
    checkpoints.restore()
    checkpoints.save(3)
    assert names(saved)[-1] == "step-00000003.damaged"


def test_who_only_reads_renames_nothing(saved):
    DAMAGE["flipped bit"](newest(saved))
    assert Checkpoints(saved, RUN, dense()).restore(say=lambda _: None).step == 2
    assert names(saved)[-1] == "step-00000003"


def test_all_damaged_ones_keep_their_names(saved):
    """Else the next launch would find none, and start from step 0."""
    for folder in (saved / "checkpoints").iterdir():
        DAMAGE["flipped bit"](folder)
    for _ in range(2):
        with pytest.raises(TrainerError, match="is sound"):
            restore(saved)


def test_a_changed_accuracy_is_damage_and_not_the_best(saved):
    checkpoints = Checkpoints(saved, RUN, dense())
    for state, accuracy in zip(checkpoints._states()[0], (0.5, 0.3, 0.1), strict=True):
        checkpoints.note(replace(state, evaluation=evaluated(accuracy)))
    edit(newest(saved), '"correct": 1', '"correct": 9')
    assert checkpoints.best().step == 1
    said = []
    assert checkpoints.restore(say=said.append).step == 2
    assert "state.json: it was changed after it was written: sha256 does not match" in said[0]


def test_the_checkpoints_of_another_run_are_refused(saved):
    with pytest.raises(TrainerError, match="is of another run than config"):
        Checkpoints(saved, "e" * 64, dense()).restore()


def test_another_model_is_named(saved):
    with pytest.raises(TrainerError, match="holds another model"):
        Checkpoints(saved, RUN, dense(units=5)).restore()


def test_litter_of_a_kill_is_ignored_and_removed(saved):
    litter = saved / "checkpoints" / "step-00000004.incomplete"
    litter.mkdir()
    (litter / "weights.index").write_text("half")
    assert restore(saved)[0].step == 3
    model = dense()
    Checkpoints(saved, RUN, model, built_optimizer(model)).save(5)
    assert not litter.exists()


def test_what_cannot_be_written_leaves_the_others(saved, monkeypatch):
    checkpoints = Checkpoints(saved, RUN, model := dense(), built_optimizer(model))

    def full(path):
        raise tf.errors.ResourceExhaustedError(None, None, "{{x}} disk; No space left [Op:SaveV2]")

    monkeypatch.setattr(checkpoints._checkpoint, "write", full)
    assert error(checkpoints.save, 4) == (
        f"--run_dir={saved} cannot be written: disk; No space left. Repair that and run the same "
        "command again, or use another --run_dir."
    )
    assert len(list((saved / "checkpoints").iterdir())) == 3
    assert restore(saved)[0].step == 3


def test_the_newest_and_the_best_are_kept(tmp_path):
    model = dense()
    checkpoints = Checkpoints(tmp_path, RUN, model, built_optimizer(model), keep=2)
    accuracies = {1: 0.5, 2: 0.9, 3: 0.9, 4: 0.7, 5: 0.6, 6: 0.2}
    for step, accuracy in accuracies.items():
        checkpoints.note(replace(checkpoints.save(step), evaluation=evaluated(accuracy)))
    assert names(tmp_path) == ["step-00000003", "step-00000005", "step-00000006"]
    assert checkpoints.best().step == 3
    assert checkpoints.restore("best").step == 3


def test_an_unknown_accuracy_is_worse_than_any_other(tmp_path):
    model = dense()
    checkpoints = Checkpoints(tmp_path, RUN, model, built_optimizer(model))
    for step, accuracy in ((1, 0.0), (2, None)):
        checkpoints.note(replace(checkpoints.save(step), evaluation=evaluated(accuracy)))
    assert checkpoints.best().step == 1
    (tmp_path / "checkpoints" / "step-00000001" / "state.json").unlink()
    assert checkpoints.best().step == 2


def test_what_is_noted_is_read_back(saved):
    model = dense()
    checkpoints = Checkpoints(saved, RUN, model, built_optimizer(model))
    state = replace(checkpoints.restore(), evaluation=evaluated(None))
    checkpoints.note(state)
    assert restore(saved)[0] == state
    content = json.loads((newest(saved) / "state.json").read_text())
    assert content.pop(typed_json.DIGEST) == typed_json.digest(asdict(state))
    assert content == json.loads(json.dumps(asdict(state)))  # tuples are lists there


def test_a_note_that_cannot_be_written_is_named(saved):
    model = dense()
    checkpoints = Checkpoints(saved, RUN, model, built_optimizer(model))
    state = checkpoints.restore()
    for path in newest(saved).iterdir():
        path.unlink()
    newest(saved).rmdir()
    assert error(checkpoints.note, state).startswith(f"--run_dir={saved} cannot be written: ")


def test_a_worker_that_has_no_such_checkpoint_says_that_the_folder_is_not_shared(saved):
    model = dense()
    checkpoints = Checkpoints(saved, RUN, model, built_optimizer(model))
    state = checkpoints.restore()
    checkpoints.load(state)
    DAMAGE["missing data"](newest(saved))
    said = error(checkpoints.load, state)
    assert "is missing, but worker 0 has restored it" in said
    assert said.endswith("All workers must share that folder.")


def test_averages_and_loss_scale_are_part_of_a_checkpoint(tmp_path, strategies):
    def parts():
        model = dense()
        averages, scale = Averages(strategies[1], model.trainable_variables, 0.9), LossScale()
        return (
            averages,
            scale,
            Checkpoints(
                tmp_path, RUN, model, built_optimizer(model), averages=averages, loss_scale=scale
            ),
        )

    averages, scale, checkpoints = parts()
    averages.start()
    averages.layer.variables[0].assign_add(averages.layer.variables[0] * 0 + 3)
    scale.update(tf.constant(False), tf.constant(False))
    scale.update(tf.constant(True), tf.constant(False))
    state = checkpoints.save(1)
    assert state.averages not in ("", state.fingerprint)
    before = [v.numpy() for part in (averages, scale) for v in part.layer.variables]
    averages, scale, checkpoints = parts()
    assert checkpoints.restore() == state
    after = [v.numpy() for part in (averages, scale) for v in part.layer.variables]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    averages.layer.variables[0].assign_add(averages.layer.variables[0] * 0 + 1)
    assert fingerprint(averages_in_place := checkpoints._model) == state.fingerprint
    with averages.in_place():
        assert fingerprint(averages_in_place) != state.averages
