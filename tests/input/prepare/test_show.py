"""What is shown of records is what is in them, as the pipeline sees it."""

import io

import numpy as np
import pytest
from tests.conftest import CLASSES
from PIL import Image

from input import order, pipeline
from input.config import InputConfig, ShowConfig
from input.errors import InputError
from input.manifest import Manifest, Shard, save, save_index
from input.prepare import show
from input.reader import RecordReader
from input.records import encode, frame
from scripts import records


def test_numbers_are_those_of_the_manifest(data_dir):
    train, validation = show.describe(ShowConfig(str(data_dir)))
    assert (train.split, validation.split) == ("train", "validation")
    assert train.manifest == Manifest.load(data_dir / "train")
    assert train.sampled == 160
    reader = RecordReader(train.manifest)
    lengths = [len(image) for image in reader.read(np.arange(160)).images]
    assert train.bytes == (min(lengths), int(np.median(lengths)), max(lengths))
    assert train.widths.smallest <= train.widths.median <= train.widths.largest


@pytest.mark.parametrize("augment", ["none", "crop", "standard"])
def test_views_are_what_training_sees_in_epoch_0(data_dir, augment):
    reader = RecordReader(Manifest.load(data_dir / "train"))
    config = InputConfig(global_batch_size=8, micro_batch_size=8, image_size=16, augment=augment)
    plan = order.plan(config, reader.records, replicas=1)
    image, _, _ = next(iter(pipeline.train(config, reader, plan, seed=3)))
    _, numbers = order.training_records(0, 0, plan, seed=3)
    shown = pipeline.training_views(config, reader, numbers, seed=3, epoch=0)
    np.testing.assert_array_equal(shown, image)


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
    assert Image.open(sheet).format == "PNG"
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("keep", [8, 200], ids=["no header", "no end"])
def test_an_image_that_cannot_be_decoded_is_one_line(tmp_path, keep):
    images = []
    for i in range(8):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), np.uint8)).save(
            file, "PNG"
        )
        images.append(file.getvalue()[: keep if i == 3 else None])
    framed = [frame(encode(image, i % 2)) for i, image in enumerate(images)]
    lengths = [len(record) for record in framed]
    shard = Shard("a.tfrecord", 8, sum(lengths), "0" * 64)
    (tmp_path / shard.file).write_bytes(b"".join(framed))
    save_index(tmp_path, shard, lengths)
    save(Manifest(tmp_path, ("a", "b"), (4, 4), (shard,), None))
    config = ShowConfig(str(tmp_path), image_size=8)
    with pytest.raises(InputError, match=r"cannot be decoded; samestep-records verify .* says"):
        show.describe(config)
        list(show.rows(config))


def test_wrong_settings():
    with pytest.raises(InputError, match="--dir is missing"):
        ShowConfig()
    with pytest.raises(InputError, match="--per_class must be 1 or more"):
        ShowConfig("x", per_class=0)
    with pytest.raises(InputError, match="--crop_min_area must be above 0"):
        ShowConfig("x", crop_min_area=0.0)
