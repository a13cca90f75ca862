"""docs/troubleshooting.md quotes messages that the code has, and commands bring them about."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from tests.scripts.test_documents import Place, furnish, pattern
from tests.test_layout import MODULES

PAGE = ROOT / "docs" / "troubleshooting.md"
TRAIN = "samestep-train --data_dir=data --run_dir=runs/new"
LATE = f"{TRAIN} --global_batch_size=64 --epochs=1"

# A part of a message as the page quotes it -> a command that ends with it.
PROVOKED = {
    "is not a flag: flags are written ..": f"{TRAIN} resnet18",
    "--.. must be .., not ..": f"{TRAIN} --epochs=0",
    "--data_dir is missing": "samestep-train --run_dir=runs/new",
    ".. has no split .., only ..": f"rm -rf part && mkdir part && cp -r data/train part && {TRAIN}"
    " --data_dir=part",
    ".. holds images, not records. ..": "samestep-records show images/7 ||"
    f" {TRAIN} --data_dir=images",
    "--.. is not on a file system": f"{TRAIN} --data_dir=gs://bucket/data",
    ".. images a step do not divide into micro-batches of ..": f"{TRAIN} --micro_batch_size=33",
    "A step of .. images is not filled by ..": f"{TRAIN} --global_batch_size=1000",
    ".. do not split evenly over .., but over ..": f"{LATE} --virtual_cpus=3",
    "--gpus=.., but TensorFlow sees .. here": f"CUDA_VISIBLE_DEVICES= {LATE} --gpus=2",
    "There is no model ..": f"{LATE} --model=resnet19",
    ".. cannot be built for images of ..": f"{LATE} --model=keras:InceptionV3",
    "Images in .. are not in a class folder: ..": "samestep-records write --images=images/7"
    " --out=new",
    ".. has no class folders: one folder of images per class": "mkdir -p empty &&"
    " samestep-records write --images=empty --out=new",
    ".. has the class .. only; a classifier needs 2": "mkdir -p one && cp -r images/7 one &&"
    " samestep-records write --images=one --out=new",
    ".. exists. Remove it or choose another --out": "samestep-records write --images=images"
    " --out=data",
    ".. holds no TFRecords": "samestep-records index images",
    "Bad images: ..": "cp -r images torn && truncate --size=50 torn/7/*0.png &&"
    " samestep-records write --images=torn --out=new",
    ".. bytes, the manifest says ..": f"cp -r data cut && truncate --size=-9 cut/train/*.tfrecord"
    f" && {TRAIN} --data_dir=cut",
    ".. holds another run: ..": f"{LATE} && {LATE} --seed=1",
    "A .. schedule ends with its epochs": f"{LATE} --epochs=9",
}


def quoted() -> Iterator[str]:
    """The messages in the tables' first columns."""
    for cell in re.findall(r"^\| (.*?) \|", PAGE.read_text(), re.MULTILINE):
        yield from (text for text in re.findall(r"`([^`]+)`", cell) if " " in text)


def texts() -> Iterator[str]:
    """Every text in the code, with a NUL byte for what is put into it."""
    for module in MODULES:
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_code_has_the_messages_that_the_page_quotes():
    known = list(texts())

    def is_known(message: str) -> bool:
        parts = [re.escape(part.strip()) for part in message.split("..")]
        found = re.compile(".*".join(parts), re.DOTALL)
        return any(found.search(text) for text in known)

    assert len(list(quoted())) > 40
    assert [message for message in quoted() if not is_known(message)] == []
    assert not is_known("images per step cannot be divided")


def test_what_is_provoked_is_on_the_page():
    assert [part for part in PROVOKED if not any(part in each for each in quoted())] == []


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    made = Place(tmp_path_factory.mktemp("troubles"), [])
    furnish(made, "")
    return made


@pytest.mark.docs
@pytest.mark.parametrize("message", PROVOKED)
def test_a_command_ends_with_the_message(message, place):
    output = place.run(PROVOKED[message], code=2)
    assert re.search(pattern(message), output, re.DOTALL), output
    assert "Traceback" not in output
