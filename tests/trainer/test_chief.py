"""What worker 0 does for all, and what the others do meanwhile."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from trainer import chief
from trainer.incidents import Incidents
from trainer.state import State

STATE = State(7, "run", "f", {})


class Told:
    """Workers as one of them sees them: what it gathers, and what worker 0 has told it."""

    def __init__(self, index=0, others=(), told=None):
        self.index, self.count, self.chief = index, 1 + len(others), index == 0
        self._others, self._told = others, told

    def gather(self, numbers):
        return np.array([numbers, *([n + d for n in numbers] for d in self._others)])

    def from_chief(self, kind, value):
        assert value is None or self.chief
        return value if self.chief else self._told


class Shelf:
    """Checkpoints that note what they are asked for."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        def note(*args, **known):
            self.asked.append((name, args, known))
            return STATE

        return note


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def test_worker_0_restores_and_the_others_load_the_same():
    ours, theirs = Shelf(), Shelf()
    assert chief.restore(ours, Told(), Incidents()) == STATE
    assert chief.restore(theirs, Told(index=1, others=(0,), told=STATE), Incidents()) == STATE
    assert [name for name, *_ in ours.asked] == ["restore"]
    assert theirs.asked == [("load", (STATE,), {})]


def test_worker_0_saves_and_the_others_wait(model):
    ours, theirs = Shelf(), Shelf()
    job = SimpleNamespace(model=model, workers=Told(others=(0,)))
    assert chief.save(ours, 7, job, None, skipped=2) == STATE
    job = SimpleNamespace(model=model, workers=Told(index=1, others=(0,), told=STATE))
    assert chief.save(theirs, 7, job, None, skipped=2) == STATE
    assert ours.asked == [("save", (7, None), {"skipped": 2})]
    assert theirs.asked == []


def test_other_weights_than_worker_0s_are_never_saved(model):
    shelf = Shelf()
    job = SimpleNamespace(model=model, workers=Told(others=(0, 1, 2)))
    with pytest.raises(RuntimeError, match=r"After step 7 the workers \[2, 3\] have other weights"):
        chief.save(shelf, 7, job, None)
    assert shelf.asked == []
