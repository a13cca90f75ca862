"""Whatever happens to the bytes of records: an error that names it, or the same images."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from input.errors import InputError
from input.manifest import Manifest
from input.prepare.config import WriteConfig
from input.prepare.writer import write
from input.reader import RecordReader
from input.records import ENCODED, RAW, RecordError, Schema, encode, frame, parse, unframe

CORRUPTIONS = 2_000


@pytest.fixture(scope="module")
def manifest(data_dir, tmp_path_factory):
    """The training images in one shard of its own."""
    images = data_dir.parent / "images" / "train"
    out = tmp_path_factory.mktemp("fuzz")
    return write(WriteConfig(images=str(images), out=str(out), shards=1, split="train:1"))["train"]


def bits(content, at, chance):
    for _ in range(chance.randint(1, 8)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def zeros(content, at, chance):
    length = chance.randint(1, 400)
    content[at : at + length] = bytes(len(content[at : at + length]))


def cut(content, at, chance):
    del content[at:]


def taken_out(content, at, chance):
    del content[at : at + chance.randint(1, 400)]


def put_in(content, at, chance):
    content[at:at] = chance.randbytes(chance.randint(1, 400))


def swapped(content, at, chance):
    length = chance.randint(1, 400)
    other = chance.randrange(len(content))
    a, b = content[at : at + length], content[other : other + length]
    content[at : at + len(b)], content[other : other + len(a)] = b, a


WAYS = (bits, zeros, cut, taken_out, put_in, swapped)


def test_two_thousand_corruptions_of_a_shard(manifest):
    """Each record is what it was, or is named and has weight 0; no other record is touched."""
    path = manifest.folder / manifest.shards[0].file
    whole = path.read_bytes()
    indices = np.arange(manifest.records)
    expected = RecordReader(manifest).read(indices)
    found_bad = 0
    for seed in range(CORRUPTIONS):
        chance = random.Random(seed)
        content = bytearray(whole)
        way = WAYS[seed % len(WAYS)]
        way(content, chance.randrange(len(content)), chance)
        path.write_bytes(content)
        reader = RecordReader(manifest, max_bad_records=manifest.records)
        found = reader.read(indices)
        bad = sorted(reader.bad_records)
        assert np.flatnonzero(found.weights == 0).tolist() == bad
        good = found.weights > 0
        assert found.images[good].tolist() == expected.images[good].tolist(), way
        assert (found.labels[good] == expected.labels[good]).all()
        if bytes(content) != whole:
            same_length = len(content) == len(whole)
            assert bad or (not same_length and content[: len(whole)] == whole)
            found_bad += bool(bad)
            if not same_length:
                with pytest.raises(InputError, match="the manifest says"):
                    Manifest.load(manifest.folder)
    path.write_bytes(whole)
    assert found_bad > 0.9 * CORRUPTIONS


SCHEMAS = st.sampled_from(
    [ENCODED, RAW, Schema(raw_dtype="float32", raw_shape=(2, 2, 1)), Schema(label_key="x")]
)
PAYLOAD = encode(b"\xff\xd8\xff" + bytes(range(40)), 3)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), SCHEMAS)
def test_any_payload_is_a_record_or_a_record_error(payload, schema):
    try:
        found = parse(payload, schema)
    except RecordError:
        return
    assert isinstance(found.image, bytes)
    assert isinstance(found.label, int)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_change_of_a_framed_record_is_seen(data):
    framed = bytearray(frame(PAYLOAD))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(framed) - 1))
        framed[at] = data.draw(st.integers(0, 255))
    try:
        assert unframe(bytes(framed)) == PAYLOAD
        assert framed == frame(PAYLOAD)
    except RecordError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_manifest_is_read_or_refused(manifest, tmp_path_factory, data):
    """A value anywhere in manifest.json replaced by any other."""
    path = manifest.folder / "manifest.json"
    whole = path.read_text()
    content = json.loads(whole)
    place = data.draw(st.sampled_from([*sorted(content), "shards.0"]))
    if place == "shards.0":
        content["shards"][0][data.draw(st.sampled_from(sorted(content["shards"][0])))] = data.draw(
            JSON
        )
    elif place == "schema":
        content["schema"][data.draw(st.sampled_from(sorted(content["schema"])))] = data.draw(JSON)
    else:
        content[place] = data.draw(JSON)
    path.write_text(json.dumps(content))
    try:
        loaded = Manifest.load(manifest.folder)
        RecordReader(loaded, max_bad_records=loaded.records).read(np.arange(loaded.records))
    except InputError:
        pass
    finally:
        path.write_text(whole)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_index_is_read_or_refused(manifest, data):
    path = manifest.folder / manifest.shards[0].index_file
    whole = path.read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    try:
        loaded = Manifest.load(manifest.folder)
        expected = RecordReader(loaded, max_bad_records=loaded.records).read(
            np.arange(loaded.records)
        )
        if bytes(content) != whole:  # spaces and leading zeros change nothing
            assert expected.weights.all()
    except InputError:
        pass
    finally:
        path.write_bytes(whole)
