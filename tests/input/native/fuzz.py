"""Mutated records through the native decoder: the program that test_sanitizers.py runs.

python -m tests.input.native.fuzz LIBRARY IMAGES COUNT SEED: prints what became of them, in JSON.
Images are the files of a folder. No TensorFlow, which does not load under AddressSanitizer.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from input.manifest import Manifest, save
from input.native import library
from input.native.reader import ViewReader
from input.randomness import uniform
from input.reader import RecordReader
from input.records import ENCODED, RAW, encode, frame
from input.shard import Summary
from input.views import window
from input.views.window import UNIFORMS

BATCH = 2048  # records of a shard
SIZE = 16
MAX_PIXELS = 2**20  # a header that says more is refused by its number


def mutated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, zeroed, removed, put in, or taken from another one."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(6)
        if kind <= 1 and at < len(found):
            found[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del found[at : at + rng.choice((1, 2, 8, 1000))]
        elif kind == 4:
            found[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
        else:
            start = rng.randrange(len(other) + 1)
            piece = other[start : start + 64]
            found[at : at + len(piece)] = piece
    return bytes(found)


def records(images: list[bytes], raw: bool, count: int, rng: random.Random) -> list[bytes]:
    found = []
    for number in range(count):
        image, other = rng.choice(images), rng.choice(images)
        if raw:
            height, width = rng.randrange(1, 20), rng.randrange(1, 20)
            example = encode(rng.randbytes(3 * height * width), number % 3, (height, width))
        else:
            if rng.random() < 0.8:
                image = mutated(image, other, rng)
            example = encode(image, number % 3)
        if rng.random() < (0.9 if raw else 0.2):
            example = mutated(example, other, rng)
        record = frame(example)  # its checksums are sound: what is inside is looked at
        found.append(mutated(record, other, rng) if rng.random() < 0.02 else record)
    return [record if len(record) >= 16 else frame(b"") for record in found]


def shard(folder: Path, content: list[bytes], raw: bool) -> Manifest:
    summary = Summary()
    for record in content:
        summary.add(record)
    (folder / "x.tfrecord").write_bytes(b"".join(content))
    manifest = Manifest(
        folder=folder,
        classes=("a", "b", "c"),
        records_per_class=(len(content), 0, 0),
        shards=(summary.save(folder, "x.tfrecord"),),
        image_size=None,
        schema=RAW if raw else ENCODED,
    )
    save(manifest)
    return manifest


def main(path: str, images: list[bytes], count: int, seed: int) -> None:
    functions = library.declared(Path(path))
    library.load = lambda: functions
    rng, outcomes = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        for number in range(-(-count // BATCH)):
            folder = Path(name, str(number % 2))
            folder.mkdir(exist_ok=True)
            raw = number % 4 == 3
            manifest = shard(folder, records(images, raw, BATCH, rng), raw)
            reader = RecordReader(manifest, 10**9, MAX_PIXELS)
            view = ViewReader(
                reader, SIZE, antialias=bool(number % 2), threads=2, simd=number % 3 > 0
            )
            indices = np.arange(BATCH)
            block = view.read(
                indices,
                uniform(seed, number, indices, UNIFORMS),
                lambda uniforms, extents: window.training(uniforms, extents, 0.08, True),
            )
            sound = int(block.weights.sum())
            outcomes["decoded"] += sound
            outcomes["refused"] += len(reader.bad_records)
            assert sound + len(reader.bad_records) == BATCH
            reader.close()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    files = sorted(Path(sys.argv[2]).iterdir())
    main(sys.argv[1], [f.read_bytes() for f in files], int(sys.argv[3]), int(sys.argv[4]))
