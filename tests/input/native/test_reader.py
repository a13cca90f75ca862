"""Native views are those of the plain arithmetic, on any threads; bad records are named."""

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input import order, pipeline
from input.config import ResolvedInput
from input.errors import BadRecordError
from input.manifest import Manifest, save
from input.native import library
from input.native.reader import ViewReader, fits
from input.prepare.conversion import Conversion, convert, quiet_pillow
from input.randomness import uniform
from input.reader import RecordReader
from input.records import ENCODED, RAW, Schema, encode, frame
from input.shard import Summary
from input.views import window
from input.views.window import UNIFORMS
from tests.conftest import encoded, picture
from tests.input.conftest import IN_READING, check_names
from tests.input.native import reference
from tests.input.prepare.odd_images import ODD

pytestmark = pytest.mark.skipif(
    not library.available(), reason="the native decoder was not built: a C compiler is missing"
)

SIZE = 24


def write(folder: Path, images, schema=ENCODED) -> Manifest:
    """images: bytes, or pixels uint8[h, w, 3] for schema RAW; the label is the place modulo 3."""
    folder.mkdir(parents=True)
    summary = Summary()
    with (folder / "train.tfrecord").open("wb") as file:
        for number, image in enumerate(images):
            raw = None if isinstance(image, bytes) else image.shape[:2]
            content = image if isinstance(image, bytes) else image.tobytes()
            record = frame(encode(content, number % 3, raw))
            file.write(record)
            summary.add(record)
    counts = tuple(len(range(label, len(images), 3)) for label in range(3))
    manifest = Manifest(
        folder=folder,
        classes=("a", "b", "c"),
        records_per_class=counts,
        shards=(summary.save(folder, "train.tfrecord"),),
        image_size=None,
        schema=schema,
    )
    save(manifest)
    return manifest


def views(manifest, size=SIZE, *, antialias=False, threads=1, simd=True, windows=None):
    """Views of every record, and the windows that they show."""
    used = []

    def cut(uniforms, extents):
        found = window.training(uniforms, extents, 0.2, True) if windows is None else windows
        used.append(found)
        return found

    indices = np.arange(manifest.records)
    reader = ViewReader(
        RecordReader(manifest), size, antialias=antialias, threads=threads, simd=simd
    )
    block = reader.read(indices, uniform(1, 0, indices, UNIFORMS), cut)
    assert block.weights.all()
    assert block.labels.tolist() == [number % 3 for number in indices]
    return block.images, used[0]


def pictures(count=24) -> list[np.ndarray]:
    """Of many sizes: smaller and larger than the view, a column, a row, a pixel."""
    sizes = [(1, 1), (1, 40), (40, 1), (7, 5), (SIZE, SIZE), (25, 23), (90, 130), (400, 300)]
    return [
        np.asarray(picture(seed, *sizes[seed % len(sizes)]).convert("RGB")) for seed in range(count)
    ]


