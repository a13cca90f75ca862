"""The format of one record: a tf.train.Example with an image and its label, in TFRecord framing.

No TensorFlow: importing it takes seconds, and neither writing nor reading a record needs it. The
messages are tf.train.Example's own, declared to the protobuf library that TensorFlow brings.
"""

import re
import struct
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError


@dataclass(frozen=True)
class Schema:
    """How the records of a split hold an image and its label."""

    image_key: str = "image/encoded"
    label_key: str = "image/class/label"
    label_offset: int = 0  # added to the label that is stored
    raw_dtype: Literal["uint8", "float32"] | None = None  # None: JPEG or PNG bytes
    # Of every raw image: height, width, channels (1 or 3). None: each record has HEIGHT_KEY and
    # WIDTH_KEY, and 3 channels.
    raw_shape: tuple[int, int, int] | None = None

    @property
    def channels(self) -> int:
        """Of raw pixels."""
        return 3 if self.raw_shape is None else self.raw_shape[2]

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one raw pixel."""
        return self.channels * (4 if self.raw_dtype == "float32" else 1)


ENCODED = Schema()
RAW = Schema(image_key="image/raw", raw_dtype="uint8")
MOST_KEYS = 20  # of an Example that an error lists
HEIGHT_KEY, WIDTH_KEY = "image/height", "image/width"

# tensorflow/core/lib/io/record_writer.h:
#   uint64 length | uint32 masked crc of length | byte data[length] | uint32 masked crc of data
HEADER_BYTES = 12
FOOTER_BYTES = 4

# A JPEG marker that parameters follow, and their length (ITU T.81, B.1.1.3).
_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])(..)", re.DOTALL)
_START_OF_FRAME = frozenset(bytes([0xC0 + n]) for n in range(16) if n not in (4, 8, 12))
# How nearly all begin: a JFIF segment of 16 bytes, quantization tables, one or two each, a frame.
_USUAL_JPEG = re.compile(
    rb"\xff\xd8\xff\xe0\x00\x10.{14}(?:\xff\xdb\x00(?:\x43.{65}|\x84.{130}))*"
    rb"\xff[\xc0-\xc2]...(..)(..)",
    re.DOTALL,
)

# tensorflow/core/example/{example,feature}.proto: names, numbers and types as there.
_EXAMPLE_PROTO = """
name: "samestep/example.proto"  package: "tensorflow"  syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"  oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE oneof_index: 0
          type_name: ".tensorflow.BytesList" }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE oneof_index: 0
          type_name: ".tensorflow.FloatList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE oneof_index: 0
          type_name: ".tensorflow.Int64List" } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".tensorflow.Features.FeatureEntry" }
  nested_type { name: "FeatureEntry"  options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE
            type_name: ".tensorflow.Feature" } } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".tensorflow.Features" } }
"""


def declare(proto: str, name: str) -> Any:  # a class of messages: generated, so without types
    """The class of a message. proto: a FileDescriptorProto as text; name: with its package."""
    # A pool of its own: the default pool gets TensorFlow's own files of the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(proto, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


_Example = declare(_EXAMPLE_PROTO, "tensorflow.Example")


class RecordError(ValueError):
    """One record is damaged or is no image with a label; the message is the reason, in one line."""

    way_out = "Write the records again"


class UnreadableError(RecordError):
    """The file system does not give a record's bytes; they may be sound."""

    way_out = "Repair the file system or copy the records to another"


def encode(image: bytes, label: int, raw_size: tuple[int, int] | None = None) -> bytes:
    """An image and an int64 label -> a serialized tf.train.Example of schema ENCODED or RAW.

    image: JPEG or PNG bytes; or, with raw_size (height and width), uint8[h, w, 3] row by row.
    """
    schema = ENCODED if raw_size is None else RAW
    example = _Example()
    feature = example.features.feature
    feature[schema.image_key].bytes_list.value.append(image)
    feature[schema.label_key].int64_list.value.append(label)
    if raw_size is not None:
        feature[HEIGHT_KEY].int64_list.value.append(raw_size[0])
        feature[WIDTH_KEY].int64_list.value.append(raw_size[1])
    # deterministic sorts the keys; without it their order may change from process to process.
    return example.SerializeToString(deterministic=True)


class Parsed(NamedTuple):
    """What a record holds."""

    image: bytes  # JPEG or PNG; or raw pixels, row by row
    label: int
    height: int  # of raw pixels; else 0
    width: int


def parse(payload: bytes, schema: Schema = ENCODED) -> Parsed:
    """A serialized tf.train.Example -> what it holds. Other features are ignored. RecordError."""
    feature = _features(payload)
    image = _only(feature, schema.image_key, "bytes_list")
    label = _only(feature, schema.label_key, "int64_list") + schema.label_offset
    if schema.raw_dtype is None:
        return Parsed(image, label, 0, 0)
    if schema.raw_shape is None:
        height, width = (_only(feature, key, "int64_list") for key in (HEIGHT_KEY, WIDTH_KEY))
    else:
        height, width, _ = schema.raw_shape
    if min(height, width) < 1 or len(image) != height * width * schema.pixel_bytes:
        raise RecordError(
            f"{schema.image_key} has {len(image)} bytes, which is not {height} x {width} pixels of "
            f"{schema.pixel_bytes} bytes"
        )
    return Parsed(image, label, height, width)


