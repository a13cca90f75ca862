"""Every record counts once, on any number of replicas, and the figures are NumPy's."""

import csv
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input import order, pipeline
from input.arrays import ArrayReader
from input.config import ResolvedInput
from input.errors import InputError
from input.manifest import Manifest
from input.native import library
from input.reader import RecordReader
from models.build import build_model
from models.config import ModelConfig
from tests.conftest import CLASSES, draw, error
from tests.trainer.conftest import HARDWARE, settings
from trainer import evaluate, findings, loop, run_dir
from trainer.checkpoint import Checkpoints
from trainer.config import Hardware
from trainer.evaluate import evaluate_run
from trainer.export import export_run
from trainer.state import EvaluationResult

M = 8
RUN = "f" * 64  # whose checkpoints they are
INPUT = ResolvedInput(global_batch_size=32, micro_batch_size=M, image_size=16)


def reader(count: int) -> ArrayReader:
    random = np.random.default_rng(count)
    labels = random.integers(0, len(CLASSES), count)
    return ArrayReader(np.stack([draw(label, random) for label in labels]), labels, CLASSES)


@pytest.fixture(scope="module")
def built(strategies):
    """Replicas -> a cnn with the same weights."""
    found = {}
    for replicas, strategy in strategies.items():
        with strategy.scope():
            found[replicas] = build_model(
                ModelConfig("cnn"), input_shape=(16, 16, 3), num_classes=len(CLASSES), seed=3
            )
    return found


@pytest.mark.parametrize("count", [1, M - 1, M, M + 1, 97])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_evaluation_is_exact(strategies, built, count, replicas):
    data = reader(count)
    evaluation = evaluate.build_evaluation(strategies[replicas], built[replicas], INPUT, data)
    result, found = evaluation()

    logits = built[1](np.repeat(data.pixels, 3, axis=-1), training=False).numpy()
    labels = data.read(np.arange(count)).labels
    logits = logits.astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(count), labels]
    assert result.images == result.records == count
    assert result.correct == (logits.argmax(axis=1) == labels).sum()
    assert result.accuracy == pytest.approx((logits.argmax(axis=1) == labels).mean(), abs=1e-6)
    assert result.loss == pytest.approx(losses.mean(), abs=1e-6)
    assert evaluation().result == result, "the second pass starts where the first did"

    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (labels, predicted), 1)
    np.testing.assert_array_equal(found.confusion, confusion)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = np.flatnonzero(predicted != labels)
    assert {each.record for each in found.mistakes} <= set(wrong.tolist())
    assert len(found.mistakes) == min(len(wrong), findings.MISTAKES)
    for each in found.mistakes:
        assert (each.label, each.predicted) == (labels[each.record], predicted[each.record])
        assert each.probability == pytest.approx(shares[each.record].max(), abs=1e-6)


def test_replicas_agree_to_the_bit(strategies, built):
    data = reader(197)
    runs = [evaluate.build_evaluation(strategies[n], built[n], INPUT, data)() for n in (1, 2, 4)]
    assert len({run.result for run in runs}) == 1
    assert len({run.findings.pairs.tobytes() for run in runs}) == 1
    assert len({run.findings.mistakes for run in runs}) == 1
    assert len(runs[0].findings.mistakes) == findings.MISTAKES


def test_before_saving_equals_after_loading(strategies, built, tmp_path):
    data = reader(97)
    saved = evaluate.build_evaluation(strategies[2], built[2], INPUT, data)().result
    Checkpoints(tmp_path, RUN, built[2]).save(7)
    with strategies[4].scope():
        other = build_model(
            ModelConfig("cnn"), input_shape=(16, 16, 3), num_classes=len(CLASSES), seed=4
        )
    evaluation = evaluate.build_evaluation(strategies[4], other, INPUT, data)
    assert evaluation().result != saved
    assert Checkpoints(tmp_path, RUN, other).restore().step == 7
    assert evaluation().result == saved


