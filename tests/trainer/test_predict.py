"""Image files get the probabilities that their records have in an evaluation, to the bit."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input import pipeline
from input.config import InputConfig
from input.manifest import Manifest
from input.order import EvaluationPlan
from input.prepare.config import WriteConfig
from input.prepare.conversion import Conversion
from input.prepare.files import FileReader
from input.reader import RecordReader
from tests.conftest import CLASSES, encoded, error, rewrite
from trainer import evaluate, iterators, predict, run_dir, step
from trainer.config import Hardware
from trainer.export import export_run
from trainer.predict import ExportPredictor, RunPredictor

HOW = Conversion("keep", None, WriteConfig.quality, InputConfig.max_pixels)


def reader_of(paths) -> FileReader:
    return FileReader(paths, CLASSES, HOW)


def probabilities(predictor, paths) -> np.ndarray:
    return np.concatenate(list(predictor.probabilities(reader_of(paths))))


@pytest.fixture(scope="module")
def paths(data_dir):
    """The files of the validation records, in the order of the records."""
    manifest = Manifest.load(data_dir / "validation")
    return [data_dir.parent / "images" / manifest.source(i) for i in range(manifest.records)]


@pytest.fixture(scope="module")
def predictor(finished) -> RunPredictor:
    return RunPredictor(finished.run_dir, Hardware(virtual_cpus=1))


@pytest.fixture(scope="module")
def evaluated(finished, data_dir, strategies, predictor) -> step.Evaluation:
    """What an evaluation computes of each record, on two replicas."""
    definition = run_dir.load(finished.run_dir)
    config, reader = definition.config.input, RecordReader(Manifest.load(data_dir / "validation"))
    plan = EvaluationPlan(config.micro_batch_size, 2, reader.records)
    iterator = iterators.distributed(strategies[2], lambda: pipeline.evaluate(config, reader, plan))
    _, _, model = predict.assembly.network(definition, Hardware(virtual_cpus=2))
    evaluate.restore(finished.run_dir, definition, model, strategies[2], "latest", "auto")
    found = step.build_evaluate(strategies[2], model)(iterator, tf.constant(plan.draws, tf.int64))
    return step.Evaluation(*(each.numpy().ravel()[: reader.records] for each in found))


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_file_gets_what_evaluation_gives_its_record(finished, paths, evaluated, replicas):
    predictor = RunPredictor(finished.run_dir, Hardware(virtual_cpus=replicas))
    assert predictor.classes == CLASSES and predictor.notes == ()
    found = probabilities(predictor, paths)
    assert found.shape == (43, 3) and found.dtype == np.float32
    np.testing.assert_array_equal(found.argmax(axis=1), evaluated.predicted)
    np.testing.assert_array_equal(found.max(axis=1).astype(np.float64), evaluated.probability)


def test_an_export_answers_without_its_run(finished, paths, evaluated, tmp_path):
    export_run(finished.run_dir, tmp_path / "export")
    predictor = ExportPredictor(tmp_path / "export")
    assert predictor.classes == CLASSES
    found = probabilities(predictor, paths)
    np.testing.assert_array_equal(found.argmax(axis=1), evaluated.predicted)
    np.testing.assert_allclose(found.max(axis=1), evaluated.probability, atol=1e-4)


def test_every_format_is_seen_as_its_pixels(predictor, paths, tmp_path):
    """A PNG, and the same pixels in other files, one of them on its side."""
    image = Image.open(next(path for path in paths if path.suffix == ".png")).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    same = []
    for number, (picture, kind, options) in enumerate(
        (
            *((image, "PNG", {}), (image, "BMP", {}), (image, "WEBP", {"lossless": True})),
            *((image.convert("L"), "GIF", {}), (turned, "PNG", {"exif": exif})),
        )
    ):
        same.append(tmp_path / f"{number}.{kind.lower()}")
        same[-1].write_bytes(encoded(picture, kind, **options))
    found = probabilities(predictor, same)
    np.testing.assert_array_equal(found, found[[0] * len(same)])


def test_a_file_that_is_no_image_is_named_and_the_others_are_predicted(
    finished, predictor, paths, tmp_path
):
    (tmp_path / "text.png").write_text("hello")
    mixed = [paths[0], tmp_path / "text.png", paths[1]]
    export_run(finished.run_dir, tmp_path / "export")
    for each in (predictor, ExportPredictor(tmp_path / "export")):
        reader = reader_of(mixed)
        found = np.concatenate(list(each.probabilities(reader)))
        assert list(reader.bad_records) == [1]
        alone = probabilities(each, [paths[0], paths[1]])
        np.testing.assert_array_equal(found[[0, 2]].argmax(axis=1), alone.argmax(axis=1))


def test_an_image_that_tensorflow_refuses_is_left_out_of_an_export(
    finished, paths, tmp_path, monkeypatch
):
    export_run(finished.run_dir, tmp_path / "export")
    predictor = ExportPredictor(tmp_path / "export")
    expected = probabilities(predictor, paths[:3])
    reader = reader_of(paths[:3])
    contents = reader.read(np.arange(3))
    contents.images[1] = b"\x89PNG\r\n\x1a\n and no more"
    monkeypatch.setattr(reader, "read", lambda indices: contents)
    found = np.concatenate(list(predictor.probabilities(reader)))
    assert "cannot be decoded" in reader.bad_records[1].reason
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], atol=1e-6)


def test_what_is_no_export_is_refused(finished, tmp_path):
    assert "no folder that samestep-export has written" in error(ExportPredictor, tmp_path)
    assert "no folder that samestep-export has written" in error(ExportPredictor, finished.run_dir)
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    assert "no folder that samestep-export has" in error(ExportPredictor, tmp_path / "other")


def test_pixels_that_no_file_holds_are_refused(finished, tmp_path):
    (tmp_path / "config.json").write_bytes((finished.run_dir / "config.json").read_bytes())
    rewrite(tmp_path / "config.json", image_dtype="float32")
    said = error(RunPredictor, tmp_path, Hardware(virtual_cpus=1))
    assert "was trained on float32 pixels" in said and "samestep-evaluate" in said


def test_averages_that_a_run_has_not_are_refused(finished):
    given = {"weights": "averaged"}
    said = error(RunPredictor, finished.run_dir, Hardware(virtual_cpus=1), **given)
    assert "has no averages of its weights" in said
