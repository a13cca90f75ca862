"""TFRecords whose Examples samestep-records index cannot use as they lie -> the images to write.

Labels that are text, one-hot or floats; pixels as numbers, as a serialized tensor, or as bytes with
height and width beside them; images in any format that a file may have.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from input.errors import InputError
from input.foundation import durable
from input.prepare.config import WriteConfig
from input.prepare.conversion import has_known_start
from input.prepare.scan import class_names, find_shards, is_shard, records
from input.prepare.sources import UNDIVIDED, Classes, Listing, Source, by_number, listed, listing
from input.records import RecordError, declare, unframe, values
from input.splits import all_named

Values = list[bytes] | list[int] | list[float]

# What the features are usually called, in the order in which they are looked for.
IMAGES = ("image/encoded", "image", "image_raw", "image/raw", "jpg", "jpeg", "png", "pixels", "x")
LABELS = ("image/class/label", "label", "labels", "class", "target", "cls", "y")
HEIGHTS, WIDTHS, DEPTHS = (
    ("image/height", "height", "rows"),
    ("image/width", "width", "cols"),
    ("image/channels", "depth", "channels"),
)

# tensorflow/core/framework/{tensor,tensor_shape}.proto: what tf.io.serialize_tensor writes.
_TENSOR_PROTO = """
name: "samestep/tensor.proto"  package: "tensorflow"  syntax: "proto3"
message_type { name: "Dim"
  field { name: "size" number: 1 label: LABEL_OPTIONAL type: TYPE_INT64 } }
message_type { name: "Shape"
  field { name: "dim" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".tensorflow.Dim" } }
message_type { name: "Tensor"
  field { name: "dtype" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "tensor_shape" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".tensorflow.Shape" }
  field { name: "tensor_content" number: 4 label: LABEL_OPTIONAL type: TYPE_BYTES } }
"""
_Tensor = declare(_TENSOR_PROTO, "tensorflow.Tensor")
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 9: "<i8"}  # types.proto


class _Record(NamedTuple):
    """Where a record lies."""

    shard: Path
    offset: int
    length: int


def holds_examples(folder: Path) -> bool:
    """Whether there are TFRecords in a folder, or one folder deeper."""
    return any(is_shard(path) for pattern in ("*", "*/*.tfrec*") for path in folder.glob(pattern))


def list_examples(config: WriteConfig) -> Listing:
    """The images of a folder of TFRecords. Raises InputError.

    They are read twice, for their labels now. Where no name of a file says a split, there is none.
    """
    folder = Path(config.images)
    shards = _shards(config, folder)
    paths = [path for own in shards.values() for path in own]
    places: dict[str, _Record] = {}
    labels: dict[str, str | int] = {}  # by the same name, which is that of a Source
    of_split: dict[str, list[str]] = {split: [] for split in shards}
    for split, own in shards.items():
        for path in own:
            for number, (offset, record) in enumerate(records(path)):
                name = f"{path.relative_to(folder)}:{number}"
                try:
                    labels[name] = _label(values(unframe(record)), config.label_key)
                except RecordError as error:
                    raise InputError(f"{path}, record {number}: {error}.") from None
                places[name] = _Record(path, offset, len(record))
                of_split[split].append(name)
    names = _names(config, folder, paths, set(labels.values()))
    order = by_number(set(names.values()))
    found: dict[str, Classes] = {split: {name: [] for name in order} for split in shards}
    number_of = {name: number for number, name in enumerate(order)}
    for split, members in of_split.items():
        for member in members:
            called = names[labels[member]]
            source = Source(member, number_of[called], places[member].length)
            found[split][called].append(source)

    def read(source: Source) -> bytes | np.ndarray:
        place = places[source.name]
        file = durable.OpenFile(durable.open_regular(place.shard))
        content = values(unframe(file.read(place.length, place.offset), place.length))
        return _image(content, config)

    return listing(config, found, read)


def _shards(config: WriteConfig, folder: Path) -> dict[str, list[Path]]:
    paths = [path for path in sorted(folder.rglob("*")) if is_shard(path)]
    if any(all_named(path.name) or all_named(path.parent.name) for path in paths):
        return find_shards(folder, config.splits)
    return {UNDIVIDED: paths}


def _names(
    config: WriteConfig, folder: Path, paths: list[Path], labels: set[str | int]
) -> dict[str | int, str]:
    """Label -> name of its class."""
    numbers = {label for label in labels if isinstance(label, int)}
    if numbers and len(numbers) < len(labels):
        raise InputError(f"Some labels in {folder} are numbers, and others text.")
    if min(numbers, default=0) < 0:
        raise InputError(
            f"{folder} has the label {min(numbers)}: images without one, as in many test splits? "
            "--splits=train,validation leaves a split out."
        )
    names = class_names(folder, paths, "") if numbers else None
    if names is None:
        return {label: str(label) for label in labels}
    if max(numbers) >= len(names):
        raise InputError(
            f"There are {len(names)} class names in {folder}, and a label {max(numbers)}."
        )
    return {label: names[label] for label in numbers}


def _label(example: dict[str, Values], key: str) -> str | int:
    """One number or text; of several numbers, the place of the 1 among zeros."""
    found = example[_key(example, key, LABELS, "--label_key")]
    if len(found) > 1:
        ones = [place for place, each in enumerate(found) if each == 1]
        if len(ones) != 1 or any(each not in (0, 1) for each in found):
            raise RecordError(f"the label has {len(found)} values that are not one-hot")
        return ones[0]
    if not found:
        raise RecordError("the label is empty")
    (label,) = found
    if isinstance(label, bytes):
        text = label.decode("utf-8", "replace").strip()
        if not text:
            raise RecordError("the label is empty")
        return text
    if not math.isfinite(label) or label != int(label):
        raise RecordError(f"label {label} is no whole number")
    return int(label)


def _image(example: dict[str, Values], config: WriteConfig) -> bytes | np.ndarray:
    """A file's bytes, or pixels uint8[h, w, 1 or 3]. Raises ValueError."""
    found = example[_key(example, config.image_key, IMAGES, "--image_key")]
    if len(found) == 1 and isinstance(found[0], bytes):
        if has_known_start(found[0]):
            return found[0]
        tensor = _tensor(found[0])
        if tensor is not None:
            return _pixels(tensor, tensor.shape)
        content = np.frombuffer(found[0], np.uint8)
    else:
        content = np.array(found)
    shape = config.shape() or _shape(example, content.size)
    if content.dtype == np.uint8 and content.size == 4 * math.prod(shape):
        content = content.view("<f4")
    return _pixels(content, shape)