def test_a_model_that_is_not_finite_has_no_loss(strategies, built):
    weights = built[1].get_weights()
    built[1].set_weights([w * np.nan for w in weights])
    result, found = evaluate.build_evaluation(strategies[1], built[1], INPUT, reader(9))()
    built[1].set_weights(weights)
    assert found.confusion.sum() == 9 and not found.mistakes
    assert result.loss is None
    assert (result.images, result.records) == (9, 9)


def test_where_every_record_is_bad_nothing_is_known(strategies, built, data_dir, tmp_path):
    shutil.copytree(data_dir / "validation", tmp_path / "validation")
    for shard in (tmp_path / "validation").glob("*.tfrecord"):
        shard.write_bytes(bytes(shard.stat().st_size))
    allowing = replace(INPUT, max_bad_records=43)
    data = RecordReader(Manifest.load(tmp_path / "validation"), allowing.max_bad_records)
    result, found = evaluate.build_evaluation(strategies[2], built[2], allowing, data)()
    assert not found.confusion.any() and not found.mistakes
    assert result == EvaluationResult(
        None, correct=0, images=0, records=43, class_images=(0, 0, 0), class_correct=(0, 0, 0)
    )


@pytest.mark.parametrize("replicas", [1, 2])
def test_evaluation_of_the_directory_is_that_of_the_run(finished, replicas, capsys):
    result = evaluate_run(finished.run_dir, Hardware(virtual_cpus=replicas))
    assert result == finished.state.evaluation
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"validation at step 15: {result}"
    found = findings.load(finished.run_dir, 15)
    assert said[1:-1] == list(evaluate.worst_classes(result, found))
    assert said[-1] == f"weights {finished.state.fingerprint}"


