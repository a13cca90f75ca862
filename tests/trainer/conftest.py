"""What the trainer's tests share: settings of a small run, and one that was never stopped."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from input.config import InputConfig
from input.manifest import Manifest
from input.reader import RecordReader
from models.config import ModelConfig
from tests.conftest import THREADS
from tests.trainer.workers.runs import EPOCHS_TO_KILL, train_alone
from trainer import loop, step
from trainer.config import Config, Hardware, RunConfig
from trainer.recipe import OptimizerConfig
from trainer.state import State
from trainer.workers.preemption import SIGNALS

HARDWARE = Hardware(virtual_cpus=2)


def settings(data_dir, run_dir="", **run) -> Config:
    """3 epochs of 5 steps."""
    return Config(
        InputConfig(data_dir=str(data_dir), global_batch_size=32, micro_batch_size=8),
        ModelConfig("cnn", dropout=0.2),
        OptimizerConfig(learning_rate=0.05),
        RunConfig(run_dir=str(run_dir), epochs=3, intra_op_threads=THREADS, **run),
    )


@pytest.fixture(autouse=True)
def heeded_signals() -> Iterator[None]:
    """No signal is ignored: not as under nohup, nor since a run in this process was stopped."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def reader(data_dir) -> RecordReader:
    """160 training records."""
    return RecordReader(Manifest.load(data_dir / "train"))


class Finished(NamedTuple):
    """A run of `settings` on HARDWARE from its first step to its last."""

    run_dir: Path
    state: State
    functions: list[Any]  # the train and evaluate functions that were built for it


@pytest.fixture(scope="session")
def finished(data_dir, tmp_path_factory) -> Finished:
    functions = []

    def recorded(build: Callable) -> Callable:
        def build_and_record(*args, **kwargs):
            functions.append(build(*args, **kwargs))
            return functions[-1]

        return build_and_record

    run_dir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("build_train", "build_evaluate"):
            patch.setattr(step, name, recorded(getattr(step, name)))
        state = loop.fit(settings(data_dir, run_dir), HARDWARE)
    return Finished(run_dir, state, functions)


@pytest.fixture(scope="session")
def weights_on_one_cpu(data_dir, tmp_path_factory) -> str:
    """The fingerprint of a long run in one process, never killed."""
    return train_alone(data_dir, tmp_path_factory.mktemp("alone") / "run", EPOCHS_TO_KILL, 1)
