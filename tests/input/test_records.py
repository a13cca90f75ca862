"""A record is what TensorFlow writes, and damage is always a RecordError."""

import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from input.records import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RAW,
    RecordError,
    Schema,
    encode,
    frame,
    image_format,
    parse,
    pixel_count,
    unframe,
)
from tests.conftest import ROOT, encoded, picture

fuzz = settings(deadline=None)  # the cores may be shared
INT64 = st.integers(-(2**63), 2**63 - 1)


def example(**features):
    lists = {bytes: tf.train.BytesList, float: tf.train.FloatList, int: tf.train.Int64List}
    kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                key: tf.train.Feature(**{kinds[kind]: lists[kind](value=values)})
                for key, (kind, values) in features.items()
            }
        )
    )


def test_records_manifest_and_writer_load_without_tensorflow():
    code = "import sys, input.records, input.manifest, input.prepare.writer; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    assert "input.prepare.writer" in loaded
    assert "tensorflow" not in loaded


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 300])
def test_frame_is_what_tensorflow_writes(tmp_path, payload):
    with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
        writer.write(payload)
    assert frame(payload) == (tmp_path / "one").read_bytes()
    assert len(frame(payload)) == HEADER_BYTES + len(payload) + FOOTER_BYTES


@fuzz
@given(st.binary(max_size=300))
def test_unframe_undoes_frame(payload):
    assert unframe(frame(payload)) == payload
    assert unframe(memoryview(frame(payload)), len(frame(payload))) == payload


@fuzz
@given(st.binary(max_size=40), st.data())
def test_one_changed_bit_is_a_record_error(payload, data):
    framed = bytearray(frame(payload))
    bit = data.draw(st.integers(0, 8 * len(framed) - 1))
    framed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordError, match="checksum does not match"):
        unframe(bytes(framed))


@fuzz
@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_no_record(buffer):
    with pytest.raises(RecordError):
        unframe(buffer)


def test_unframe_says_what_is_wrong():
    framed = frame(b"x" * 884)  # 900 bytes

    def reason(buffer, length=None):
        with pytest.raises(RecordError) as caught:
            unframe(buffer, length)
        return str(caught.value)

    damaged = bytearray(framed)
    damaged[9] ^= 1
    assert reason(bytes(damaged)) == "the length's checksum does not match"
    damaged = bytearray(framed)
    damaged[500] ^= 1
    assert reason(bytes(damaged)) == "the payload's checksum does not match"
    assert reason(framed + b"x") == "length says 900 bytes, the index says 901"
    assert reason(framed[:-1]) == "length says 900 bytes, the index says 899"
    assert reason(framed[:100], 900) == "short read: 100 of 900 bytes"
    assert reason(b"", 900) == "short read: 0 of 900 bytes"
    assert reason(b"") == "0 bytes are too few for a record"
    assert reason(framed[:15]) == "15 bytes are too few for a record"


@fuzz
@given(image=st.binary(), label=INT64)
def test_encode_is_bit_for_bit_what_tensorflow_encodes(image, label):
    ours = {"image/encoded": (bytes, [image]), "image/class/label": (int, [label])}
    assert encode(image, label) == example(**ours).SerializeToString(deterministic=True)
    assert parse(encode(image, label))[:2] == (image, label)


@fuzz
@given(
    image=st.binary(),
    label=INT64,
    others=st.dictionaries(
        st.text(max_size=20).filter(lambda key: not key.startswith("image/")),
        st.one_of(
            st.tuples(st.just(bytes), st.lists(st.binary(max_size=20), max_size=3)),
            st.tuples(st.just(float), st.lists(st.floats(width=32), max_size=3)),
            st.tuples(st.just(int), st.lists(INT64, max_size=3)),
        ),
        max_size=4,
    ),
)
def test_parse_reads_what_tensorflow_encodes(image, label, others):
    ours = {"image/encoded": (bytes, [image]), "image/class/label": (int, [label])}
    for features in ({**ours, **others}, {**others, **dict(reversed(ours.items()))}):
        assert parse(example(**features).SerializeToString())[:2] == (image, label)


