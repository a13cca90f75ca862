"""5,000 damaged files: whatever the bytes of a JSON file, it loads as it was, or is one line."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from input.foundation import typed_json
from input.foundation.errors import UserError
from input.manifest import Manifest
from tests import saves
from trainer import run_dir
from trainer.state import State

MUTATIONS = 5_000
TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"-1", b"0", b"9" * 30, b"9" * 5_000),
    *(b'""', b'"\\ud800"', b'"\\u0000"', b"{}", b"[]", b"[" * 2_000, b'{"a":' * 2_000, b"\xff"),
    *(b'"../../x"', b'"' + b"x" * 10_000 + b'"', b"1.5", b",", b":", b"}", b"]", b"\\", b"\0"),
)


def mutate(content: bytes, random: random.Random) -> bytes:
    """One to three changes: a byte, a part removed, doubled or moved, a value replaced."""
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(content) + 1)
        end = min(len(content), start + random.choice((1, 2, 8, 64)))
        part = content[start:end]
        new = random.choice(
            (
                bytes([random.randrange(256)]),
                b"",
                part + part,
                part[::-1],
                random.choice(TOKENS),
                random.choice(TOKENS),
            )
        )
        if new in TOKENS:  # in place of a whole value: up to the next comma, bracket or brace
            start = content.rfind(b": ", 0, start) + 2
            ends = [place for mark in b",]}\n" if (place := content.find(mark, start)) >= 0]
            end = min(ends, default=len(content))
        content = content[:start] + new + content[end:]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_dir) -> Path:
    """A split, a run and a checkpoint."""
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(data_dir / "train", folder / "train")
    run_dir.save(folder, saves.DEFINITION)
    state = State(
        3, run_dir.identity(saves.DEFINITION), "f" * 64, {"weights.index": "0" * 64}, saves.RESULT
    )
    (folder / "state.json").write_text(typed_json.dump(state))
    return folder


def load_state(folder: Path) -> State:
    return typed_json.load(State, folder / "state.json")


CASES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "manifest": ("train/manifest.json", lambda folder: Manifest.load(folder / "train")),
    "config": ("config.json", run_dir.find),
    "state": ("state.json", load_state),
}


@pytest.mark.parametrize("name", CASES)
def test_any_damage_is_one_line_or_changes_nothing(folder, name):
    file, load = CASES[name]
    path, sound = folder / file, load(folder)
    whole, seed = path.read_bytes(), random.Random(name)
    outcomes: Counter[str] = Counter()
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(whole, seed))
        try:
            found = load(folder)
        except UserError as error:
            message = str(error)
            assert str(path.parent) in message and message.isprintable()
            assert len(message) < 5_000  # the path of a shard may have 4,095 characters
            outcomes["refused"] += 1
        else:
            assert type(found) is type(sound)
            assert vars(found) == vars(sound)  # what changed is a space, or an escape
            outcomes["loaded"] += 1
    path.write_bytes(whole)
    assert outcomes["refused"] > MUTATIONS / 2
    assert load(folder) == sound
