"""What is wrong with records is found and named; what is sound is said to be."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from input.errors import InputError
from input.manifest import Manifest, load_index
from input.prepare.config import VerifyConfig, WriteConfig
from input.prepare.verify import Findings, verify
from input.prepare.writer import write
from input.reader import RecordReader
from input.records import encode, frame
from tests.conftest import ROOT, rewrite, vouch


@pytest.fixture
def data(tmp_path):
    """16 images to train and 4 to validate, all different."""
    random = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (6, 7, 3), np.uint8)).save(path)
    out = tmp_path / "data"
    write(WriteConfig(images=f"{tmp_path}/images", out=str(out), split="train:.8,validation:.2"))
    return out


def found(data) -> dict[str, list[str]]:
    return verify(VerifyConfig(str(data))).problems


def replace(data, split: str, number: int, image: bytes, label: int = 0) -> None:
    """Another record of the same length, with sound checksums."""
    manifest = Manifest.load(data / split)
    index = load_index(manifest)
    record = frame(encode(image, label))
    assert len(record) == index.lengths[number]
    with (data / split / manifest.shards[0].file).open("r+b") as file:
        file.seek(index.offsets[number])
        file.write(record)
    vouch(data / split, number)


def image_of(data, split: str, number: int) -> bytes:
    return RecordReader(Manifest.load(data / split)).read(np.array([number])).images[0]


def test_sound_records(data):
    calls = []
    findings = verify(VerifyConfig(str(data)), lambda *at: calls.append(at))
    assert findings.problems == {}
    assert findings.summary() == "records: train 16, validation 4; nothing wrong"
    assert calls == [(i, 20) for i in range(1, 21)]
    assert verify(VerifyConfig(str(data / "train"))).splits == {"train": 16}


def test_a_flipped_bit_is_found_twice(data):
    path = data / "train" / "train-00000.tfrecord"
    content = bytearray(path.read_bytes())
    content[200] ^= 4
    path.write_bytes(content)
    problems = found(data)
    assert set(problems) == {"shards", "bad records"}
    assert "checksum does not match" in problems["bad records"][0]


def test_images_that_are_there_twice_within_and_across_splits(data):
    images = data.parent / "images"
    (images / "b" / "copy.png").write_bytes((images / "a" / "0.png").read_bytes())
    (images / "a" / "copy2.png").write_bytes((images / "a" / "0.png").read_bytes())
    out = data.parent / "twice"
    write(WriteConfig(images=str(images), out=str(out), split="train:.5,validation:.5"))
    twice = found(out)["duplicate images"]
    assert len(twice) == 2
    assert all(": as " in line for line in twice)


def test_an_image_that_does_not_decode(data):
    image = bytearray(image_of(data, "train", 3))
    image[60:70] = bytes(10)
    replace(data, "train", 3, bytes(image))
    problems = found(data)
    assert [line[:16] for line in problems["bad images"]] == ["train, record 3 "]


def test_a_label_out_of_range(data):
    replace(data, "validation", 1, image_of(data, "validation", 1), label=2)
    problems = found(data)
    assert "label 2 is not one of the 2 classes" in problems["bad records"][0]


def test_splits_that_cannot_be_read_do_not_hide_the_others(data):
    (data / "validation" / "manifest.json").write_text("{")
    assert set(found(data)) == {"splits that cannot be read"}
    assert verify(VerifyConfig(str(data))).splits == {"train": 16}


def test_classes_that_differ(data):
    rewrite(data / "validation" / "manifest.json", classes=["a", "c"])
    assert found(data) == {"classes that differ": ["between train and validation"]}


def test_images_above_the_limit(data):
    problems = verify(VerifyConfig(str(data), max_pixels=41)).problems
    assert len(problems["bad records"]) == 20
    assert "the image's 42 pixels are more than --max_pixels=41" in problems["bad records"][0]


def test_no_records_at_all(tmp_path):
    with pytest.raises(InputError, match="holds no records"):
        verify(VerifyConfig(str(tmp_path)))


def test_long_lists_are_cut_and_counted():
    findings = Findings()
    for i in range(25):
        findings.add("bad", str(i))
    assert list(findings.lines())[:2] == ["bad: 25", "  0"]
    assert list(findings.lines())[-1] == "  and 5 more"
    assert len(list(findings.lines())) == 22


def test_the_command_exits_with_1_when_anything_is_wrong(data):
    def run():
        argv = [sys.executable, "-m", "scripts.records", "verify", str(data)]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)

    assert (run().returncode, run().stdout) == (
        0,
        "records: train 16, validation 4; nothing wrong\n",
    )
    path = data / "train" / "train-00000.tfrecord"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = run()
    assert done.returncode == 1
    assert "wrong: 2" in done.stdout


def test_a_finding_names_the_file_that_the_record_was_made_from(data):
    manifest = Manifest.load(data / "train")
    damaged = manifest.folder / manifest.shards[0].file
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    (line,) = found(data)["bad records"]
    assert f"made from {manifest.source(0)}: " in line
    assert manifest.source(0).endswith(".png")


def test_records_whose_files_are_not_known_have_numbers_only(data):
    for path in data.rglob("*.sources"):
        path.write_bytes(b"too few lines")
    manifest = Manifest.load(data / "train")
    assert manifest.source(0) == ""
    with pytest.raises(IndexError):
        manifest.source(manifest.records)
