"""A SavedModel that takes image files, or a run's own kind of pixels; it needs nothing of ours."""

from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from input.config import ResolvedInput
from input.foundation import durable
from input.views.crop import eval_view
from trainer import assembly, internals, run_dir
from trainer.checkpoint import Checkpoints
from trainer.errors import TrainerError
from trainer.state import State
from trainer.workers.strategy import hide_gpus


class Classifier(tf.Module):
    """JPEG or PNG bytes -> probabilities, through the pipeline's own evaluation view."""

    def __init__(self, model: keras.Model, inputs: ResolvedInput, classes: tuple[str, ...]):
        super().__init__()
        self.model = model
        self._inputs = inputs
        self._classes = classes

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def __call__(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string[n] -> probabilities float32[n, classes], class_names string[classes].

        Like the records, the bytes must hold upright pixels: a camera's EXIF orientation is not
        looked at.
        """
        size = self._inputs.image_size
        images = tf.map_fn(
            lambda image: eval_view(image, size, self._inputs.eval_crop),
            image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )
        return _answer(self.model, images, self._classes)


class PixelClassifier(tf.Module):
    """Pixels as the run's records hold them -> probabilities: files have no such normalisation."""

    def __init__(self, model: keras.Model, inputs: ResolvedInput, classes: tuple[str, ...]):
        super().__init__()
        self.model = model
        size = inputs.image_size
        images = tf.TensorSpec([None, size, size, 3], model.inputs[0].dtype, name="images")

        @tf.function(input_signature=[images])
        def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
            """float32[n, S, S, 3] -> as Classifier."""
            return _answer(model, images, classes)

        self.__call__ = classify


def _answer(
    model: keras.Model, images: tf.Tensor, classes: tuple[str, ...]
) -> dict[str, tf.Tensor]:
    logits = model(images, training=False)
    return {"probabilities": tf.nn.softmax(logits), "class_names": tf.constant(classes)}


def export_run(folder: Path, out: Path, checkpoint: Literal["latest", "best"] = "latest") -> State:
    """Writes the SavedModel of a run's checkpoint to a new folder. Raises TrainerError."""
    first = run_dir.load(folder)
    if out.exists():
        raise TrainerError(f"--out={out} exists already. Remove it, or choose another folder.")
    inputs = first.config.input
    hide_gpus()
    model = assembly.new_model(first.config, inputs, len(first.classes), first.image_dtype)
    state = Checkpoints(folder, model).restore_existing(checkpoint)
    kind = Classifier if first.image_dtype == "uint8" else PixelClassifier
    classifier = kind(model, inputs, first.classes)
    signature = classifier.__call__.get_concrete_function()
    try:
        durable.make(out.parent)
        with durable.publish(out) as (incomplete,):
            tf.saved_model.save(classifier, str(incomplete), signatures=signature)
    except (OSError, tf.errors.OpError) as error:
        reason = error if isinstance(error, OSError) else internals.error_reason(error)
        raise TrainerError(f"--out={out} cannot be written: {reason}.") from error
    print(f"{out}: step {state.step}, {len(first.classes)} classes, {state.fingerprint[:16]}")
    return state