def test_what_was_found_is_written_as_asked(finished, tmp_path, capsys):
    for ending in ("png", "csv"):
        files = {
            "confusion": f"{tmp_path}/confusion.{ending}",
            "mistakes": f"{tmp_path}/mistakes.png",
        }
        evaluate_run(finished.run_dir, HARDWARE, **files)
        said = capsys.readouterr().out.splitlines()
        assert said[-2:] == [f"wrote {path}" for path in files.values()]
    found = findings.load(finished.run_dir, 15)
    header, *rows = csv.reader((tmp_path / "confusion.csv").read_text().splitlines())
    assert header == ["true class", *CLASSES]
    assert [row[0] for row in rows] == list(CLASSES)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], int), found.confusion)
    for name in ("confusion", "mistakes"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100


def test_the_images_of_mistakes_are_those_that_were_evaluated(finished, data_dir):
    config = run_dir.load(finished.run_dir).config.input
    data = RecordReader(Manifest.load(data_dir / "validation"))
    found = findings.load(finished.run_dir, 15)
    images = evaluate.mistaken(config, data, found)
    plan = order.EvaluationPlan(config.micro_batch_size, 1, data.records)
    batches = pipeline.evaluate(config, data, plan).take(plan.draws)
    evaluated = np.concatenate([image.numpy() for image, _, _ in batches])
    assert len(images) == len(found.mistakes) > 0
    for image, mistake in zip(images, found.mistakes, strict=True):
        np.testing.assert_array_equal(image, evaluated[mistake.record])
    nothing = replace(found, mistakes=())
    assert evaluate.mistaken(config, data, nothing).shape == (0, 16, 16, 3)


def test_the_worst_classes_come_with_their_usual_mistakes():
    pairs = np.array([[0, 0, 61], [0, 1, 23], [0, 2, 10], [0, 3, 6], [1, 1, 4], [2, 2, 1]])
    found = findings.Findings(("cat", "dog", "a\n", "none"), pairs, ())
    result = EvaluationResult(
        0.1, 66, 105, 105, class_images=(100, 4, 1, 0), class_correct=(61, 4, 1, 0)
    )
    assert list(evaluate.worst_classes(result, found)) == [
        "mean class accuracy 0.8700; the worst of 4:",
        "  cat: 61 % of 100 right, 23 % taken for dog, 10 % taken for a\\n",
        "  dog: 100 % of 4 right",
        "  a\\n: 100 % of 1 right",
    ]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_run_ends_where_evaluations_get_no_better(data_dir, tmp_path, capsys, replicas):
    """With a rate of 0 none does; the same command again makes no step."""
    config = settings(data_dir, tmp_path, stop_after=1)
    config = replace(config, optimizer=replace(config.optimizer, learning_rate=0.0))
    state = loop.fit(config, Hardware(virtual_cpus=replicas))
    assert (state.step, state.since_best) == (10, 1)
    assert state.best == state.evaluation.accuracy
    said = capsys.readouterr().out
    assert f"--stop_after=1: no evaluation since {state.best:.4f} was better, and 1 were" in said
    assert loop.fit(config, Hardware(virtual_cpus=replicas)) == state


def test_the_averages_are_evaluated_exported_and_best(data_dir, tmp_path, capsys):
    """What training printed, evaluation prints, of either weights, and the export answers."""
    config = settings(data_dir, tmp_path / "run")
    config = replace(
        config,
        input=replace(config.input, decoder="tensorflow"),  # which the export decodes with
        optimizer=replace(config.optimizer, ema_decay=0.9),
    )
    state = loop.fit(config, HARDWARE)
    capsys.readouterr()
    one = Hardware(virtual_cpus=1)
    assert evaluate_run(tmp_path / "run", one) == state.evaluation_of_averages
    assert f"averaged weights {state.averages}" in capsys.readouterr().out
    assert evaluate_run(tmp_path / "run", one, weights="trained") == state.evaluation
    assert f"\nweights {state.fingerprint}" in capsys.readouterr().out
    assert state.evaluation != state.evaluation_of_averages
    best = Checkpoints(tmp_path / "run", state.run, keras.Sequential()).best()
    assert best.judged.accuracy == max(state.best, best.judged.accuracy)
    assert evaluate_run(tmp_path / "run", one, checkpoint="best") == best.judged
    content = RecordReader(Manifest.load(data_dir / "validation")).read(np.arange(43))
    for weights, expected in (
        ("averaged", state.evaluation_of_averages),
        ("trained", state.evaluation),
    ):
        out = tmp_path / weights
        export_run(tmp_path / "run", out, weights=weights)
        found = tf.saved_model.load(out)(tf.constant(content.images.tolist()))["label"].numpy()
        assert int((found == content.labels).sum()) == expected.correct
    without = error(evaluate_run, finished_without(data_dir, tmp_path), one, weights="averaged")
    assert "has no averages of its weights: --ema_decay was 0" in without


def finished_without(data_dir, tmp_path):
    folder = tmp_path / "without"
    config = settings(data_dir, folder)
    loop.fit(replace(config, run=replace(config.run, epochs=1)), HARDWARE)
    return folder


def test_another_split_and_other_records_can_be_evaluated(finished, data_dir, tmp_path):
    shutil.copytree(data_dir / "validation", tmp_path / "test")
    again = evaluate_run(finished.run_dir, HARDWARE, data_dir=str(tmp_path), split="test")
    assert again == finished.state.evaluation
    trained = evaluate_run(finished.run_dir, HARDWARE, split="train", checkpoint="best")
    assert trained.records == trained.images == 160


@pytest.mark.skipif(not library.available(), reason="the native decoder was not built")
def test_a_natively_decoded_run_is_evaluated_without_the_library(finished, monkeypatch, capsys):
    decoder = library.version("native")

    def missing():
        raise InputError("The native decoder was not built.")

    monkeypatch.setattr(library, "load", missing)
    result = evaluate_run(finished.run_dir, HARDWARE)
    assert result.images == result.records
    note = f"note: images decoded by tensorflow, the run's by {decoder}: some pixels may differ"
    assert note in capsys.readouterr().out