@pytest.mark.parametrize("size", [1, 8, 24, 33])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("simd", [False, True])
@pytest.mark.parametrize("kind", ["raw", "png"])
def test_views_are_those_of_the_plain_arithmetic(tmp_path, kind, simd, antialias, size):
    images = pictures()
    stored = images if kind == "raw" else [encoded(Image.fromarray(p), "PNG") for p in images]
    manifest = write(tmp_path / "a", stored, RAW if kind == "raw" else ENCODED)
    found, windows = views(manifest, size, antialias=antialias, simd=simd)
    expected = [reference.view(p, w, size, antialias) for p, w in zip(images, windows, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert 0 < windows[:, 4].sum() < len(images)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_whole_jpegs_have_the_pixels_of_tensorflow(tmp_path, mode, options):
    images = []
    for seed in range(6):
        file = io.BytesIO()
        picture(seed, 61, 87).convert(mode).save(file, "JPEG", quality=90, **options)
        images.append(file.getvalue())
    extents = np.tile(np.array([0, 0, 61, 87, 0], np.int32), (6, 1))
    found, windows = views(write(tmp_path / "a", images), windows=extents)
    for image, view, own in zip(images, found, windows, strict=True):
        decoded = tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        np.testing.assert_array_equal(view, reference.view(decoded, own, SIZE, False))


@pytest.mark.parametrize("threads", [2, 8])
def test_neither_threads_nor_simd_change_a_bit(data_dir, threads):
    manifest = Manifest.load(data_dir / "train")
    indices = np.arange(manifest.records)
    found = [
        ViewReader(RecordReader(manifest), SIZE, antialias=True, threads=n, simd=simd).read(
            indices,
            uniform(1, 0, indices, UNIFORMS),
            lambda uniforms, extents: window.training(uniforms, extents, 0.08, True),
        )
        for n, simd in ((1, False), (threads, True))
    ]
    np.testing.assert_array_equal(found[0].images, found[1].images)


@pytest.mark.parametrize("decoder", ["native", "tensorflow"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("augment", ["none", "crop", "standard", "rand-m9-n2"])
def test_the_pipeline_gives_nearly_the_same_with_either_decoder(
    data_dir, augment, antialias, decoder
):
    reader = RecordReader(Manifest.load(data_dir / "train"))
    config = ResolvedInput(
        global_batch_size=32,
        micro_batch_size=16,
        image_size=20,
        augment=augment,
        antialias=antialias,
        color_jitter=0.2,
        erasing=0.3,
        decoder=decoder,
    )
    tensorflow = dataclasses.replace(config, decoder="tensorflow")
    plan = order.plan(config, reader.records, replicas=1)
    for one, other in zip(
        pipeline.train(config, reader, plan, seed=3).take(3),
        pipeline.train(tensorflow, reader, plan, seed=3).take(3),
        strict=True,
    ):
        difference = np.abs(one[0].numpy().astype(int) - other[0].numpy())
        np.testing.assert_array_equal(one[1], other[1])
        # Posterising and the like make one level many.
        assert difference.mean() < (0.1 if augment.startswith("rand") else 0.02)
        assert difference.max() <= (255 if augment.startswith("rand") else 2)
        if decoder == "tensorflow":
            assert difference.max() == 0


def test_sound_records_of_any_length_are_read_without_python(tmp_path, monkeypatch):
    """A wrong checksum of the library would only be slow."""
    widths = [1, 2, 3, *range(990, 1030), *range(2015, 2045), 5_000]  # 3 bytes each
    images = [np.full((1, width, 3), width % 251, np.uint8) for width in widths]
    manifest = write(tmp_path / "a", images, RAW)
    windows = np.array([(0, 0, 1, width, 0) for width in widths], np.int32)
    monkeypatch.delattr(RecordReader, "read")
    found, _ = views(manifest, size=1, windows=windows)
    assert found[:, 0, 0, 0].tolist() == [width % 251 for width in widths]


@pytest.mark.parametrize("damage", IN_READING, ids=lambda damage: damage.__name__)
def test_what_cannot_be_read_is_named_as_before(records, damage):
    bad = damage(records)
    reader = records.reader(max_bad_records=len(bad))
    indices = np.array(sorted({*bad, 3, 150}))
    block = ViewReader(reader, SIZE, antialias=False, threads=2).read(
        indices, np.empty((len(indices), 0), np.float32), lambda _, e: window.evaluation(e, 1.0)
    )
    assert set(reader.bad_records) == set(bad)
    for error in reader.bad_records.values():
        check_names(error, records, bad)
    lost = np.isin(indices, list(bad))
    assert block.weights.tolist() == (~lost).astype(float).tolist()
    assert not block.images[lost].any() and block.images[~lost].any()
    with pytest.raises(BadRecordError):
        ViewReader(records.reader(), SIZE, antialias=False, threads=2).read(
            indices, np.empty((len(indices), 0), np.float32), lambda _, e: window.evaluation(e, 1)
        )


def test_what_cannot_be_decoded_has_weight_0_and_a_reason(records):
    image, label = records.content(5)
    kind = "JPEG" if image.startswith(b"\xff\xd8") else "PNG"
    records.replace(5, image[: len(image) // 2] + bytes(len(image) - len(image) // 2), label)
    reader = records.reader(max_bad_records=1)
    view = ViewReader(reader, SIZE, antialias=False, threads=1)
    block = view.read(
        np.array([4, 5, -1]),
        np.empty((3, 0), np.float32),
        lambda _, extents: window.evaluation(extents, 1.0),
    )
    assert block.weights.tolist() == [1, 0, 0]
    assert not block.images[1:].any()
    assert f"the image cannot be decoded: {'Premature' if kind == 'JPEG' else ''}" in str(
        reader.bad_records[5]
    )


def test_odd_files_are_decoded_as_tensorflow_decodes_them_or_refused(tmp_path):
    """What samestep-records write keeps of them; what it refuses, others' records may hold."""
    how = Conversion("keep", None, 95, 10**8)
    kept, refused = {}, {}
    with quiet_pillow():
        for name, content in ODD.items():
            try:
                kept[name] = convert(content, how).content
            except Exception:
                refused[name] = content
    manifest = write(tmp_path / "kept", list(kept.values()))
    full = window.evaluation
    reader = ViewReader(RecordReader(manifest), SIZE, antialias=False, threads=1)
    n = manifest.records
    block = reader.read(np.arange(n), np.empty((n, 0)), lambda _, extents: full(extents, 1.0))
    assert block.weights.all(), reader.bad_records
    for name, content, found in zip(kept, kept.values(), block.images, strict=True):
        if content.startswith(b"\x89PNG"):
            decoded = tf.io.decode_png(content, channels=3).numpy()
        else:
            decoded = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        own = full(np.array([decoded.shape[:2]], np.int32), 1.0)[0]
        expected = reference.view(decoded, own, SIZE, False).astype(int)
        # Where a JPEG's part is decoded, the two cut it with another version of libjpeg-turbo.
        assert np.abs(found - expected).max() <= (0 if content[:1] == b"\x89" else 8), name
    wrong = write(tmp_path / "refused", list(refused.values()))
    reader = ViewReader(RecordReader(wrong, 10**6), SIZE, antialias=False, threads=2)
    n = wrong.records
    block = reader.read(np.arange(n), np.empty((n, 0)), lambda _, extents: full(extents, 1.0))
    assert 50 < len(reader.bad_records) <= len(refused)


def test_a_shard_that_shrinks_is_a_bad_record_and_no_signal(records):
    reader = records.reader(max_bad_records=1000)
    view = ViewReader(reader, SIZE, antialias=False, threads=2)
    indices = np.arange(reader.records)

    def read():
        return view.read(
            indices, np.empty((len(indices), 0)), lambda _, extents: window.evaluation(extents, 1.0)
        )

    assert read().weights.all()
    for shard in records.manifest.shards:
        os.truncate(records.manifest.folder / shard.file, 100)
    assert not read().weights[1:].all()
    assert reader.bad_records


def test_others_records_of_grey_pixels(tmp_path):
    schema = Schema(raw_dtype="uint8", raw_shape=(9, 11, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 11), np.uint8)
    manifest = write(tmp_path / "a", [each.tobytes() for each in pixels], schema)
    found, windows = views(manifest)
    grey = np.repeat(pixels[..., None], 3, axis=3)
    expected = [reference.view(p, w, SIZE, False) for p, w in zip(grey, windows, strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_pixels_of_32_bits_are_left_to_tensorflow(tmp_path):
    schema = Schema(raw_dtype="float32", raw_shape=(2, 2, 3))
    manifest = write(tmp_path / "a", [np.zeros(12, np.float32).tobytes()] * 3, schema)
    assert not fits(RecordReader(manifest))
