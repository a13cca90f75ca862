"""samestep-records: its commands' help, its errors, and what a write prints."""

import pytest
from PIL import Image

from input.prepare.config import WriteConfig
from scripts import records
from tests.scripts.conftest import probed, python


def test_help_of_records_lists_its_commands():
    asked = probed("samestep-records", "-h")
    assert asked.returncode == 0
    assert "Usage: samestep-records COMMAND" in asked.stdout
    assert "\n  write  " in asked.stdout
    description = asked.stdout.split("\n  write  ")[1].splitlines()[0].strip()
    of_write = python("-m", "scripts.records", "write", "-h").stdout
    assert of_write.startswith(f"{description}\n\nUsage: python -m scripts.records write ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "A command is missing; commands: write, index, verify, show."),
        (
            ["wirte"],
            "'wirte' is not a command; commands: write, index, verify, show. Did you mean write?",
        ),
        (
            ["--images=x", "write"],
            "'--images=x' is not a command; commands: write, index, verify, show.",
        ),
        (["write", "--imagse=x"], "There is no flag --imagse. Did you mean --images"),
        (["write"], "--images is missing"),
    ],
)
def test_a_wrong_command_line_of_records_is_one_line(arguments, said):
    refused = python("-m", "scripts.records", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {said}")
    assert refused.stderr.count("\n") == 1


def test_a_first_argument_stands_for_its_flag(tmp_path):
    refused = python("-m", "scripts.records", "verify", str(tmp_path))
    assert refused.stderr.startswith(f"error: --dir={tmp_path} holds no records")
    same = python("-m", "scripts.records", "verify", f"--dir={tmp_path}")
    assert (same.returncode, same.stderr) == (refused.returncode, refused.stderr)
    asked = python("-m", "scripts.records", "verify", "--help")
    assert "verify DIR [--name=value ...]" in asked.stdout
    missing = python("-m", "scripts.records", "write", str(tmp_path))
    assert missing.stderr.startswith("error: --out is missing")


def test_write_reports_its_tenths_its_splits_and_the_next_command(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (8, 8), (number, 0, 0))
            image.save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "images/dog/9.png").write_bytes(b"no image")
    written = python(
        *("-m", "scripts.records", "write", f"--images={tmp_path}/images"),
        *(f"--out={tmp_path}/my data", "--split=train:0.8,validation:0.2", "--max_bad_images=1"),
    )
    assert written.returncode == 0, written.stderr
    shares = [line for line in written.stderr.splitlines() if "%" in line]
    assert shares == [f"{2 * n} of 20 images ({10 * n} %)" for n in range(1, 11)]
    _, train, validation, total, _, following = written.stdout.splitlines()
    assert [row.split()[:2] for row in (train, validation)] == [["train", "2"], ["validation", "2"]]
    assert int(train.split()[2]) + int(validation.split()[2]) == 19
    assert total.startswith("19 records in ")
    assert total.endswith(", 1 image left out")
    data, runs = f"'{tmp_path}/my data'", "'runs/my data'"
    assert following == f"Next: samestep-train --data_dir={data} --run_dir={runs}"


def test_names_that_would_drive_a_terminal_are_shown_escaped(tmp_path):
    """Classes and files with escape sequences and line ends, in each command's output."""
    for label in ("c\x1b[2Jat", "do\ng\u202e"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (tmp_path / "images" / "c\x1b[2Jat" / "b\x1b]0;title\x07\nad.png").write_bytes(b"")
    write = ("write", f"--images={tmp_path}/images", f"--out={tmp_path}/data")
    refused = python("-m", "scripts.records", *write)
    place = rf"{tmp_path}/images/c\x1b[2Jat/b\x1b]0;title\x07\nad.png: empty"
    assert f"  {place}\n" in refused.stderr
    written = python("-m", "scripts.records", *write, "--max_bad_images=1")
    assert f"Left out {place}\n" in written.stderr
    html = tmp_path / "page.html"
    shown = python("-m", "scripts.records", "show", f"{tmp_path}/data", f"--html={html}")
    assert "9  c\\x1b[2Jat\n" in shown.stdout and "9  do\\ng\\u202e\n" in shown.stdout
    page = html.read_text()
    assert "c\\x1b[2Jat" in page and "do\\ng\\u202e" in page
    for text in (refused.stderr, written.stderr, shown.stdout, page):
        assert not set(text) & {"\x1b", "\x07", "\u202e"}


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("train:0.5,test:0.5", "a part of train (--validation_share=0.1) or test (--validation_s"),
        ("train:1", "a part of train (--validation_share=0.1)."),
        ("test:1", "There is no split train: samestep-evaluate --split=test takes it."),
    ],
)
def test_splits_that_training_needs_and_are_not_there_are_said(tmp_path, capsys, split, said):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(4):
            image = Image.new("RGB", (8, 8), (number, 0, 0))
            image.save(tmp_path / "images" / label / f"{number}.png")
    config = WriteConfig(images=f"{tmp_path}/images", out=f"{tmp_path}/data", split=split)
    records.write(config)
    shown = capsys.readouterr().out
    assert said in shown
    assert ("--validation_share=0.1\n" in shown) == ("train" in split)
