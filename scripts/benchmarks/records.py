"""Records for benchmarks."""

from itertools import islice
from pathlib import Path

import numpy as np

from input.manifest import Manifest, save
from input.prepare.conversion import Conversion, convert
from input.records import ENCODED, RAW, encode, frame
from input.shard import Summary

SHARDS = 4
CLASSES = 10


def write_records(folder: Path, contents: list[bytes], how: Conversion | None = None) -> Manifest:
    """Records of these images, with labels in turn; stored as they are, or converted."""
    folder.mkdir(exist_ok=True)
    raw, shards = how is not None and how.encoding == "raw", []

    def record(content: bytes, label: int) -> bytes:
        if how is None:
            return frame(encode(content, label))
        stored, (width, height), _ = convert(content, how)
        return frame(encode(stored, label, (height, width) if raw else None))

    for number in range(SHARDS):
        file = f"train-{number:05d}.tfrecord"
        own = islice(enumerate(contents), number, None, SHARDS)
        summary = Summary()
        with (folder / file).open("wb") as shard:
            for i, content in own:
                framed = record(content, i % CLASSES)
                shard.write(framed)
                summary.add(framed)
        shards.append(summary.save(folder, file))
    labels = np.arange(len(contents)) % CLASSES
    per_class = tuple(np.bincount(labels, minlength=CLASSES).tolist())
    classes = tuple(str(i) for i in range(CLASSES))
    schema = RAW if raw else ENCODED
    manifest = Manifest(
        folder=folder,
        classes=classes,
        records_per_class=per_class,
        shards=tuple(shards),
        image_size=None,
        schema=schema,
    )
    save(manifest)
    return manifest
