"""What nvidia-smi and the driver print, as they print it, is read right."""

import pytest

from tests.conftest import error
from trainer.workers import nvidia
from trainer.workers.nvidia import Card

# Tabs and the underlined heading as nvidia-smi has them.
LEGEND = """
Legend:

  X    = Self
  OK   = Status Ok
  CNS  = Chipset not supported
  GNS  = GPU not supported
  TNS  = Topology not supported
  NS   = Not supported
  DR   = Disabled by regkey
  U    = Unknown
"""
ALL_OK = " \t\x1b[4mGPU0\tGPU1\tGPU2\x1b[0m\n GPU0\tX\tOK\tOK\n GPU1\tOK\tX\tOK\n GPU2\tOK\tOK\tX\n"
NO_CHIPSET = " \tGPU0\tGPU1\t\n GPU0\tX\tCNS\t\n GPU1\tCNS\tX\t\n"
SPACES = "        GPU0    GPU1\n GPU0   X       OK\n GPU1   DR      X\n"


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (ALL_OK, {(0, 1): "OK", (0, 2): "OK", (1, 2): "OK"}),
        (NO_CHIPSET, {(0, 1): "CNS (Chipset not supported)"}),
        (SPACES, {(0, 1): "DR (Disabled by regkey)"}),  # one direction is enough
        (" \tGPU0\n GPU0\tX\n", {}),
        ("No devices were found\n", {}),
    ],
)
def test_peer_access(matrix, expected):
    assert nvidia.parse_peer_access(matrix + LEGEND) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, 80994, 81559\n1, 451, 81559\n", [Card(0, 80994, 81559), Card(1, 451, 81559)]),
        ("", []),
    ],
)
def test_cards(text, expected):
    assert nvidia.parse_cards(text) == expected


@pytest.mark.parametrize("text", ["0, [N/A], [N/A]\n", "0, 15109\n", "No devices were found\n"])
def test_cards_without_memory_are_an_error(text):
    assert error(nvidia.parse_cards, text) == (
        f"nvidia-smi does not say how much memory its cards have: {text.strip()!r}."
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC "
            "2023\nGCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
            "535.104.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  "
            "(dvs-builder@U22-I3-B17-02-5)  Tue Sep 23 09:55:41 UTC 2025\n",
            "580.95.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  565.77  Release Build\n",
            "565.77",
        ),
        ("something else", None),
    ],
)
def test_driver_version(text, version):
    assert nvidia.parse_driver_version(text) == version


def test_no_driver_no_version(monkeypatch, tmp_path):
    monkeypatch.setattr(nvidia, "VERSION_FILE", tmp_path / "version")
    assert nvidia.driver_version() is None


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """Puts a program of that name on the path: a shell script."""

    def put(script: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


@pytest.mark.parametrize(
    ("visible", "asked"), [("", "--query-gpu"), ("2,GPU-8f1", "--id=2,GPU-8f1 --query-gpu")]
)
def test_only_the_cards_that_may_be_used_are_asked_for(nvidia_smi, monkeypatch, visible, asked):
    nvidia_smi(f'case "$*" in "{asked}"*) echo "2, 500, 1000";; *) exit 1;; esac')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert nvidia.cards() == [Card(2, 500, 1000)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo Failed to initialize NVML: Driver/library version mismatch; exit 18", "mismatch."),
        ("exec sleep 60", "timed out after 0.1 seconds."),
    ],
)
def test_an_nvidia_smi_that_fails_is_one_line(nvidia_smi, monkeypatch, script, reason):
    nvidia_smi(script)
    monkeypatch.setattr(nvidia, "SECONDS", 0.1 if "sleep" in script else 10)
    said = error(nvidia.peer_access)
    assert said.startswith("nvidia-smi, which knows this machine's GPUs, fails: ")
    assert said.endswith(reason)


def test_no_nvidia_smi_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "No such file or directory: 'nvidia-smi'" in error(nvidia.cards)
