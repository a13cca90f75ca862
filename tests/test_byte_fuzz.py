"""100,000 changes of the bytes of every file that is read back: refused by name, or without effect.

make test-attack. Library functions in one process; no change may pass silently, end in another
error than ours, or hang.
"""

import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from input.foundation.errors import UserError
from input.manifest import Manifest
from input.prepare.config import WriteConfig
from input.prepare.writer import write
from input.reader import RecordReader
from tests import saves
from tests.conftest import encoded, picture
from tests.test_attack import note  # noqa: F401 - a fixture
from tests.test_json_fuzz import mutate
from trainer import monitor, run_dir
from trainer.checkpoint import Checkpoints

pytestmark = pytest.mark.attack

LINES = b"".join(b'{"step": %d, "train/loss": %d.5}\n' % (step, step) for step in range(1, 30))


def change(content: bytes, chance: random.Random) -> bytes:
    """As a JSON file's mutations, or what disks and networks do: bits, zeros, cuts, swaps."""
    kind = chance.randrange(4)
    if kind == 0:
        return mutate(content, chance)
    at = chance.randrange(len(content))
    length = chance.choice((1, 1, 1, 4, 64, 512))
    if kind == 1:
        part = bytes(byte ^ (1 << chance.randrange(8)) for byte in content[at : at + length])
    elif kind == 2:
        part = bytes(len(content[at : at + length]))
    else:
        other = chance.randrange(len(content))
        part = content[other : other + len(content[at : at + length])]
    return content[:at] + part + content[at + len(part) :]


class Target(NamedTuple):
    """A file, how often it is changed, and what is read of it."""

    file: str
    changes: int
    read: Callable[[Path], object]


def images_of(folder: Path) -> object:
    """What training would be given: every record that is not refused by name."""
    reader = RecordReader(Manifest.load(folder / "data/train", verify_files=False), 10**6)
    block = reader.read(np.arange(reader.records))
    good = {int(n): (block.images[n], int(block.labels[n])) for n in np.flatnonzero(block.weights)}
    if reader.bad_records:
        raise PartlyError(good, next(iter(reader.bad_records.values())))
    return good


class PartlyError(UserError):
    """Some records were refused; the others must be what they were."""

    def __init__(self, good: dict, error: UserError):
        super().__init__(str(error))
        self.good = good


def load(folder: Path) -> object:
    return Manifest.load(folder / "data/train")


@cache
def checkpoints_of(run: Path) -> Checkpoints:
    """As an evaluation reads them: damaged ones stay where they are."""
    model, _ = saves.checkpoints(run)
    return Checkpoints(run, run_dir.identity(saves.DEFINITION), model)


def weights(folder: Path) -> object:
    said: list[str] = []
    state = checkpoints_of(folder / "run").restore(say=said.append)
    if said:
        raise UserError(said[0])
    return state


def metrics(folder: Path) -> object:
    """Every line that was not changed is there afterwards: none is dropped behind a bad one."""
    path = folder / "run/metrics.jsonl"
    before = path.read_bytes()
    monitor._rewind(path, step=10**9)
    after = path.read_bytes()
    lost = set(before.split(b"\n")[:-1]) - set(after.split(b"\n"))
    kept = [line for line in lost if (monitor._step_of(line) or 0) < 10**9]
    assert not kept, kept
    return None


TARGETS = {
    "shard, JPEG and PNG": Target("data/train/train-00000.tfrecord", 25_000, images_of),
    "index": Target("data/train/train-00000.tfrecord.idx", 10_000, load),
    "checksums": Target("data/train/train-00000.tfrecord.crc32c", 10_000, load),
    "manifest.json": Target("data/train/manifest.json", 15_000, load),
    "config.json": Target("run/config.json", 15_000, lambda folder: run_dir.find(folder / "run")),
    "metrics.jsonl": Target("run/metrics.jsonl", 10_000, metrics),
    "state.json": Target("run/checkpoints/step-00000002/state.json", 5_000, weights),
    "weights.index": Target("run/checkpoints/step-00000002/weights.index", 5_000, weights),
    "weights.data": Target(
        "run/checkpoints/step-00000002/weights.data-00000-of-00001", 5_000, weights
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A split, and a run with two checkpoints."""
    folder = tmp_path_factory.mktemp("fuzz")
    for i in range(12):
        kind = ("JPEG", "PNG")[i % 2]
        path = folder / "images" / "ab"[i % 2] / f"{i}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed=i, height=9, width=9), kind))
    write(WriteConfig(images=str(folder / "images"), out=str(folder / "data"), split="train:1"))
    run = folder / "run"
    run.mkdir()
    run_dir.save(run, saves.DEFINITION)
    model, checkpoints = saves.checkpoints(run)
    checkpoints._keep = 2
    checkpoints.save(1)
    model.layers[0].kernel.assign_add([[1.0]])
    checkpoints.save(2)
    (run / "metrics.jsonl").write_bytes(LINES)
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_no_change_is_silent(folder, name, note):  # noqa: F811 - the fixture
    target, chance = TARGETS[name], random.Random(name)
    path = folder / target.file
    whole, sound = path.read_bytes(), target.read(folder)
    outcomes: Counter[str] = Counter()
    for _ in range(target.changes):
        path.write_bytes(changed := change(whole, chance))
        try:
            found = target.read(folder)
        except PartlyError as error:
            assert "\n" not in str(error)
            assert error.good.items() <= sound.items()
            outcomes["records refused by name, the others as they were"] += 1
        except UserError as error:
            assert "\n" not in str(error)
            outcomes["refused by name"] += 1
        else:
            assert found == sound, changed
            outcomes["without effect"] += 1
    path.write_bytes(whole)
    assert target.read(folder) == sound
    left = ", ".join(f"{times:,} {what}" for what, times in sorted(outcomes.items()))
    note(f"changed bytes: {name}", f"{target.changes:,}", left)