def field(number, content):
    """A protobuf field of bytes, shorter than 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def entry(key, feature):
    return field(1, field(1, key) + field(2, feature))


IMAGE = entry(b"image/encoded", field(1, field(1, b"pixels")))
LABEL = entry(b"image/class/label", field(3, field(1, b"\x05")))


@pytest.mark.parametrize(
    "features",
    [
        IMAGE + LABEL,
        LABEL + IMAGE,
        IMAGE + entry(b"image/class/label", field(3, b"\x08\x05")),  # int64 that is not packed
        IMAGE + entry(b"image/class/label", field(3, b"\x0a\x02\x85\x00")),  # a longer varint
        entry(b"image/encoded", field(1, field(1, b"old"))) + LABEL + IMAGE,  # the last one counts
        entry(b"image/encoded", field(2, b"") + field(1, field(1, b"pixels"))) + LABEL,
        IMAGE + field(9, b"unknown") + LABEL,
        field(1, field(2, field(1, field(1, b"pixels"))) + field(1, b"image/encoded")) + LABEL,
    ],
)
def test_parse_reads_every_wire_encoding(features):
    payload = field(1, features)
    expected = tf.train.Example.FromString(payload).features.feature
    assert parse(payload)[:2] == (b"pixels", 5)
    assert list(expected["image/encoded"].bytes_list.value) == [b"pixels"]
    assert list(expected["image/class/label"].int64_list.value) == [5]


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (LABEL, "the Example has no image/encoded, only image/class/label (int64_list, 1)"),
        (
            IMAGE,
            "the Example has no image/class/label, only image/encoded (bytes_list, 1 of 6 bytes)",
        ),
        (entry(b"image/encoded", b"") + LABEL, "image/encoded is empty, not bytes_list"),
        (entry(b"image/encoded", field(1, b"")) + LABEL, "image/encoded has 0 values, not 1"),
        (
            IMAGE + entry(b"image/class/label", field(3, field(1, b"\x05\x06"))),
            "image/class/label has 2 values, not 1",
        ),
        (
            IMAGE + entry(b"image/class/label", field(1, field(1, b"5"))),
            "image/class/label is bytes_list, not int64_list",
        ),
        (field(1, b"x")[:-1], "the payload is not a tf.train.Example"),
        (entry(b"\xff", b"") + IMAGE + LABEL, "the payload is not a tf.train.Example"),  # not UTF-8
    ],
)
def test_parse_says_what_is_wrong(features, reason):
    with pytest.raises(RecordError) as caught:
        parse(field(1, features))
    assert str(caught.value) == reason


VALID = field(1, entry(b"more", field(2, field(1, struct.pack("<f", 1.5)))) + IMAGE + LABEL)
changes = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4)


@fuzz
@given(st.one_of(st.binary(), st.integers(0, len(VALID) - 1).map(lambda end: VALID[:end])))
def test_parse_of_anything_else_is_a_record_error(payload):
    with pytest.raises(RecordError):
        parse(payload)


@fuzz
@given(changes)
def test_parse_of_a_damaged_example_is_what_tensorflow_reads_or_a_record_error(changes):
    payload = bytearray(VALID)
    for place, value in changes:
        payload[place] = value
    try:
        image, label, _, _ = parse(bytes(payload))
    except RecordError:
        return
    feature = tf.train.Example.FromString(bytes(payload)).features.feature
    assert list(feature["image/encoded"].bytes_list.value) == [image]
    assert list(feature["image/class/label"].int64_list.value) == [label]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_raw_pixels_of_any_kind(dtype, channels):
    schema = Schema(raw_dtype=dtype, raw_shape=(2, 5, channels))
    pixels = np.arange(10 * channels, dtype=dtype)
    found = parse(encode(pixels.tobytes(), 3), schema)
    assert (found.label, found.height, found.width) == (3, 2, 5)
    assert found.image == pixels.tobytes()
    assert parse(encode(b"abcdef", 3, (1, 2)), RAW)[1:] == (3, 1, 2)


def test_image_format():
    assert image_format(b"\xff\xd8\xff\xe0rest") == "jpeg"
    assert image_format(b"\x89PNG\r\n\x1a\nrest") == "png"
    for other in (b"", b"\xff\xd8", b"\x89PNG\n", b"GIF89a", b"<html>", b"RIFF....WEBP"):
        assert image_format(other) is None


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


JPEG = encoded(picture(), "JPEG")  # 61 x 40
# What may stand between the start of a JPEG and its frame; libjpeg passes over all of it.
BETWEEN = {
    "nothing": b"",
    "thumbnail": segment(0xE1, b"Exif" + encoded(picture(height=7), "JPEG")),
    "fill bytes": b"\xff" * 5,
    "garbage": b"abc",
    "an escaped ff": b"\xff\x00",
    "a restart marker": b"\xff\xd3",
    "a comment that looks like a frame": segment(0xFE, JPEG[JPEG.index(b"\xff\xc0") :][:19]),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("progressive", [True, False])
def test_pixel_count_is_of_the_frame_that_is_decoded(between, progressive):
    content = encoded(picture(), "JPEG", progressive=progressive)
    content = content[:20] + between + content[20:]  # behind the first segment
    assert tf.io.extract_jpeg_shape(content).numpy().tolist() == [40, 61, 3]
    assert pixel_count(content) == 40 * 61


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pixel_count_of_png(mode):
    image = picture(height=7, width=300)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    assert pixel_count(encoded(image, "PNG")) == 7 * 300


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8", b"BM" + bytes(99)])
def test_pixel_count_of_neither(content):
    assert pixel_count(content) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_pixel_count_of_damage_is_what_the_decoder_sees(data):
    """Whatever happens to a header: never fewer pixels than TensorFlow would decode."""
    content = bytearray(JPEG)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(2, 200))] = data.draw(st.integers(0, 255))
    try:
        height, width, _ = tf.io.extract_jpeg_shape(bytes(content)).numpy().tolist()
    except tf.errors.InvalidArgumentError:
        return
    assert pixel_count(bytes(content)) in (height * width, None)
