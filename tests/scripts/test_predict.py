"""samestep-predict as a user types it: a table, CSV, exit codes, and what it refuses at once."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from input.config import InputConfig
from models.config import ModelConfig
from scripts.predict import PredictConfig
from tests.conftest import CLASSES, encoded, error, picture
from tests.scripts.conftest import python
from trainer import loop
from trainer.config import Config, Hardware, RunConfig
from trainer.recipe import OptimizerConfig


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = Config(
        InputConfig(data_dir=str(data_dir), global_batch_size=32, micro_batch_size=8),
        ModelConfig(),
        OptimizerConfig(),
        RunConfig(run_dir=str(folder), epochs=1, intra_op_threads=2),
    )
    loop.fit(settings, Hardware())
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}, again.png").write_bytes(encoded(picture(number), "PNG"))
    (folder / "damaged.jpg").write_text("hello")
    return folder


def predict(*arguments: str):
    return python("-m", "scripts.predict", *arguments, columns=100)


def test_a_table_names_each_file_and_the_unreadable_ones(run, images):
    done = predict(f"--run_dir={run}", str(images), "--top=2", str(images / "missing.png"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.partition(".png")[0] for line in lines] == [
        str(images / f"{number}, again") for number in range(3)
    ]
    for line in lines:
        first, likelier, second, likely = line.partition(".png")[2].split()
        assert first != second and {first, second} <= set(CLASSES)
        assert 1 >= float(likelier) >= float(likely) >= 0
    assert f"error: {images / 'damaged.jpg'}: none of JPEG, PNG" in done.stderr
    assert f"error: {images / 'missing.png'}: neither a file" in done.stderr


def test_csv_has_every_digit(run, images, tmp_path):
    (images / "damaged.jpg").unlink()
    done = predict(str(images), "--csv", "-", "--run_dir", str(run))
    assert done.returncode == 0, done.stderr
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header == ["file", *(f"{w}_{n}" for n in (1, 2, 3) for w in ("class", "probability"))]
    assert [row[0] for row in rows] == sorted(map(str, images.iterdir()))
    for row in rows:
        assert sorted(row[1::2]) == list(CLASSES)
        shares = np.array(row[2::2], np.float32)
        assert [str(share) for share in shares] == row[2::2]
        assert shares.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"files": ("a.png",)}, "Give one of --run_dir=RUN and --export=MODEL"),
        ({"files": ("a.png",), "run_dir": "a", "export": "b"}, "Give one of --run_dir=RUN and"),
        ({"run_dir": "a"}, "Files are missing"),
        ({"files": ("a.png",), "run_dir": "a", "csv": "/nowhere/a.csv"}, "no folder /nowhere"),
        ({"files": ("a.png",), "run_dir": "a", "top": 0}, "--top must be at least 1"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings, said):
    assert said in error(PredictConfig, **settings)


def test_a_folder_without_images_is_refused_before_tensorflow_is_loaded(tmp_path):
    done = predict("--run_dir=anywhere", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"error: There is no image in {tmp_path}.\n"
