"""--profile_steps: what TensorFlow's profiler sees of some steps, for xprof."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.step import History, Step


class Profiler:
    """A traced step that also writes a profile of some steps, below folder/plugins/profile.

    What TensorFlow's profiler or the disk refuses is said, and stops nothing.
    """

    def __init__(self, train: Step, steps: range, folder: Path, say: Callable[[str], None]):
        self._train, self._steps, self._folder, self._say = train, steps, folder, say
        self._recorded: list[int] = []

    def __call__(self, iterator: Iterator[Any], first_step: tf.Tensor, steps: tf.Tensor) -> History:
        histories = []
        for call in calls(int(first_step), int(first_step + steps), self._steps):
            numbers = (tf.constant(number, tf.int64) for number in (call.start, len(call)))
            with self._marked(call.start):
                history = self._train(iterator, *numbers)
                # Waits for the device: else a step of the profile would be its launch only.
                histories.append([column.numpy() for column in history])
            if call.stop == self._steps.stop:
                self.stop()
        columns = (np.concatenate(column) for column in zip(*histories, strict=True))
        return History(*map(tf.constant, columns))

    def stop(self) -> None:
        """Writes the profile of the steps that were done."""
        if self._recorded:
            first, last = self._recorded[0], self._recorded[-1]
            if self._attempt(tf.profiler.experimental.stop):
                view = f"tensorboard --logdir {self._folder}"
                self._say(f"steps {first} to {last} are profiled: {view}")
            self._recorded = []

    def _marked(self, step: int) -> Any:
        """A mark by which xprof knows a step that is recorded."""
        if step not in self._steps:
            return nullcontext()
        start = lambda: tf.profiler.experimental.start(str(self._folder))  # noqa: E731
        if not self._recorded and not self._attempt(start):
            self._steps = range(0)
            return nullcontext()
        self._recorded.append(step)
        return tf.profiler.experimental.Trace("train", step_num=step, _r=1)

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except (tf.errors.OpError, OSError) as error:
            self._say(f"--profile_steps: there is no profile, and the training goes on: {error}")
            return False
        return True


def calls(first: int, stop: int, alone: range) -> list[range]:
    """The steps first..stop-1 in as few calls as there are where each step of `alone` is one."""
    edges = {first, stop, *(edge for edge in (*alone, alone.stop) if first < edge < stop)}
    return [range(*pair) for pair in pairwise(sorted(edges))]
