"""A SavedModel that takes image files, or a run's own kind of pixels; it needs nothing of ours."""

import shutil
from pathlib import Path

import tensorflow as tf

from input.images import eval_view
from trainer import assembly, config
from trainer.checkpoint import Checkpoints, State
from trainer.config import Config, ExportConfig
from trainer.errors import TrainerError


class Classifier(tf.Module):
    """JPEG or PNG bytes -> probabilities, through the pipeline's own evaluation view."""

    def __init__(self, model, settings: Config, classes: tuple[str, ...]):
        super().__init__()
        self.model = model
        self._input = settings.input
        self._classes = classes

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def __call__(self, image_bytes):
        """string[n] -> probabilities float32[n, classes], class_names string[classes].

        Like the records, the bytes must hold upright pixels: a camera's EXIF orientation is not
        looked at.
        """
        size = self._input.image_size
        images = tf.map_fn(
            lambda image: eval_view(image, size, self._input.eval_crop),
            image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        )
        return _answer(self.model, images, self._classes)


class PixelClassifier(tf.Module):
    """Pixels as the run's records hold them -> probabilities: files have no such normalisation."""

    def __init__(self, model, settings: Config, classes: tuple[str, ...]):
        super().__init__()
        self.model = model
        size = settings.input.image_size
        images = tf.TensorSpec([None, size, size, 3], model.inputs[0].dtype, name="images")

        @tf.function(input_signature=[images])
        def classify(images):
            """float32[n, S, S, 3] -> as Classifier."""
            return _answer(model, images, classes)

        self.__call__ = classify


def _answer(model, images: tf.Tensor, classes: tuple[str, ...]) -> dict[str, tf.Tensor]:
    logits = model(images, training=False)
    return {"probabilities": tf.nn.softmax(logits), "class_names": tf.constant(classes)}


def export_run(what: ExportConfig) -> State:
    """Writes the SavedModel of a run's checkpoint to a new folder."""
    stored = config.load(what.run_dir)
    out = Path(what.out)
    if out.exists():
        raise TrainerError(f"--out={out} exists already. Remove it, or choose another folder.")
    model = assembly.build_model(stored.config, len(stored.classes), stored.image_dtype)
    state = Checkpoints(Path(what.run_dir), model).restore_existing(what.checkpoint)
    kind = Classifier if stored.image_dtype == "uint8" else PixelClassifier
    classifier = kind(model, stored.config, stored.classes)
    temporary = out.with_name(f"{out.name}.incomplete")
    shutil.rmtree(temporary, ignore_errors=True)
    tf.saved_model.save(
        classifier, str(temporary), signatures=classifier.__call__.get_concrete_function()
    )
    temporary.rename(out)
    print(f"{out}: step {state.step}, {len(stored.classes)} classes, {state.fingerprint[:16]}")
    return state
