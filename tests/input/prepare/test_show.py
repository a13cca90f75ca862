"""What is shown of records is what is in them, as the pipeline sees it."""

import numpy as np
import pytest
from PIL import Image

from input.errors import InputError
from input.manifest import Manifest, save
from input.prepare import show
from input.prepare.config import ShowConfig, WriteConfig
from input.prepare.writer import write
from input.reader import RecordReader
from input.records import encode, frame
from input.shard import Summary
from input.views import micro_batch
from scripts import records
from tests.conftest import CLASSES, encoded


def test_numbers_are_those_of_the_manifest(data_dir):
    train, validation = show.describe(ShowConfig(str(data_dir)))
    assert (train.split, validation.split) == ("train", "validation")
    assert train.manifest == Manifest.load(data_dir / "train")
    assert train.sampled == 160
    reader = RecordReader(train.manifest)
    lengths = [len(image) for image in reader.read(np.arange(160)).images]
    assert train.bytes == (min(lengths), int(np.median(lengths)), max(lengths))
    assert train.widths == train.heights == (16, 16, 16)


def test_every_class_of_every_split_has_its_row(data_dir):
    config = ShowConfig(str(data_dir), per_class=4, image_size=16)
    rows = list(show.rows(config))
    assert [(row.split, row.name) for row in rows] == [
        (split, name) for split in ("train", "validation") for name in CLASSES
    ]
    assert all(row.before.shape == row.after.shape == (4, 16, 16, 3) for row in rows)
    assert all((row.before != row.after).any() for row in rows)
    image = show.sheet(rows, 4)
    left = np.asarray(image)[2 * show.LINE :, show.GAP :][:16, :16]
    np.testing.assert_array_equal(left, rows[0].before[0])


def test_rows_are_the_views_of_evaluation_and_of_epoch_0(data_dir):
    config = ShowConfig(str(data_dir / "validation"), per_class=43, image_size=16, seed=3)
    reader = RecordReader(Manifest.load(data_dir / "validation"))
    indices = np.arange(reader.records)
    uniforms = micro_batch.training_uniforms(config.views(), 3, 0, indices)
    slots = micro_batch.read_slots(reader, indices, uniforms)
    for view, column in (
        (micro_batch.evaluation_views, "before"),
        (micro_batch.training_views, "after"),
    ):
        expected = {image.tobytes() for image in view(config.views(), reader, slots).numpy()}
        shown = [image.tobytes() for row in show.rows(config) for image in getattr(row, column)]
        assert len(shown) == reader.records
        assert set(shown) == expected


def test_raw_pixels_have_their_own_size(tmp_path, data_dir):
    images, out = data_dir.parent / "images", tmp_path / "raw"
    write(WriteConfig(images=str(images), out=str(out), encoding="raw"))
    for each in show.describe(ShowConfig(str(out))):
        assert each.bytes == (768, 768, 768)
        assert each.widths == each.heights == (16, 16, 16)


def test_the_page_has_every_image_and_no_markup_of_a_name(data_dir):
    config = ShowConfig(str(data_dir / "validation"), per_class=2, image_size=8)
    rows = [row._replace(name="<b>&") for row in show.rows(config)]
    page = show.page(show.describe(config), rows)
    assert page.count("<img ") == 2 * 2 * 3
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_the_command_writes_what_was_asked_for(data_dir, tmp_path, capsys):
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    config = ShowConfig(str(data_dir), sheet=str(sheet), html=str(page), per_class=2, image_size=8)
    records.show(config)
    shown = capsys.readouterr().out
    assert "train: of 160 records" in shown
    assert all(name in shown for name in CLASSES)
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("keep", [8, 200], ids=["no header", "no end"])
def test_an_image_that_cannot_be_decoded_is_one_line(tmp_path, keep):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 9, 3), np.uint8)
    images = [encoded(Image.fromarray(each), "PNG") for each in pixels]
    images[3] = images[3][:keep]
    framed = [frame(encode(image, i % 2)) for i, image in enumerate(images)]
    summary = Summary()
    for record in framed:
        summary.add(record)
    (tmp_path / "a.tfrecord").write_bytes(b"".join(framed))
    save(
        Manifest(
            folder=tmp_path,
            classes=("a", "b"),
            records_per_class=(4, 4),
            shards=(summary.save(tmp_path, "a.tfrecord"),),
            image_size=None,
        )
    )
    config = ShowConfig(str(tmp_path), image_size=8)
    with pytest.raises(InputError, match=r"cannot be decoded; samestep-records verify .* says"):
        show.describe(config)
        list(show.rows(config))
