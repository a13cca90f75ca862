"""Image files are read as the records that would be written of them, with either decoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from input import order, pipeline
from input.config import ResolvedInput
from input.errors import InputError
from input.manifest import Manifest
from input.native import library
from input.prepare.config import WriteConfig
from input.prepare.conversion import Conversion, quiet_pillow
from input.prepare.files import FileReader, found_in
from input.prepare.writer import write
from input.reader import BLANK, RecordReader
from input.views import micro_batch
from tests.conftest import encoded, error, picture

HOW = Conversion("keep", None, WriteConfig.quality, 10**7)
CONFIG = ResolvedInput(
    global_batch_size=4, micro_batch_size=4, image_size=24, eval_crop=0.9, antialias=True
)
DECODERS = [
    "tensorflow",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(not library.available(), reason="the decoder was not built"),
    ),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Two class folders with every format, one of the images on its side."""
    folder = tmp_path_factory.mktemp("files")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (kind, options) in enumerate(
        (
            *(("PNG", {}), ("JPEG", {"quality": 90}), ("JPEG", {"exif": exif, "quality": 90})),
            *(("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {})),
        )
    ):
        path = folder / "ab"[number % 2] / f"{number}.{kind.lower()}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(picture(number), kind, **options))
    return folder


def test_folders_are_searched_and_files_are_taken_as_they_are(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "b/notes.txt", "b/.hidden/3.png", "a.webp", "odd"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = found_in([str(tmp_path / "odd"), str(tmp_path), str(tmp_path / "missing")])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["odd", "a.webp", "b/1.png", "b/2.JPG", "missing"]
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert "Remove the link" in error(found_in, [str(tmp_path)])


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_files_view_is_that_of_its_record(images, tmp_path, decoder):
    write(WriteConfig(images=str(images), out=str(tmp_path / "data"), split="train:1.0"))
    manifest = Manifest.load(tmp_path / "data" / "train")
    records = RecordReader(manifest)
    paths = [images / manifest.source(i) for i in range(records.records)]
    files = FileReader(paths, manifest.classes, HOW)
    config = replace(CONFIG, decoder=decoder)
    plan = order.EvaluationPlan(4, 1, len(paths))
    for found, expected in zip(
        pipeline.evaluate(config, files, plan).take(plan.draws),
        pipeline.evaluate(config, records, plan).take(plan.draws),
        strict=True,
    ):
        for column in (0, 2):  # the image and its weight; files have no label
            np.testing.assert_array_equal(found[column], expected[column])
    indices = np.array([5, 0, 3])
    views = micro_batch.seen(config, records, indices)
    np.testing.assert_array_equal(views, micro_batch.seen(config, files, indices))
    assert views.shape == (3, 24, 24, 3)
    first = next(iter(pipeline.evaluate(config, records, plan)))[0]
    np.testing.assert_array_equal(views[1:], first.numpy()[[0, 3]])


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_no_image_keeps_its_place_with_weight_0(images, tmp_path, decoder):
    good = images / "a" / "0.png"
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:-40])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.gif").touch()
    paths = [good, *sorted(tmp_path.iterdir()), tmp_path / "missing.png", tmp_path, good]
    reader = FileReader(paths, ("only",), HOW)
    plan = order.EvaluationPlan(4, 1, len(paths))
    with quiet_pillow():
        batches = list(
            pipeline.evaluate(replace(CONFIG, decoder=decoder), reader, plan).take(plan.draws)
        )
    weights = np.concatenate([weight for _, _, weight in batches])
    assert weights.tolist() == [1, 0, 0, 0, 0, 0, 1, 0]
    views = np.concatenate([image for image, _, _ in batches])
    np.testing.assert_array_equal(views[0], views[6])
    assert sorted(reader.bad_records) == [1, 2, 3, 4, 5]
    assert reader.bad_records[4].reason == "neither a file nor a link to one"
    assert reader.failure is None


def test_padding_is_blank(images):
    reader = FileReader([images / "a" / "0.png"], ("only",), HOW)
    block = reader.read(np.array([-1, 0]))
    assert block.images.tolist() == [BLANK, (images / "a" / "0.png").read_bytes()]
    assert block.weights.tolist() == [0, 1]
    assert not reader.bad_records


def test_larger_images_are_made_small_as_write_makes_them(images, tmp_path):
    source = str(images)
    write(WriteConfig(images=source, out=str(tmp_path / "data"), split="train:1.0", short_side=30))
    manifest = Manifest.load(tmp_path / "data" / "train")
    paths = [images / manifest.source(i) for i in range(manifest.records)]
    reader = FileReader(paths, manifest.classes, HOW._replace(short_side=30))
    indices = np.arange(len(paths))
    expected = RecordReader(manifest).read(indices).images
    assert reader.read(indices).images.tolist() == expected.tolist()


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def refuse(path, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(path)))
        return iter(())

    monkeypatch.setattr("input.prepare.places.os.walk", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        found_in([str(tmp_path)])
