"""What an evaluation finds: counts against NumPy, any division of the images, damaged files."""

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests import saves
from tests.conftest import CLASSES, error
from tests.test_json_fuzz import mutate
from trainer import findings, run_dir
from trainer.errors import TrainerError
from trainer.findings import Findings, Mistake
from trainer.state import State

STATE = State(3, run_dir.identity(saves.DEFINITION), "f" * 64, {})


def images(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Records, labels, predictions and probabilities, with many ties."""
    numbers = np.random.default_rng(seed)
    labels, predicted = numbers.integers(0, classes, (2, count))
    probability = np.round(numbers.uniform(0, 1, count), 1).astype(np.float32).astype(np.float64)
    return np.arange(count), labels, predicted, probability


def found_in(*parts: tuple[np.ndarray, ...], classes: int = 3) -> Findings:
    """What workers have found who had these images."""
    rows = [findings.of_images(4, *part) for part in parts]
    return findings.joined(
        tuple(map(str, range(classes))), *(np.concatenate(each) for each in zip(*rows, strict=True))
    )


def assert_same(one: Findings, other: Findings) -> None:
    np.testing.assert_array_equal(one.pairs, other.pairs)
    assert (one.classes, one.mistakes) == (other.classes, other.mistakes)


@pytest.mark.parametrize(("count", "classes"), [(0, 3), (1, 3), (500, 3), (500, 1000)])
def test_the_counts_and_the_most_confident_mistakes_are_numpys(count, classes):
    record, label, predicted, probability = images(count, classes)
    found = found_in((record, label, predicted, probability), classes=classes)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (label, predicted), 1)
    np.testing.assert_array_equal(found.confusion, confusion)
    assert found.confusion.dtype == np.int64
    wrong = [i for i in range(count) if label[i] != predicted[i]]
    first = sorted(wrong, key=lambda i: (-probability[i], i))[: findings.MISTAKES]
    assert found.mistakes == tuple(
        Mistake(i, label[i], predicted[i], probability[i]) for i in first
    )


def test_any_division_of_the_images_finds_the_same():
    whole = images(1000, 7)
    expected = found_in(whole, classes=7)
    order = np.random.default_rng(1).permutation(1000)
    for cuts in ([], [500], [0, 3, 999], [10, 10, 20]):
        pieces = [tuple(each[piece] for each in whole) for piece in np.split(order, cuts)]
        assert_same(found_in(*pieces, classes=7), expected)


def test_what_is_no_number_is_no_confident_mistake():
    record, label, predicted, probability = images(9, 3)
    found = found_in((record, label, predicted, np.full_like(probability, np.nan)))
    assert found.confusion.sum() == 9 and not found.mistakes


def test_what_a_class_is_taken_for_begins_with_the_usual():
    pairs = np.array([[0, 0, 5], [0, 1, 2], [0, 2, 2], [0, 3, 4], [1, 0, 9]])
    found = Findings(("a", "b", "c", "d"), pairs, (), np.empty((0, 3), np.int64))
    assert found.taken_for(0) == [(3, 4), (1, 2), (2, 2)]
    assert found.taken_for(2) == []


def test_a_matrix_that_would_not_fit_is_refused():
    many = found_in(images(20, 20_000), classes=20_000)
    assert "of 20000 classes would not fit" in error(lambda: many.confusion)
    assert len(many.pairs) == 20


@pytest.fixture
def folder(tmp_path):
    """A run with a checkpoint, and what was found there."""
    run_dir.save(tmp_path, saves.DEFINITION)
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    findings.save(tmp_path, STATE, found_in(images(100, 2), classes=2))
    return tmp_path


def test_a_file_gives_back_what_was_saved(folder):
    expected = found_in(images(100, 2), classes=2)
    loaded = findings.load(folder, 3)
    assert_same(loaded, replace(expected, classes=saves.DEFINITION.classes))
    assert len(loaded.mistakes) > 10
    findings.save(folder, STATE, found_in(images(0, 2), classes=2))
    assert not len(findings.load(folder, 3).pairs)


def test_a_missing_file_is_nothing(folder):
    assert findings.load(folder, 4) is None


def test_another_runs_or_steps_file_is_refused(folder):
    path = folder / "evaluations" / "step-00000003.npz"
    shutil.copy(path, path.with_name("step-00000004.npz"))
    assert "of another run or step" in error(findings.load, folder, 4)
    run_dir.save(folder, replace(saves.DEFINITION, data={"train": "1" * 64}))
    assert "of another run or step" in error(findings.load, folder, 3)


def test_a_damaged_file_is_named_or_changes_nothing(folder):
    path, numbers = folder / "evaluations" / "step-00000003.npz", random.Random(0)
    content, expected = path.read_bytes(), findings.load(folder, 3)
    refused = 0
    for _ in range(1000):
        path.write_bytes(mutate(content, numbers))
        try:
            loaded = findings.load(folder, 3)
        except TrainerError as damage:
            assert str(path) in str(damage) and "\n" not in str(damage)
            refused += 1
        else:
            assert_same(loaded, expected)
    assert refused > 500


def test_what_was_found_goes_with_its_checkpoint(folder):
    findings.save(folder, replace(STATE, step=4), found_in(images(9, 2), classes=2))
    (folder / "evaluations" / "step-00000005.npz.tmp").write_text("left by a kill")
    findings.remove_orphans(folder)
    assert [path.name for path in (folder / "evaluations").iterdir()] == ["step-00000003.npz"]


def test_a_run_keeps_what_was_found_at_the_checkpoints_that_it_keeps(finished):
    kept = sorted(path.name for path in (finished.run_dir / "checkpoints").iterdir())
    found = sorted(path.stem for path in (finished.run_dir / "evaluations").iterdir())
    assert found == kept == ["step-00000005", "step-00000010", "step-00000015"]
    last = findings.load(finished.run_dir, 15)
    assert last.classes == CLASSES
    result = finished.state.evaluation
    assert tuple(last.confusion.sum(axis=1)) == result.class_images
    assert tuple(last.confusion.diagonal()) == result.class_correct


def test_the_worst_classes_come_first_and_those_without_images_not():
    pairs = np.array([(0, 0, 9), (0, 1, 1), (1, 0, 3), (1, 1, 1), (2, 2, 5), (4, 0, 2)], np.int64)
    found = Findings(("a", "b", "c", "d", "e"), pairs, ())
    assert found.worst(3) == [(4, 2, 0), (1, 4, 1), (0, 10, 9)]
    assert [each.share for each in found.worst(9)] == [0.0, 0.25, 0.9, 1.0]
    assert Findings(("a", "b"), pairs[:0], ()).worst(9) == []
