"""The records of a run: the folder of each split, and the part of it that is read."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from input import mistaken
from input.arrays import ArrayReader
from input.config import InputConfig
from input.errors import InputError
from input.foundation import durable
from input.manifest import Manifest
from input.part import Part
from input.reader import Reader, RecordReader
from input.splits import MANIFEST_FILE, SPLITS, TEST, TRAIN, VALIDATION
from trainer.config import Config
from trainer.errors import TrainerError

BALANCED = "balanced"  # of --class_weights
MOST_WEIGHTS = 2**26  # bytes of their file
CLASSES_SHOWN = 6

# What a split is: records in files, or arrays in memory, which read themselves.
Split = Manifest | ArrayReader


def manifests(config: Config, splits: Iterable[str]) -> dict[str, Manifest]:
    """Split -> what its folder holds. Raises InputError."""
    data_dir = config.input.data_dir
    if not data_dir:
        raise InputError(
            "--data_dir is missing: the folder that samestep-records write --out=DIR has made."
        )
    verify = config.input.max_bad_records == 0
    return {split: Manifest.load(_folder(config.input, split), verify) for split in splits}


def _folder(inputs: InputConfig, split: str) -> Path:
    """Where a split's records lie. Raises InputError where they do not, but others' do."""
    data_dir, folder = Path(inputs.data_dir), split
    if split == VALIDATION:
        folder = TRAIN if inputs.validation_share else inputs.validation_split
    there = [each for each in SPLITS if (data_dir / each).is_dir()]
    if not any(os.path.lexists(data_dir / each / MANIFEST_FILE) for each in there):
        raise InputError(mistaken.explain(data_dir, "data_dir"))
    if folder not in there:
        way_out = ""
        if split == VALIDATION and TRAIN in there:
            other = f"--validation_split={TEST} evaluates on {TEST}, " if TEST in there else ""
            way_out = f" {other}--validation_share=0.1 on a tenth of train that is held back."
        raise InputError(f"{data_dir} has no split {folder}, only {' and '.join(there)}.{way_out}")
    return data_dir / folder


def reader(config: Config, split: str, manifest: Split) -> Reader:
    """Reads those records of a manifest that belong to a split. Raises InputError."""
    return manifest if isinstance(manifest, ArrayReader) else records(config, split, manifest)


def records(config: Config, split: str, manifest: Manifest) -> RecordReader:
    """As `reader`, of records in files."""
    inputs = config.input
    own = _part(inputs, config.run.seed, split)
    return RecordReader(manifest, inputs.max_bad_records, inputs.max_pixels, own)


def _part(inputs: InputConfig, seed: int, split: str) -> Part | None:
    """Which part of a split's records is its own; None: all of them."""
    if not inputs.validation_share or split not in (TRAIN, VALIDATION):
        return None
    return Part(inputs.validation_share, seed, held_back=split == VALIDATION)


def fingerprints(manifests: Mapping[str, Split]) -> dict[str, str]:
    return {split: manifest.fingerprint for split, manifest in manifests.items()}


def class_weights(asked: str, manifest: Split) -> tuple[float, ...]:
    """What --class_weights asks for, in the order of the classes; () for none. Raises TrainerError.

    balanced: N / (classes n), with n of N records in a class, so that every class has the same part
    in the loss; a class without any has 1.
    """
    if not asked:
        return ()
    if asked == BALANCED:
        fair = manifest.records / len(manifest.classes)
        return tuple(fair / count if count else 1.0 for count in manifest.records_per_class)
    try:
        given = json.loads(durable.read(Path(asked), MOST_WEIGHTS))
    except OSError as error:
        raise TrainerError(f"--class_weights={asked} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise TrainerError(f"--class_weights={asked} is no JSON: {error}.") from None
    if not isinstance(given, dict) or not all(_is_weight(each) for each in given.values()):
        raise TrainerError(
            f'--class_weights={asked} must hold {{"class": weight, ..}} with finite weights of 0 '
            f"or more, or be the word {BALANCED}."
        )
    if unknown := sorted(given.keys() - set(manifest.classes)):
        raise TrainerError(
            f"--class_weights={asked} names {unknown[0]!r}, which is no class of the records: "
            f"{', '.join(manifest.classes[:CLASSES_SHOWN])}.."
        )
    weights = tuple(float(given.get(name, 1.0)) for name in manifest.classes)
    if not any(weights):
        raise TrainerError(f"--class_weights={asked} are all 0: nothing would be learned.")
    return weights


def _is_weight(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < math.inf


def image_dtype(manifest: Split) -> str:
    if isinstance(manifest, ArrayReader):
        return str(manifest.image_dtype)
    return manifest.schema.raw_dtype or "uint8"