def _tensor(content: bytes) -> np.ndarray | None:
    """What tf.io.serialize_tensor has made of pixels; None where it is something else."""
    try:
        found = _Tensor.FromString(content)
    except DecodeError:
        return None
    shape = [dim.size for dim in found.tensor_shape.dim]
    dtype = np.dtype(_DTYPES.get(found.dtype, "V1"))
    if len(shape) not in (2, 3) or len(found.tensor_content) != math.prod(shape) * dtype.itemsize:
        return None
    return np.frombuffer(found.tensor_content, dtype).reshape(shape)


def _shape(example: dict[str, Values], size: int) -> tuple[int, int, int]:
    """Height, width and channels as the Example says them."""
    keys = [next((key for key in names if key in example), None) for names in (HEIGHTS, WIDTHS)]
    if None in keys:
        raise ValueError(
            f"{size} pixels or bytes, and no height and width beside them: --raw_shape says them"
        )
    height, width = (int(example[str(key)][0]) for key in keys)
    depth = next((int(example[key][0]) for key in DEPTHS if key in example), 0)
    return height, width, depth or max(1, size // max(1, height * width))


def _pixels(content: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers from 0 to 255 -> uint8[h, w, 1 or 3]. Raises ValueError."""
    shape = (*shape, 1) if len(shape) == 2 else shape
    if shape[-1] not in (1, 3) or content.size != math.prod(shape) or not content.size:
        raise ValueError(f"{content.size} pixels are not height, width and channels {shape}")
    pixels = content.reshape(shape)
    whole = np.clip(np.nan_to_num(pixels), 0, 255).astype(np.uint8)
    if (whole != pixels).any():
        raise ValueError("its pixels are no whole numbers from 0 to 255")
    return whole


def _key(example: dict[str, Values], given: str, usual: tuple[str, ...], flag: str) -> str:
    if given:
        if given in example:
            return given
        raise RecordError(f"the Example has no {given}, only {listed(list(example))}")
    for key in usual:
        if key in example:
            return key
    raise RecordError(f"{flag} is one of {listed(list(example)) or 'nothing'}; say which")
