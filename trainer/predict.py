"""Probabilities of images without labels, from a run's checkpoint or an exported model.

A run's network sees an image as its evaluation does and gives the same bits: the same pipeline, the
same micro-batches.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from input import order, pipeline
from input.foundation.text import one_line
from input.native import library
from input.order import EvaluationPlan
from input.reader import Reader
from input.records import RecordError
from trainer import assembly, evaluate, internals, iterators, preflight, provenance, step
from trainer.choice import Checkpoint, Weights
from trainer.config import Hardware
from trainer.errors import TrainerError

IMAGES_AT_ONCE = 32  # of an export, whose answer about an image does not depend on the others


class Predictor(Protocol):
    """A trained network and how it sees images."""

    classes: tuple[str, ...]
    notes: tuple[str, ...]  # what should be said about it

    def probabilities(self, reader: Reader) -> Iterator[np.ndarray]:
        """float32[n, classes] of the next n images, until there are none; n varies.

        Those of an image in reader.bad_records, which is then complete so far, mean nothing.
        """
        ...


class RunPredictor:
    """The network of a run's checkpoint."""

    def __init__(
        self,
        folder: Path,
        hardware: Hardware,
        *,
        image_dtype: str = "uint8",
        model: str = "",
        checkpoint: Checkpoint = "latest",
        weights: Weights = "auto",
    ):
        """image_dtype: of the pixels that it will be given. The others as of evaluate_run.

        Raises TrainerError.
        """
        first = preflight.predicted(folder, model, weights, image_dtype)
        self._inputs, self._strategy, self._model = assembly.network(first, hardware)
        evaluate.restore(folder, first, self._model, self._strategy, checkpoint, weights)
        self.classes = first.classes
        decoder = library.version(self._inputs.decoder)
        notes = (provenance.note(first), evaluate.decoder_note(first, decoder))
        self.notes = tuple(note for note in notes if note)

    def probabilities(self, reader: Reader) -> Iterator[np.ndarray]:
        """As Predictor."""
        replicas = self._strategy.num_replicas_in_sync
        plan = EvaluationPlan(self._inputs.micro_batch_size, replicas, reader.records)
        iterator = iterators.distributed(
            self._strategy, lambda: pipeline.evaluate(self._inputs, reader, plan)
        )
        predict = step.build_predict(self._strategy, self._model)
        for records in order.evaluated_records(plan):
            yield predict(iterator).numpy()[records >= 0]


class ExportPredictor:
    """A SavedModel that samestep-export has written; it needs no run."""

    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path):
        """Raises TrainerError."""
        try:
            self._loaded: Any = tf.saved_model.load(str(folder))
            signatures = self._loaded.signatures
            self._classify = signatures["serving_default"]
            inputs = set(self._classify.structured_input_signature[1])
            classes = self._classify.structured_outputs["probabilities"].shape[-1]
            named = signatures["classes"](label=tf.range(classes, dtype=tf.int64))["class_name"]
        except (OSError, KeyError, AttributeError, ValueError, tf.errors.OpError) as error:
            raise TrainerError(
                f"--export={folder} is no folder that samestep-export has written: "
                f"{one_line(str(error))}."
            ) from None
        if inputs != {"image_bytes"}:
            raise TrainerError(
                f"--export={folder} takes pixels normalised as those of its run's records, which "
                "image files do not have."
            )
        self.classes = tuple(name.decode() for name in named.numpy())

    def probabilities(self, reader: Reader) -> Iterator[np.ndarray]:
        """As Predictor."""
        for first in range(0, reader.records, IMAGES_AT_ONCE):
            indices = np.arange(first, min(first + IMAGES_AT_ONCE, reader.records))
            images = reader.read(indices).images.tolist()
            try:
                found = self._answer(images)
            except tf.errors.InvalidArgumentError:  # one of them cannot be decoded
                found = np.concatenate(
                    [self._alone(reader, *each) for each in enumerate(images, first)]
                )
            yield found

    def _answer(self, images: list[bytes]) -> np.ndarray:
        answer = self._classify(image_bytes=tf.constant(images))
        found: np.ndarray = answer["probabilities"].numpy()
        return found

    def _alone(self, reader: Reader, index: int, image: bytes) -> np.ndarray:
        try:
            return self._answer([image])
        except tf.errors.InvalidArgumentError as error:
            reason = internals.error_reason(error)
            reader.reject(index, RecordError(f"the image cannot be decoded: {reason}"))
            return np.zeros((1, len(self.classes)), np.float32)
