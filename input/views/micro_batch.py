"""What training and evaluation see of a micro-batch. TensorFlow graph code, no state.

Slots -> images: decoded, cropped, augmented. All that is random about a slot comes with it, as
uniform numbers that follow from (seed, epoch, record index).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from input import randomness
from input.config import InputConfig, ResolvedInput
from input.native import library
from input.native.reader import ViewReader, fits
from input.reader import Reader
from input.views import color, crop, mix, policy, window


class Slots(NamedTuple):
    """A micro-batch before decoding; n is M."""

    records: tf.Tensor  # int64[n]: record indices, -1 for padding
    images: tf.Tensor  # as in input.reader.Block, and so are the next three
    sizes: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    uniforms: tf.Tensor  # float32[n, ..] in [0, 1): what is random about each view


def read_slots(reader: Reader, indices: np.ndarray, uniforms: np.ndarray) -> Slots:
    """The slots of some records, outside of any graph. Raises BadRecordError over the budget."""
    columns = (indices, *reader.read(indices), uniforms)
    # TensorFlow takes bytes as a list, not as an array of objects.
    listed = (column.tolist() if column.dtype == object else column for column in columns)
    return Slots(*map(tf.constant, listed))


def training_uniforms(
    config: InputConfig, seed: int, epoch: int, indices: np.ndarray
) -> np.ndarray:
    """int64[n] -> float32[n, ..]: for crop, jitter, erasing, operations, mixing.

    indices: of records, or, where one has several views, order.view_numbers.
    """
    uniforms = randomness.uniform(seed, epoch, indices, sum(_uniform_counts(config)))
    if not config.soft_labels:
        return uniforms
    drawn = mix.draw(seed, epoch, indices, config.mixup, config.cutmix)
    return np.concatenate([uniforms, np.tile(drawn, (len(indices), 1))], axis=1)


def evaluation_uniforms(indices: np.ndarray) -> np.ndarray:
    """float32[n, 0]: nothing about an evaluation is random."""
    return np.empty((len(indices), 0), np.float32)


def training_views(config: ResolvedInput, reader: Reader | ViewReader, slots: Slots) -> tf.Tensor:
    """Slots -> [n, S, S, 3]: cropped and augmented, not mixed."""
    counts = _uniform_counts(config)
    own = slots.uniforms[:, : sum(counts)]
    cropping, jitter, erasing, operations = tf.split(own, counts, axis=1)
    if config.augment == "none" or isinstance(reader, ViewReader):
        images = evaluation_views(config, reader, slots)
    else:
        crops = crop.random_crop(cropping, config.crop_min_area, flip=_flips(config))
        size, antialias = config.image_size, config.antialias
        images = _each(
            lambda image, own: crop.train_view(image, size, own, antialias), reader, slots, crops
        )
    layers, magnitude = config.policy
    if layers:
        images = tf.map_fn(
            lambda one: policy.apply(one[0], tf.reshape(one[1], [layers, -1]), magnitude),
            (images, operations),
            fn_output_signature=images.dtype,
        )
    if config.color_jitter:
        images = color.color_jitter(images, jitter, config.color_jitter)
    if config.erasing:
        images = color.erase(images, erasing, config.erasing)
    return images


def evaluation_views(config: ResolvedInput, reader: Reader | ViewReader, slots: Slots) -> tf.Tensor:
    """Slots -> [n, S, S, 3]: the central square of each image; views as they are."""
    if isinstance(reader, ViewReader):
        return slots.images
    size, side, antialias = config.image_size, config.eval_crop, config.antialias
    return _each(lambda image: crop.eval_view(image, size, side, antialias), reader, slots)


def seen(config: ResolvedInput, reader: Reader, indices: np.ndarray) -> np.ndarray:
    """What an evaluation shows of some records: [n, S, S, 3]."""
    uniforms = evaluation_uniforms(indices)
    if config.decoder == library.NATIVE and fits(reader):
        views = ViewReader(reader, config.image_size, antialias=config.antialias, threads=1)
        return views.read(indices, uniforms, partial(evaluation_windows, config)).images
    views = tf.function(partial(evaluation_views, config, reader), autograph=False)
    pixels: np.ndarray = views(read_slots(reader, indices, uniforms)).numpy()
    return pixels


def training_windows(
    config: ResolvedInput, uniforms: np.ndarray, extents: np.ndarray
) -> np.ndarray:
    """What training_views cuts out, for a ViewReader: see input.views.window."""
    if config.augment == "none":
        return window.evaluation(extents, config.eval_crop)
    return window.training(uniforms, extents, config.crop_min_area, _flips(config))


def evaluation_windows(
    config: InputConfig, uniforms: np.ndarray, extents: np.ndarray
) -> np.ndarray:
    """What evaluation_views cuts out, for a ViewReader."""
    return window.evaluation(extents, config.eval_crop)


def _flips(config: InputConfig) -> bool:
    return config.augment not in ("none", "crop")


def mixed(images: tf.Tensor, slots: Slots, classes: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Images of a micro-batch -> the same images and soft labels float32[n, classes], mixed."""
    labels = tf.one_hot(slots.labels, classes)
    drawn = mix.Mix(*tf.unstack(slots.uniforms[0, -mix.COLUMNS :]))
    return mix.mix(images, labels, slots.weights, drawn)


def _uniform_counts(config: InputConfig) -> list[int]:
    """Uniform numbers of each image: for its crop, jitter, erasing and operations."""
    operations = config.policy.layers * policy.UNIFORMS
    return [window.UNIFORMS, color.JITTER_UNIFORMS, color.ERASE_UNIFORMS, operations]


def _each(view: Callable[..., tf.Tensor], reader: Reader, slots: Slots, *others) -> tf.Tensor:
    """view(image, ..) of every slot -> [n, S, S, 3]."""

    def one_view(one):
        image, size, *rest = one
        if reader.schema.raw_dtype is not None:
            image = crop.raw_pixels(image, size, reader.schema)
        return view(image, *rest)

    # 15 us an image of overhead; a dataset of images (unbatch, map, batch) costs 50 to 80 more.
    columns = (slots.images, slots.sizes, *others)
    return tf.map_fn(one_view, columns, fn_output_signature=tf.as_dtype(reader.image_dtype))
