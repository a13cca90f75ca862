"""The SavedModel answers as the run's model does, from files or from pixels."""

import base64
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from input import pipeline
from input.foundation import typed_json
from input.manifest import Manifest
from input.order import EvaluationPlan
from input.reader import RecordReader
from tests.conftest import CLASSES, error
from trainer import assembly, run_dir
from trainer.checkpoint import Checkpoints
from trainer.export import export_run
from trainer.state import State


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "new" / "model"  # folders above it are made too
    assert export_run(finished.run_dir, out) == finished.state
    return out


@pytest.fixture(scope="module")
def records(data_dir):
    return RecordReader(Manifest.load(data_dir / "validation"))


def restored_model(folder):
    first = run_dir.load(folder)
    model = assembly.new_model(first.config, first.config.input, 3, first.image_dtype)
    Checkpoints(folder, run_dir.identity(first), model).restore_existing("latest")
    return first, model


def test_image_files_get_the_answers_of_the_runs_evaluation(finished, exported, records):
    """Bytes in: the same view, the same weights, so the probabilities of the pipeline's batch."""
    first, model = restored_model(finished.run_dir)
    plan = EvaluationPlan(43, replicas=1, records=43)
    images, labels, _ = next(iter(pipeline.evaluate(first.config.input, records, plan)))
    expected = tf.nn.softmax(model(images, training=False)).numpy()
    block = records.read(np.arange(43))
    answer = tf.saved_model.load(str(exported))(tf.constant(block.images.tolist()))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-5, atol=1e-6)
    found = answer["label"].numpy()
    np.testing.assert_array_equal(found, expected.argmax(axis=1))
    assert [name.decode() for name in answer["class_name"].numpy()] == [CLASSES[i] for i in found]
    assert (found == labels.numpy()).sum() == finished.state.evaluation.correct


def test_the_serving_signature_is_the_call(exported, records):
    loaded = tf.saved_model.load(str(exported))
    one = tf.constant(records.read(np.array([0])).images.tolist())
    served = loaded.signatures["serving_default"](image_bytes=one)
    np.testing.assert_array_equal(served["probabilities"], loaded(one)["probabilities"])


def served(signature, request: str) -> list:
    """TensorFlow Serving's answer to a JSON request in row format: its `predictions`.

    Its rules (util/json_tensor.cc): one value an instance where there is one input, bytes as
    {"b64": ..}; as many rows in every output; a row is an object where there are several outputs.
    """
    (spec,) = signature.structured_input_signature[1].values()  # none: it does not call it
    instances = json.loads(request)["instances"]
    rows = [base64.b64decode(x["b64"]) if isinstance(x, dict) else x for x in instances]
    outputs = signature(**{spec.name: tf.constant(rows, spec.dtype)})
    found = {key: value.numpy() for key, value in outputs.items()}
    assert {value.ndim and len(value) for value in found.values()} == {len(rows)}
    columns = {
        key: value.astype(str).tolist() if value.dtype == object else value.tolist()
        for key, value in found.items()
    }
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [{key: column[row] for key, column in columns.items()} for row in range(len(rows))]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_server_answers_in_rows(exported, records, n):
    """3 classes: as many images as classes, fewer and more."""
    signatures = tf.saved_model.load(str(exported)).signatures
    images = records.read(np.arange(n)).images
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    rows = served(signatures["serving_default"], json.dumps({"instances": instances}))
    assert len(rows) == n
    for row in rows:
        assert row.keys() == {"probabilities", "label", "class_name"}
        assert len(row["probabilities"]) == 3
        assert row["label"] == np.argmax(row["probabilities"])
        assert row["class_name"] == CLASSES[row["label"]]


def test_a_server_names_the_classes(exported):
    classes = tf.saved_model.load(str(exported)).signatures["classes"]
    assert tuple(served(classes, '{"instances": [0, 1, 2]}')) == CLASSES
    assert served(classes, '{"instances": [2]}') == [CLASSES[2]]


def test_a_run_of_float_pixels_is_exported_for_pixels(finished, tmp_path):
    """Its records hold what the model gets: no file could."""
    first = dataclasses.replace(run_dir.load(finished.run_dir), image_dtype="float32")
    (tmp_path / "config.json").write_text(typed_json.dump(first))
    shutil.copytree(finished.run_dir / "checkpoints", tmp_path / "checkpoints")  # the same weights
    for path in tmp_path.glob("checkpoints/*/state.json"):
        state = dataclasses.replace(typed_json.load(State, path), run=run_dir.identity(first))
        path.write_text(typed_json.dump(state))
    _, model = restored_model(tmp_path)
    export_run(tmp_path, tmp_path / "export")
    pixels = np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 3)).astype(np.float32)
    answer = tf.saved_model.load(str(tmp_path / "export"))(tf.constant(pixels))
    expected = tf.nn.softmax(model(pixels, training=False))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-5, atol=1e-6)


def test_best_is_the_checkpoint_of_the_best_accuracy(finished, tmp_path, capsys):
    state = export_run(finished.run_dir, tmp_path / "best", "best")
    kept = [
        typed_json.load(type(state), path)
        for path in (finished.run_dir / "checkpoints").glob("*/state.json")
    ]
    assert state.evaluation.accuracy == max(each.evaluation.accuracy for each in kept)
    said = capsys.readouterr().out
    assert said == (f"{tmp_path}/best: step {state.step}, 3 classes, {state.fingerprint[:16]}\n")


def test_what_is_there_is_not_replaced(finished, tmp_path):
    assert error(export_run, finished.run_dir, tmp_path) == (
        f"--out={tmp_path} exists already. Remove it, or choose another folder."
    )


def test_a_place_that_cannot_be_written_is_named(finished, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "model"
    assert error(export_run, finished.run_dir, out).startswith(f"--out={out} cannot be written: ")


def test_a_folder_without_a_run_or_a_checkpoint_is_named(finished, tmp_path):
    assert "holds no run" in error(export_run, tmp_path, tmp_path / "out")
    run_dir.save(tmp_path, run_dir.load(finished.run_dir))
    assert "holds no checkpoint yet" in error(export_run, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
