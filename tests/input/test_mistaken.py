"""What is taken for records is said to be what it is, with the command that helps."""

import shlex
import shutil

import pytest

from input.mistaken import explain
from tests.conftest import encoded, picture


@pytest.fixture
def images(tmp_path):
    """Class folders, with splits above them: a space in the name."""
    folder = tmp_path / "my images"
    for split in ("train", "validation"):
        for name in ("cat", "dog"):
            path = folder / split / name / "1.JPG"
            path.parent.mkdir(parents=True)
            path.write_bytes(encoded(picture(), "JPEG"))
    return folder


@pytest.mark.parametrize("inside", [".", "train", "train/cat"])
def test_images_are_to_be_written_beside_themselves(images, inside):
    folder = images / inside
    said = explain(folder, "data_dir")
    fact, _, command = said.partition("samestep-records write ")
    assert fact == f"--data_dir={folder} holds images, not records. Make records of it: "
    given, out = shlex.split(command)
    assert given == f"--images={folder}"
    assert out == f"--out={folder.with_name(folder.name + '-records')}"


def test_one_split_leads_to_all_of_them(data_dir):
    assert explain(data_dir / "train", "data_dir") == (
        f"--data_dir={data_dir}/train is one split. Give the folder that holds the splits: "
        f"--data_dir={data_dir}"
    )


def test_tfrecords_of_others_are_to_be_indexed(data_dir, tmp_path):
    shutil.copy(data_dir / "train" / "train-00000.tfrecord", tmp_path / "train-00000-of-00001")
    said = explain(tmp_path, "dir")
    assert said == (
        f"--dir={tmp_path} holds TFRecords that are not indexed. Do that, where they lie: "
        f"samestep-records index {tmp_path}"
    )


def test_what_is_not_there_is_said(tmp_path):
    none = tmp_path / "data"
    assert explain(none, "data_dir").startswith(f"--data_dir={none} is not there. Give the folder ")
    (tmp_path / "data.incomplete").mkdir()
    assert "only" in explain(none, "data_dir") and "has not ended" in explain(none, "data_dir")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert explain(empty, "dir").startswith(f"--dir={empty} holds no records: no manifest.json in")


def test_one_file_of_records_leads_to_its_folder(data_dir):
    said = explain(data_dir / "train" / "train-00000.tfrecord", "dir")
    assert said.endswith("is one file. Give the folder that holds the splits, as in --dir=data")


def test_a_checkpoint_is_no_record(tmp_path):
    (tmp_path / "weights.data-00000-of-00001").touch()
    assert "holds no records" in explain(tmp_path, "data_dir")


def test_an_archive_is_a_file_to_write_from(tmp_path):
    archive = tmp_path / "pets.tar.gz"
    archive.touch()
    assert explain(archive, "data_dir") == (
        f"--data_dir={archive} is not a folder. Make records of it: samestep-records write "
        f"--images={archive} --out={tmp_path}/pets-records"
    )
