"""TFRecords that others wrote -> manifests and indexes; the files are not moved or changed."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from input.errors import InputError
from input.foundation import durable
from input.foundation.text import one_line
from input.manifest import Manifest, save
from input.prepare.config import IndexConfig
from input.prepare.scan import Scanned, class_names, find_shards, scan
from input.prepare.sources import listed
from input.records import Schema
from input.splits import MANIFEST_FILE

log = logging.getLogger(__name__)


def index(
    config: IndexConfig, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Manifest]:
    """Reads every record and writes OUT/<split>/manifest.json and an index per shard.

    Images are not decoded (samestep-records verify does). `progress(done, total)` counts bytes.
    Raises InputError, which names the first record that is wrong.
    """
    folder, out = Path(config.dir), Path(config.out or config.dir)
    try:
        return _index(config, folder, out, progress)
    except OSError as error:
        raise InputError(f"Indexing {folder} in {out} failed: {error}.") from error


def _index(
    config: IndexConfig, folder: Path, out: Path, progress: Callable[[int, int], None]
) -> dict[str, Manifest]:
    splits = find_shards(folder, config.splits)
    # train last: without its manifest nothing can be trained on.
    in_order = sorted(splits, key="train".__eq__)
    indexed = [out / split for split in in_order if (out / split / MANIFEST_FILE).exists()]
    if out / in_order[-1] in indexed:  # else it was interrupted, and is done anew
        return _bind(indexed, progress)
    schema = Schema(
        config.image_key, config.label_key, config.label_offset, config.raw_dtype, config.shape()
    )
    scanned = scan(splits, schema, progress, config.max_bad_records)
    classes = _class_names(config, folder, scanned)
    _warn(scanned, classes)
    manifests = {split: _save(out / split, classes, schema, scanned[split]) for split in in_order}
    return {split: manifests[split] for split in splits}


def _bind(folders: list[Path], progress: Callable[[int, int], None]) -> dict[str, Manifest]:
    """Adds checksums to splits of samestep 0.1, which had none; their fingerprints stay."""
    unbound = [each for each in map(Manifest.load, folders) if not each.has_checksums]
    if not unbound:
        raise InputError(f"{folders[0] / MANIFEST_FILE} exists. Remove it to index anew.")
    bound = {}
    for manifest in unbound:
        folder = manifest.folder
        paths = [folder / shard.file for shard in manifest.shards]
        scanned = scan({folder.name: paths}, manifest.schema, progress, manifest.records)[
            folder.name
        ]
        for shard, each in zip(manifest.shards, scanned, strict=True):
            if each.summary.shard(shard.file).sha256 != shard.sha256:
                raise InputError(
                    f"{each.path} is not what was indexed: its SHA-256 is another. Copy it again "
                    f"from where it is whole, or remove {folder / MANIFEST_FILE} to index it as it "
                    "is."
                )
        shards = tuple(
            each.summary.save(folder, shard.file)
            for shard, each in zip(manifest.shards, scanned, strict=True)
        )
        bound[folder.name] = replace(manifest, shards=shards)
        save(bound[folder.name])
    return bound


def _class_names(
    config: IndexConfig, folder: Path, scanned: dict[str, list[Scanned]]
) -> tuple[str, ...]:
    every = [shard for shards in scanned.values() for shard in shards]
    needed = 1 + max(max(shard.labels, default=-1) for shard in every)
    if not needed:
        raise InputError(f"Every record in {folder} is bad.")
    names = class_names(folder, [shard.path for shard in every], config.classes)
    if names is None:
        return tuple(str(label) for label in range(needed))
    if len(names) < needed:
        where = next(shard.path for shard in every if max(shard.labels, default=-1) >= len(names))
        raise InputError(
            f"There are {len(names)} class names, but in {where} a label {needed - 1}. "
            "Labels count from 0; --label_offset moves them, --classes=FILE has other names."
        )
    return names


def _warn(scanned: dict[str, list[Scanned]], classes: tuple[str, ...]) -> None:
    """Says what of the records will surprise, before anything is written."""
    bad = sum(len(shard.bad) for shards in scanned.values() for shard in shards)
    if bad:
        log.warning("%d bad records are indexed: training needs --max_bad_records=%d", bad, bad)
    used = {
        split: {label for each in own for label in each.labels} for split, own in scanned.items()
    }
    every = set().union(*used.values())
    if len(every) < len(classes):
        log.warning(
            "%d classes, and labels of %d of them: %s. samestep-records write leaves no gaps",
            *(len(classes), len(every), listed([str(label) for label in sorted(every)])),
        )
    for split, own in used.items():
        if missing := sorted(every - own):
            names = one_line(listed([classes[label] for label in missing]))
            log.warning("No record of %s is in %s", names, split)


def _save(
    folder: Path, classes: tuple[str, ...], schema: Schema, scanned: list[Scanned]
) -> Manifest:
    durable.make(folder)
    shards = []
    for each in scanned:
        # Both without links: from where the manifest really lies to where the shard really lies.
        file = os.path.relpath(each.path.resolve(), folder.resolve())
        shards.append(each.summary.save(folder, file))
    labels = sum((each.labels for each in scanned), Counter())
    shape = schema.raw_shape
    manifest = Manifest(
        folder=folder,
        classes=classes,
        records_per_class=tuple(labels[label] for label in range(len(classes))),
        shards=tuple(shards),
        image_size=shape[0] if shape and shape[0] == shape[1] else None,
        schema=schema,
    )
    save(manifest)
    return manifest
