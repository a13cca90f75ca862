"""CSV and JSONL files: the same records as from class folders, and one line for mistakes."""

import json

import numpy as np
import pytest
from PIL import Image

from input.prepare.config import WriteConfig
from input.prepare.writer import write
from tests.conftest import encoded
from tests.input.prepare.conftest import refused, values, written


def png(value: int) -> bytes:
    return encoded(Image.fromarray(np.full((4, 5, 3), value, np.uint8)), "PNG")


@pytest.fixture
def images(tmp_path):
    """30 images in one folder: image i is all of value i, and its class is i modulo 3."""
    (tmp_path / "images").mkdir()
    for i in range(30):
        (tmp_path / "images" / f"{i}.png").write_bytes(png(i))
    return tmp_path


def rows(names=("ant", "bee", "cow")) -> list[tuple[str, str]]:
    return [(f"images/{i}.png", names[i % 3]) for i in range(30)]


def csv(lines, header="path,label") -> str:
    return "\n".join([header, *(",".join(line) for line in lines), ""])


def jsonl(lines) -> str:
    return "".join(json.dumps({"path": p, "label": label}) + "\n" for p, label in lines)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "csv with a mark, spaces and other columns"])
def test_every_image_of_a_table_is_written_with_its_label(images, kind):
    path = images / f"table.{kind[:5].split()[0]}"
    text = jsonl(rows()) if kind == "jsonl" else csv(rows())
    if "mark" in kind:
        lines = [(label, "x", f" {path} ") for path, label in rows()]
        text = "\ufeff" + csv(lines, "Label,note,Path")
    path.write_text(text, encoding="utf-8")
    manifests = written(path)
    assert manifests["train"].classes == ("ant", "bee", "cow")
    found = values(manifests["train"]) | values(manifests["validation"])
    assert found == {i: i % 3 for i in range(30)}
    assert len(values(manifests["validation"])) == 3


def test_the_order_is_that_of_the_same_images_in_any_table(images):
    """The lines' order does not count."""
    for name, lines in (("a", rows()), ("b", rows()[::-1])):
        (images / f"{name}.csv").write_text(csv(lines))
        written = WriteConfig(images=f"{images}/{name}.csv", out=f"{images}/{name}")
        write(written)
    shards = [(images / name / "train" / "train-00000.tfrecord").read_bytes() for name in "ab"]
    assert shards[0] == shards[1]


def test_whole_numbers_are_classes_in_their_order(images):
    (images / "t.csv").write_text(csv(rows(names=("10", "9", "2"))))
    manifests = written(images / "t.csv", split="train:1")
    assert manifests["train"].classes == ("2", "9", "10")
    assert values(manifests["train"]) == {i: (2, 1, 0)[i % 3] for i in range(30)}


def test_a_table_may_say_the_split(images):
    lines = [(*row, "train" if i < 20 else "val") for i, row in enumerate(rows())]
    (images / "t.csv").write_text(csv(lines, "path,label,split"))
    assert "Leave --split out" in refused(images / "t.csv", split="train:1")
    manifests = written(images / "t.csv")
    assert sorted(values(manifests["validation"])) == list(range(20, 30))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the columns must be path,label or path,label,split, not nothing"),
        ("a.png,cat\n", "line 1: the columns must be"),
        ("path,label\n", "lists no images"),
        ("path,label\nimages/1.png\n", "line 2: 1 cells for 2 columns"),
        ("path,label\nimages/1.png,\n", "line 2: the label is empty"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ("path,label\nx,a\ny,b\nx,b\n", "lines 2 and 4: both list x"),
        ("path,label,split\nx,a,train\ny,b,\n", "line 3: a split is missing"),
        ("path,label,split\nx,a,trein\n", "line 2: split 'trein' is none of train, validation"),
        ("path,label,split\nx,a,val\n", "has the splits validation, but no train"),
        ("path,label\nx,a\ny,a\n", "has the class a only"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_its_line(images, text, words):
    (images / "t.csv").write_text(text)
    assert words in refused(images / "t.csv")


@pytest.mark.parametrize("line", ["{", "[]", '{"path": "x"}', '{"path": 1, "label": 2}', "3"])
def test_a_mistake_in_jsonl_is_named_with_its_line(images, line):
    (images / "t.jsonl").write_text(jsonl(rows()) + line + "\n")
    assert "t.jsonl, line 31: not {" in refused(images / "t.jsonl")


def test_files_that_are_not_there(images):
    assert "t.csv cannot be read: No such file" in refused(images / "t.csv")
    (images / "t.csv").write_bytes(b"path,label\n\xff\xfe,x")
    assert "t.csv is not UTF-8 text" in refused(images / "t.csv")
    (images / "t.csv").write_text(csv([*rows(), ("images/none.png", "ant")]))
    message = refused(images / "t.csv")
    assert "Bad images: 1" in message
    assert f"{images}/images/none.png: no such file: line 32 of t.csv" in message
    manifests = written(images / "t.csv", max_bad_images=1)
    assert sum(manifest.records for manifest in manifests.values()) == 30


def test_a_class_may_be_missing_from_a_split(images, caplog):
    lines = [(*row, "train" if i % 3 == 2 or i < 20 else "Test") for i, row in enumerate(rows())]
    (images / "t.csv").write_text(csv(lines, "path,label,split"))
    manifests = written(images / "t.csv")
    assert manifests["test"].records_per_class == (3, 3, 0)
    assert manifests["train"].classes == manifests["test"].classes == ("ant", "bee", "cow")
    assert "No image of cow is in test" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('path,label\nx.png,"cat\ny.png,dog\nz.png,dog\n', "a quote missing before it"),
        ("path,label\nx\0.png,cat\n", "line 2: a NUL byte"),
        (
            ",".join(["label", *(f"pixel{i}" for i in range(784))]) + "\n",
            "not label,pixel0,pixel1,pixel2,.. (785 columns). Pixels come from IDX",
        ),
        ("path,label\n./a.jpg,x\na.jpg,y\n", "lines 2 and 3: both list a.jpg"),
        ("path,label\nb/../a.jpg,x\na.jpg,y\n", "lines 2 and 3: both list a.jpg"),
    ],
)
def test_odd_tables_are_one_short_line(images, text, words):
    (images / "t.csv").write_text(text)
    message = refused(images / "t.csv")
    assert words in message
    assert len(message) < 400


@pytest.mark.parametrize("label", ["false", "null", "1.5", '["a"]'])
def test_a_label_of_jsonl_is_a_text_or_a_whole_number(images, label):
    (images / "t.jsonl").write_text(jsonl(rows()) + f'{{"path": "x", "label": {label}}}\n')
    assert "line 31: not" in refused(images / "t.jsonl")


def test_paths_of_windows_and_outside(images):
    (images / "t.csv").write_text(csv([*rows(), ("images\\0.png", "ant")]))
    message = refused(images / "t.csv")
    assert "no such file: line 32 of t.csv; paths are written with /" in message
    (images / "below").mkdir()
    lines = [(f"../{path}", label) for path, label in rows()]
    (images / "below" / "t.csv").write_text(csv(lines))
    assert values(written(images / "below" / "t.csv", split="train:1")["train"])
