"""A SavedModel that takes image files, or a run's own kind of pixels; it needs nothing of ours.

Its signature `classes` turns labels int64[n] into class_name string[n].
"""

from pathlib import Path

import keras
import tensorflow as tf

from input.config import ResolvedInput
from input.foundation import durable
from input.views.files import eval_file
from trainer import assembly, evaluate, internals, preflight, provenance
from trainer.choice import Checkpoint, Weights
from trainer.errors import TrainerError
from trainer.state import State
from trainer.workers.strategy import hide_gpus


class Classifier(tf.Module):
    """Bytes of image files -> probabilities, through the pipeline's own evaluation view."""

    def __init__(self, model: keras.Model, inputs: ResolvedInput, classes: tuple[str, ...]):
        super().__init__()
        self.model = model
        self._inputs = inputs
        self._classes = classes

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def __call__(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string[n] -> probabilities float32[n, classes], label int64[n], class_name string[n].

        label and class_name are of the likeliest class. The bytes are those of a JPEG, PNG, WebP,
        GIF or BMP file, of which an orientation in its EXIF is followed.
        """
        size = self._inputs.image_size
        images = tf.map_fn(
            lambda image: eval_file(image, size, self._inputs.eval_crop, self._inputs.antialias),
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
    # A row an image in every output, or TensorFlow Serving refuses requests in row format.
    probabilities = tf.nn.softmax(model(images, training=False))
    label = tf.argmax(probabilities, axis=1)
    return {"probabilities": probabilities, "label": label, **_name(label, classes)}


def _name(label: tf.Tensor, classes: tuple[str, ...]) -> dict[str, tf.Tensor]:
    return {"class_name": tf.gather(tf.constant(classes), label)}


def _signatures(
    classifier: Classifier | PixelClassifier, classes: tuple[str, ...]
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """What a server offers: the call, and the names of any labels."""

    # It has an input because TensorFlow Serving's REST interface calls no signature without one.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="label")])
    def names(label: tf.Tensor) -> dict[str, tf.Tensor]:
        return _name(label, classes)

    calls = {"serving_default": classifier.__call__, "classes": names}
    return {name: call.get_concrete_function() for name, call in calls.items()}


def export_run(
    folder: Path,
    out: Path,
    checkpoint: Checkpoint = "latest",
    model: str = "",
    weights: Weights = "auto",
) -> State:
    """Writes the SavedModel of a run's checkpoint to a new folder. Raises TrainerError.

    model: the run's, which must be given where it is code of the user's. weights: see
    evaluate.restore.
    """
    hide_gpus()
    first = preflight.exported(folder, out, model, weights)
    inputs = first.config.input
    network = assembly.new_model(first.config, inputs, len(first.classes), first.image_dtype)
    strategy = tf.distribute.get_strategy()
    state, averaged = evaluate.restore(folder, first, network, strategy, checkpoint, weights)
    kind = Classifier if first.image_dtype == "uint8" else PixelClassifier
    classifier = kind(network, inputs, first.classes)
    signatures = _signatures(classifier, first.classes)
    try:
        durable.make(out.parent)
        with durable.publish(out) as incomplete:
            tf.saved_model.save(classifier, str(incomplete), signatures=signatures)
    except (OSError, tf.errors.OpError) as error:
        reason = error if isinstance(error, OSError) else internals.error_reason(error)
        raise TrainerError(f"--out={out} cannot be written: {reason}.") from error
    if note := provenance.note(first):
        print(f"note: {note}")
    whose = f"averaged weights {state.averages[:16]}" if averaged else state.fingerprint[:16]
    print(f"{out}: step {state.step}, {len(first.classes)} classes, {whose}")
    return state
