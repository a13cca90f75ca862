"""Clock and shared memory: what matters to a run is a warning, what does not is not."""

import os
from types import SimpleNamespace

import pytest

from trainer.checks import machine
from trainer.errors import TrainerError


@pytest.fixture(params=[0, machine.TIME_ERROR])
def synchronised(request, monkeypatch) -> bool:
    kernel = SimpleNamespace(adjtimex=lambda times: request.param)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: kernel)
    return request.param == 0


@pytest.mark.parametrize("machines", [1, 2])
def test_an_unsynchronised_clock_matters_to_several_machines(synchronised, machines):
    found = machine.clock(machines)
    assert found.verdict == ("warning" if machines > 1 and not synchronised else "ok")
    assert ("kept by NTP" in found.found) == synchronised


def test_a_clock_before_the_code_is_a_warning():
    found = machine.clock(1, now=86_400 * 365)
    assert found.verdict == "warning"
    assert found.found.startswith("1971-01-01") or found.found.startswith("1970-12-31")
    assert "timedatectl set-ntp true" in found.found


def test_the_kernel_is_asked():
    assert machine.clock(1).verdict == "ok"


@pytest.mark.parametrize(
    ("free", "gpus", "workers", "verdict"),
    [
        (2**30, 8, 1, "ok"),
        (2**26, 8, 1, "warning"),
        (2**26, 1, 2, "warning"),
        (2**26, 1, 1, "ok"),
        (2**26, 0, 2, "ok"),
    ],
)
def test_shared_memory_matters_to_several_gpus(monkeypatch, free, gpus, workers, verdict):
    blocks = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(machine.os, "statvfs", lambda folder: blocks)
    monkeypatch.setattr(machine.nvidia, "driver_version", lambda: "550" if gpus else None)
    monkeypatch.setattr(machine.nvidia, "cards", lambda: [object()] * gpus)
    found = machine.shared_memory(workers)
    assert found.verdict == verdict
    assert f"{free >> 20:,} MiB free" in found.found
    assert ("--shm-size=1g" in found.found) == (verdict == "warning")


def test_no_shared_memory_at_all_is_said(tmp_path, monkeypatch):
    def unknown():
        raise TrainerError("nvidia-smi fails.")

    monkeypatch.setattr(machine.nvidia, "driver_version", lambda: "550")
    monkeypatch.setattr(machine.nvidia, "cards", unknown)
    found = machine.shared_memory(1, tmp_path / "none")
    assert found.verdict == "warning"
    assert found.found.startswith(f"{tmp_path / 'none'}: {os.strerror(2)}; ")
