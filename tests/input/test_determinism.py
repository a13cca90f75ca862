"""Under TensorFlow's op determinism the input still reads and decodes in parallel.

A process cannot switch it off again: this file is the program of another one, too.
"""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from input import order, pipeline
from input.arrays import ArrayReader
from input.config import ResolvedInput
from input.manifest import Manifest
from input.order import EvaluationPlan
from input.reader import RecordReader
from input.views import micro_batch
from tests.conftest import ROOT

PLAIN = {"global_batch_size": 8, "micro_batch_size": 2, "image_size": 12}
KINDS = {
    "standard": {},
    "everything": {"augment": "rand-m9-n2", "color_jitter": 0.4, "erasing": 0.3, "mixup": 0.2},
    "trivial": {"augment": "trivial", "cutmix": 1.0},
    "pixels": {},
    "evaluation": {},
}
TOO_LONG = 60.0  # seconds after which a call is alone


class Meeting:
    """Lets calls through once two of them are inside at the same time."""

    def __init__(self, what: str):
        self.met = threading.Event()
        self._what = what
        self._inside = 0
        self._lock = threading.Lock()

    def attend(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 2:
                self.met.set()
        if not self.met.wait(TOO_LONG):
            raise AssertionError(f"no two calls at a time: {self._what}")
        with self._lock:
            self._inside -= 1


class MeetingReader(RecordReader):
    """Reads when two reads are under way."""

    def __init__(self, manifest: Manifest, meeting: Meeting):
        super().__init__(manifest)
        self._meeting = meeting

    def read(self, indices):
        self._meeting.attend()
        return super().read(indices)


def through(views, meeting: Meeting):
    """Views of micro-batches that wait for each other, in a stateless operation."""

    def attend(images):
        meeting.attend()
        return images

    def views_that_meet(config, reader, slots):
        images = slots.images
        met = tf.numpy_function(attend, [images], images.dtype, stateful=False)
        met = tf.ensure_shape(met, images.shape)
        return views(config, reader, slots._replace(images=met))

    return views_that_meet


def case_of(kind: str, data_dir: str, reading: Meeting) -> tf.data.Dataset:
    config = ResolvedInput(**PLAIN, **KINDS[kind])
    if kind == "pixels":  # which nothing can be wrong with: a plain map
        block = np.zeros([20, 9, 9], np.uint8)
        pixels = ArrayReader(block, block[:, 0, 0])
        reading.met.set()  # there is nothing to read
        return pipeline.train(config, pixels, order.plan(config, 20, 1), seed=0)
    reader = MeetingReader(Manifest.load(f"{data_dir}/train"), reading)
    if kind == "evaluation":
        return pipeline.evaluate(config, reader, EvaluationPlan(2, 1, reader.records))
    return pipeline.train(config, reader, order.plan(config, reader.records, 1), seed=0)


def main(data_dir: str) -> None:
    """Prints what has met, a kind a line."""
    tf.config.threading.set_inter_op_parallelism_threads(4)  # on one core too
    tf.config.experimental.enable_op_determinism()
    for kind in KINDS:
        reading, decoding = Meeting("reading"), Meeting("decoding")
        with pytest.MonkeyPatch.context() as patch:
            for name in ("training_views", "evaluation_views"):
                patch.setattr(micro_batch, name, through(getattr(micro_batch, name), decoding))
            dataset = case_of(kind, data_dir, reading)
        try:
            count = len(list(dataset.take(8)))
        except tf.errors.OpError as error:
            print(kind, error.message)
        else:
            print(kind, count, reading.met.is_set(), decoding.met.is_set())


@pytest.fixture(scope="module")
def said(data_dir) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.input.test_determinism", str(data_dir)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_two_micro_batches_are_read_and_two_decoded_at_the_same_time(kind, said):
    assert f"{kind} 8 True True" in said, said


if __name__ == "__main__":
    main(sys.argv[1])
