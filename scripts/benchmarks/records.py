"""Records for benchmarks."""

from itertools import islice
from pathlib import Path

import numpy as np

from input.manifest import Manifest, Shard, save, save_index
from input.prepare.conversion import Conversion, convert
from input.records import ENCODED, RAW, encode, frame

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
        framed = [record(content, i % CLASSES) for i, content in own]
        (folder / file).write_bytes(b"".join(framed))
        lengths = [len(record) for record in framed]
        shards.append(Shard(file, len(framed), sum(lengths), sha256="not needed here"))
        save_index(folder, shards[-1], lengths)
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
