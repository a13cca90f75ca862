"""Records as a person looks at them: numbers, and images before and after augmentation."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, UnidentifiedImageError

from input import randomness
from input.errors import InputError
from input.foundation.text import one_line
from input.manifest import Manifest, find_splits
from input.prepare.config import ShowConfig
from input.reader import RecordReader
from input.views import micro_batch

SAMPLE = 2_000  # records whose size is looked up
CLASSES = 50  # on a sheet; a line says so where there are more
GAP, LINE = 4, 16  # pixels between images, and of a line of text


class Numbers(NamedTuple):
    """Smallest, median and largest of something."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def of(cls, values: np.ndarray) -> "Numbers":
        return cls(int(values.min()), int(np.median(values)), int(values.max()))


@dataclass(frozen=True)
class Description:
    """A split in numbers."""

    split: str
    manifest: Manifest
    bytes: Numbers  # of a record's image
    widths: Numbers  # in pixels
    heights: Numbers
    sampled: int  # records that bytes and sizes are of


class Row(NamedTuple):
    """Images of one class: uint8[n, S, S, 3] as evaluation and as training see them."""

    split: str
    name: str
    records: int
    before: np.ndarray
    after: np.ndarray


def describe(config: ShowConfig) -> list[Description]:
    """Every split in numbers. Raises InputError."""
    splits = find_splits(Path(config.dir))
    try:
        return [_describe(split, Manifest.load(path)) for split, path in splits]
    except UnidentifiedImageError:
        raise _undecodable(config) from None


def _describe(split: str, manifest: Manifest) -> Description:
    reader = RecordReader(manifest)
    sampled = min(SAMPLE, reader.records)
    block = reader.read(np.linspace(0, reader.records - 1, sampled).astype(np.int64))
    sizes = block.sizes
    if manifest.schema.raw_dtype is None:
        sizes = np.array([Image.open(io.BytesIO(image)).size[::-1] for image in block.images])
    return Description(
        split,
        manifest,
        bytes=Numbers.of(np.array([len(image) for image in block.images])),
        widths=Numbers.of(sizes[:, 1]),
        heights=Numbers.of(sizes[:, 0]),
        sampled=sampled,
    )


def rows(config: ShowConfig) -> Iterator[Row]:
    """The first CLASSES classes of every split. Raises InputError."""
    for split, path in find_splits(Path(config.dir)):
        manifest = Manifest.load(path)
        reader = RecordReader(manifest)
        for label, indices in enumerate(_some_of_each(reader, config)[:CLASSES]):
            if len(indices):
                before, after = _views(config, reader, indices)
                count = manifest.records_per_class[label]
                yield Row(split, manifest.classes[label], count, before, after)


def _some_of_each(reader: RecordReader, config: ShowConfig) -> list[np.ndarray]:
    """Class by class, the indices of up to per_class records, drawn at random."""
    found: list[list[int]] = [[] for _ in reader.classes]
    shuffled = randomness.shuffle(np.arange(reader.records), reader.records, config.seed, epoch=0)
    for indices in np.array_split(shuffled, -(-reader.records // 64)):
        for index, label in zip(indices.tolist(), reader.read(indices).labels, strict=True):
            if len(found[label]) < config.per_class:
                found[label].append(index)
        if all(len(own) == config.per_class for own in found[:CLASSES]):
            break
    return [np.array(own, np.int64) for own in found]


def _views(
    config: ShowConfig, reader: RecordReader, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The pipeline's own views of some records, in evaluation and in epoch 0 of training."""
    settings = config.views()
    uniforms = micro_batch.training_uniforms(settings, config.seed, 0, indices)
    slots = micro_batch.read_slots(reader, indices, uniforms)
    try:
        before = micro_batch.evaluation_views(settings, reader, slots)
        after = micro_batch.training_views(settings, reader, slots)
    except tf.errors.InvalidArgumentError:
        raise _undecodable(config) from None
    return _shown(before), _shown(after)


def _undecodable(config: ShowConfig) -> InputError:
    return InputError(
        f"An image in {config.dir} cannot be decoded; samestep-records verify {config.dir} says "
        "which."
    )


def _shown(images: tf.Tensor) -> np.ndarray:
    """uint8 as it is; of floats the smallest is shown as black and the largest as white."""
    pixels = images.numpy()
    if pixels.dtype == np.uint8:
        return pixels
    low, high = pixels.min(), pixels.max()
    return ((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def sheet(found: list[Row], per_class: int) -> Image.Image:
    """One line of images per class: on the left as evaluation, on the right as training sees it."""
    size = found[0].before.shape[1]
    half = per_class * (size + GAP)
    image = Image.new("RGB", (2 * half + 3 * GAP, len(found) * (LINE + size + GAP) + LINE), "white")
    draw = ImageDraw.Draw(image)
    draw.text((GAP, 2), "as evaluation sees them", "black")
    draw.text((half + 3 * GAP, 2), "as training sees them", "black")
    for line, row in enumerate(found):
        top = LINE + line * (LINE + size + GAP)
        title = one_line(f"{row.split}: {row.name} ({row.records:,})")
        draw.text((GAP, top + 2), title, "black")
        for left, views in ((GAP, row.before), (half + 3 * GAP, row.after)):
            for i, view in enumerate(views):
                place = (left + i * (size + GAP), top + LINE)
                image.paste(Image.fromarray(view), place)
    return image


def page(descriptions: list[Description], found: list[Row]) -> str:
    """A page of HTML that needs no other file."""
    lines = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8"><title>Records</title>',
        "<style>body{font:14px sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}",
        "th:first-child,td:first-child{text-align:left}img{margin:1px}</style>",
        "<h1>Records</h1><table><tr><th>split<th>class<th>records</tr>",
    ]
    for each in descriptions:
        pairs = zip(each.manifest.classes, each.manifest.records_per_class, strict=True)
        lines += [
            f"<tr><td>{escape(each.split)}<td>{escape(one_line(name))}<td>{count:,}</tr>"
            for name, count in pairs
        ]
    lines.append("</table>")
    for row in found:
        lines.append(
            f"<h2>{escape(row.split)}: {escape(one_line(row.name))} ({row.records:,})</h2>"
        )
        for what, views in (("evaluation", row.before), ("training", row.after)):
            lines.append(f"<p>as {what} sees them<br>")
            lines += [f'<img alt="" src="data:image/png;base64,{_png(view)}">' for view in views]
    return "\n".join([*lines, "</html>", ""])


def _png(view: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(view).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
