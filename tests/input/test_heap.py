"""The heap keeps what images leave behind."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from input import heap
from tests.conftest import ROOT

# 32 MiB in blocks too small for mmap, freed: how much of them this process still holds.
KEPT = """
import ctypes
from pathlib import Path
from input.heap import keep_freed_pages

keep_freed_pages()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
SIZE, COUNT = 2**16, 512
blocks = (ctypes.c_void_p * COUNT)()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
for i in range(COUNT):
    blocks[i] = libc.malloc(SIZE)
    ctypes.memset(blocks[i], 1, SIZE)
used = resident() - before
for i in range(COUNT):
    libc.free(blocks[i])
print((resident() - before) / used)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's malloc only")
def test_freed_pages_stay_with_the_process():
    kept = subprocess.check_output([sys.executable, "-c", KEPT], cwd=ROOT, text=True)
    assert float(kept) > 0.9


def test_glibc_is_told_to_keep_them(monkeypatch):
    """Without this call it depends on the heap's last block whether pages stay."""
    calls = []
    library = SimpleNamespace(mallopt=lambda *setting: calls.append(setting))
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: library)
    heap.keep_freed_pages()
    assert calls == [
        (heap.TOP_PAD, 64 * 2**20),
        (heap.TRIM_THRESHOLD, 2**30),
        (heap.MMAP_MAX, 0),
    ]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    heap.keep_freed_pages()
