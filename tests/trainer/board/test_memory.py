"""Memory as the system counts it."""

import numpy as np

from trainer.board import memory


def test_what_is_taken_is_seen():
    before = memory.used()["memory/process_mib"]
    taken = np.ones((64, memory.MIB), np.uint8)
    assert 40 < memory.used()["memory/process_mib"] - before < 200
    assert taken.any()