def values(payload: bytes) -> dict[str, list[bytes] | list[int] | list[float]]:
    """A serialized tf.train.Example -> key -> values, whatever they are. RecordError."""
    feature = _features(payload)
    kinds = {key: feature[key].WhichOneof("kind") for key in sorted(feature)}
    return {key: list(getattr(feature[key], kind).value) for key, kind in kinds.items() if kind}


def _features(payload: bytes) -> Any:
    try:
        return _Example.FromString(payload).features.feature
    except DecodeError:
        raise RecordError("the payload is not a tf.train.Example") from None


def _only(feature: Any, key: str, kind: str) -> Any:
    """The one value of feature `key`."""
    one = feature.get(key)
    if one is None:
        raise RecordError(f"the Example has no {key}, only {_described(feature)}")
    found = one.WhichOneof("kind")
    if found != kind:
        raise RecordError(f"{key} is {found or 'empty'}, not {kind}")
    values = getattr(one, kind).value
    if len(values) != 1:
        raise RecordError(f"{key} has {len(values)} values, not 1")
    return values[0]


def _described(feature: Any) -> str:
    """The keys that an Example has, with kind and number of their values."""
    lines = []
    for key in sorted(feature)[:MOST_KEYS]:
        kind = feature[key].WhichOneof("kind")
        values = getattr(feature[key], kind).value if kind else []
        of = f" of {len(values[0])} bytes" if kind == "bytes_list" and len(values) == 1 else ""
        lines.append(f"{key} ({kind or 'empty'}, {len(values)}{of})")
    more = f" and {len(feature) - MOST_KEYS} more" if len(feature) > MOST_KEYS else ""
    return (", ".join(lines) or "nothing") + more


def frame(payload: bytes) -> bytes:
    """A payload -> the TFRecord that holds it, HEADER_BYTES + len(payload) + FOOTER_BYTES bytes."""
    length = struct.pack("<Q", len(payload))
    return b"".join((length, _masked_crc(length), payload, _masked_crc(payload)))


def payload_bytes(header: bytes) -> int:
    """The length that a record's first HEADER_BYTES say; its checksum is checked. RecordError."""
    if len(header) < HEADER_BYTES:
        raise RecordError(f"{len(header)} bytes are too few for a record")
    if _masked_crc(header[:8]) != header[8:HEADER_BYTES]:
        raise RecordError("the length's checksum does not match")
    return struct.unpack("<Q", header[:8])[0]


def unframe(
    buffer: bytes | memoryview, length: int | None = None, checksum: bytes | None = None
) -> bytes:
    """The payload of the one TFRecord that `buffer` holds; both checksums are checked.

    `length` is what the index says, header and footer included, when the read may have been cut
    short; unset: len(buffer). `checksum` is the footer that the record had when it was indexed, if
    that is known. Copies the payload once. Raises RecordError.
    """
    if length is None:
        length = len(buffer)
    if len(buffer) < length:
        raise RecordError(f"short read: {len(buffer)} of {length} bytes")
    if len(buffer) < HEADER_BYTES + FOOTER_BYTES:
        raise RecordError(f"{len(buffer)} bytes are too few for a record")
    framed = HEADER_BYTES + payload_bytes(bytes(buffer[:HEADER_BYTES])) + FOOTER_BYTES
    if framed != len(buffer):
        raise RecordError(f"length says {framed} bytes, the index says {len(buffer)}")
    payload = bytes(buffer[HEADER_BYTES:-FOOTER_BYTES])
    found = _masked_crc(payload)
    if found != buffer[-FOOTER_BYTES:]:
        raise RecordError("the payload's checksum does not match")
    if checksum is not None and found != checksum:
        raise RecordError("a sound record, but not the one that was indexed here")
    return payload


def _masked_crc(data: bytes) -> bytes:
    # Rotated and offset, so that the crc of data that holds crcs stays sound
    # (tensorflow/core/lib/hash/crc32c.h, kMaskDelta).
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def pixel_count(image: bytes) -> int | None:
    """Height x width of a JPEG or PNG by its header, 0 where that is damaged; None for neither."""
    found = extent(image)
    return None if found is None else found[0] * found[1]


def extent(image: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG or PNG by its header, 0 where that is damaged; None for neither.

    Markers are found as libjpeg finds them (jdmarker.c, next_marker), so that none is hidden from
    here and seen there. 1 us, 3 where a JPEG begins unusually; decoding takes 30 us or more.
    """
    if usual := _USUAL_JPEG.match(image):
        return _numbers(usual[1], usual[2])
    kind = image_format(image)
    if kind == "png":  # IHDR comes first (PNG, 5.6)
        return _numbers(image[20:24], image[16:20])
    if kind is None:
        return None
    frame = start_of_frame(image)
    if frame is None:
        return 0, 0
    at = frame.end() + 1  # after the precision: height and width (ITU T.81, B.2.2)
    return _numbers(image[at : at + 2], image[at + 2 : at + 4])


def start_of_frame(jpeg: bytes) -> re.Match[bytes] | None:
    """The marker of a JPEG's frame, its group 1, with the length behind it; None where none is."""
    at = 2
    while found := _SEGMENT.search(jpeg, at):
        if found[1] in _START_OF_FRAME:
            return found
        at = found.end() + int.from_bytes(found[2], "big") - 2
    return None


def _numbers(height: bytes, width: bytes) -> tuple[int, int]:
    return int.from_bytes(height, "big"), int.from_bytes(width, "big")


def image_format(image_bytes: bytes) -> str | None:
    """ "jpeg", "png" or None, by the first bytes."""
    if image_bytes.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if image_bytes.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return None
