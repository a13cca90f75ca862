"""What differs between runs is named: settings, results, and the first step with its kind."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer import receipts
from tests.trainer.receipts import MODEL, PLANTED, STEPS
from trainer import comparison, receipt
from trainer.comparison import Difference
from trainer.receipt import KINDS, Hashes, Part, Receipt, Step
from trainer.replay import recompute


@pytest.fixture(scope="module")
def sound(recorded) -> comparison.Run:
    return comparison.load(str(recorded))


@pytest.fixture(scope="module")
def computed(recorded):
    """The first eight steps of the sound run, again."""
    return recompute(recorded, receipts.HARDWARE, 1, 8, MODEL).steps


def every(run: comparison.Run, steps: int) -> comparison.Run:
    """As if it had hashed every so-many-th step."""
    lines = [line for line in run.receipt.lines if line.step % steps == 0]
    return replace(run, receipt=Receipt(tuple(lines)))


def test_a_run_is_the_same_as_itself(sound):
    found = comparison.verdict(sound, sound)
    assert found == (True, "the same records, pixels, gradients and weights up to step 15", None)
    assert comparison.settings([sound, sound]) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_found_at_its_step(sound, planted, name):
    run, (_, step, kinds, _) = comparison.load(str(planted[name])), PLANTED[name]
    found = comparison.verdict(sound, run)
    assert (found.equal, found.difference) == (False, Difference(step - 1, step, kinds))
    assert found.words.startswith(f"step {step} is the first recorded one that differs, in its ")
    assert f"in its {kinds[0]}" in found.words
    assert comparison.settings([sound, run]) == []


@pytest.mark.parametrize("name", PLANTED)
def test_computed_again_it_is_found_in_its_step_and_its_part(sound, computed, planted, name):
    """Where every fourth step was hashed. What a device had wrong does not come again."""
    run, each = comparison.load(str(planted[name])), PLANTED[name]
    thin = [every(one, 4) for one in (sound, run)]
    found = comparison.verdict(*thin).difference
    assert found.after < each.step <= found.step
    window = slice(found.after, found.step)
    with pytest.MonkeyPatch.context() as patch:
        if each.part:
            each.plant(patch)
        again = recompute(
            planted[name], receipts.HARDWARE, found.after + 1, found.step, MODEL
        ).steps
    said = list(comparison.explain(*thin, computed[window], again))
    if each.part:
        (line,) = said
        assert line.startswith(
            f"step {each.step} is the first that differs, in {each.kinds[0]}: {each.part}"
        )
        assert f" in {sound.name} and " in line or f" in {sound.name}, where " in line
    else:
        assert said == [
            f"computed again, both are the same up to step {found.step}",
            f"{run.name}: {receipt.listed(found.kinds)} of step {found.step} are not what is "
            "recorded there: a device computed wrongly then, or its files were changed since",
        ]


def test_a_flag_is_named_and_so_is_the_step_that_it_changes(sound, data_dir, tmp_path):
    run = comparison.load(str(receipts.train(data_dir, tmp_path, label_smoothing=0.1)))
    assert comparison.settings([sound, run, sound]) == [("--label_smoothing", ["0", "0.1", "0"])]
    found = comparison.verdict(sound, run)
    assert found.difference == Difference(0, 1, ("gradients", "weights"))
    assert found.words == (
        "step 1 is the first recorded one that differs, in its gradients, and so in weights"
    )


def test_a_run_that_ends_before_the_other_is_not_the_same(sound):
    shorter = replace(
        sound,
        name="shorter",
        metrics=sound.metrics[:1],
        receipt=Receipt(sound.receipt.lines[:9]),
    )
    words = "the same up to step 9; shorter ends before the other"
    assert comparison.verdict(sound, shorter) == comparison.verdict(shorter, sound)
    assert comparison.verdict(sound, shorter) == (False, words, None)


def test_without_a_common_step_nothing_is_known(sound):
    empty = replace(sound, receipt=Receipt(()))
    assert not comparison.verdict(empty, empty).equal
    odd, even = (Receipt(sound.receipt.lines[i:14:2]) for i in (1, 1))
    other = replace(sound, receipt=replace(even, lines=sound.receipt.lines[12:13]))
    found = comparison.verdict(replace(sound, receipt=replace(odd, lines=odd.lines[:-1])), other)
    assert not found.equal


def test_a_receipt_that_was_changed_says_nothing(sound):
    broken = replace(sound, name="broken", receipt=replace(sound.receipt, fault="line 3 is bad"))
    assert comparison.verdict(sound, broken).words == (
        "the receipt of broken was changed: line 3 is bad"
    )


def test_results_are_the_newest_and_the_best(sound):
    rows = dict(comparison.results([sound, sound]))
    last = sound.metrics[-1]
    assert rows["steps"] == [str(STEPS)] * 2
    assert rows["weights"] == [last["fingerprint"][:16]] * 2
    assert rows["accuracy"] == [f"{last['validation/accuracy']:.6g}"] * 2
    best = max(line.get("validation/accuracy", 0) for line in sound.metrics)
    assert rows["best accuracy"][0].startswith(f"{best:.4f} at step ")


def test_a_run_without_metrics_has_no_results(sound):
    rows = comparison.results([replace(sound, metrics=()), sound])
    assert {values[0] for _, values in rows} == {"0", "-"}


def test_curves_have_a_row_for_each_epoch_or_fewer(sound):
    rows = comparison.curves([sound, replace(sound, metrics=())], "validation/accuracy", most=12)
    assert [epoch for epoch, _ in rows] == ["1", "2", "3"]
    assert [values[1] for _, values in rows] == ["-"] * 3
    fewer = comparison.curves([sound], "validation/accuracy", most=2)
    assert [epoch for epoch, _ in fewer] == ["1", "3"]
    assert comparison.epoch(sound, 5) == 1.0


def test_lines_that_are_none_are_left_out(recorded, tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes(Path(recorded, name).read_bytes())
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\n[1]\n{"epoch": 3}\n{"step": 20, "ep')
    assert comparison.load(str(tmp_path)).metrics == comparison.load(str(recorded)).metrics


def step(number: int, **changed: str) -> Step:
    """One whose parts are two of each kind, but for a change."""
    hashes = Hashes(number, *(changed.get(kind, "same") for kind in KINDS))
    parts = {
        kind: (Part("first", "same"), Part("second", changed.get(kind, "same"))) for kind in KINDS
    }
    return Step(hashes, parts)


def test_the_first_part_is_that_of_the_first_step_and_of_the_first_kind():
    one, other = [step(1), step(2), step(3)], [step(1), step(2, weights="x", pixels="y"), step(3)]
    found = comparison.first_part(one, other)
    assert found == (2, "pixels", Part("second", "same"), Part("second", "y"))
    assert comparison.first_part(one, one) is None


def test_a_part_that_only_one_of_them_has_differs_from_nothing():
    fewer = replace(step(1), parts={**step(1).parts, "weights": (Part("first", "same"),)})
    found = comparison.first_part([step(1)], [fewer])
    assert found == (1, "weights", Part("second", "same"), Part("nothing", ""))
