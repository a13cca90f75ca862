"""What NVIDIA's driver says about the cards of this machine: nvidia-smi and /proc. No TensorFlow.

nvidia-smi numbers cards by their place on the PCI bus; CUDA, and so TensorFlow, puts the fastest
first. The two agree where all cards are alike, and with CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

import os
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from trainer.errors import TrainerError

SECONDS = 60  # nvidia-smi takes some seconds where the driver is not kept loaded
VERSION_FILE = Path("/proc/driver/nvidia/version")
QUERY = ("--query-gpu=index,memory.free,memory.total", "--format=csv,noheader,nounits")


class Card(NamedTuple):
    """Of one physical GPU."""

    number: int  # nvidia-smi's
    free_mebibytes: int
    total_mebibytes: int


def cards() -> list[Card]:
    """The cards that this process may use, by nvidia-smi. Raises TrainerError without an answer."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # numbers or UUIDs; -i takes both
    which = (f"--id={visible}",) if visible else ()
    return parse_cards(_nvidia_smi(*which, *QUERY))


def parse_cards(text: str) -> list[Card]:
    """Lines as "0, 78456, 81559" -> Cards. Raises TrainerError where one is anything else."""
    try:
        return [Card(*map(int, line.split(", "))) for line in text.splitlines() if line.strip()]
    except (ValueError, TypeError):
        # A card that is split by MIG has [N/A] or [Insufficient Permissions] for its memory.
        raise TrainerError(
            f"nvidia-smi does not say how much memory its cards have: {' '.join(text.split())!r}."
        ) from None


def peer_access() -> dict[tuple[int, int], str]:
    """Pair of cards, in nvidia-smi's numbers -> OK, or why one cannot read the other's memory.

    Raises TrainerError where nvidia-smi does not answer.
    """
    return parse_peer_access(_nvidia_smi("topo", "-p2p", "r"))


def parse_peer_access(text: str) -> dict[tuple[int, int], str]:
    """What nvidia-smi topo -p2p r prints -> (0, 1): "OK", "CNS (Chipset not supported)", ..

    Both directions must be OK; else the pair has the first that is not.
    """
    legend = dict(re.findall(r"^\s*([A-Z]+)\s+= (.+?)\s*$", text, re.MULTILINE))
    rows = re.findall(r"^\s*GPU(\d+)((?:\s+[A-Z]+)+)\s*$", _plain(text), re.MULTILINE)
    cells = {int(card): row.split() for card, row in rows}
    columns = sorted(cells)
    status = {(a, b): cell for a in columns for b, cell in zip(columns, cells[a], strict=False)}
    found = {}
    for a, b in combinations(columns, 2):
        ways = [status.get((a, b), "U"), status.get((b, a), "U")]
        worst = next((way for way in ways if way != "OK"), "OK")
        found[a, b] = worst if worst == "OK" else f"{worst} ({legend.get(worst, 'unknown')})"
    return found


def driver_version() -> str | None:
    """Of the kernel module that is loaded: 550.54.15."""
    try:
        return parse_driver_version(VERSION_FILE.read_text())
    except OSError:
        return None


def parse_driver_version(text: str) -> str | None:
    """The content of VERSION_FILE -> 550.54.15; NVIDIA's and the open module name it alike."""
    found = re.search(r"Kernel Module\s+(?:for \w+\s+)?(\d+(?:\.\d+)+)", text)
    return found[1] if found else None


def _plain(text: str) -> str:
    """Without the codes that underline nvidia-smi's headings."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def _nvidia_smi(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stdout", None) or str(error)  # nvidia-smi's errors are on stdout
        reason = " ".join(str(said).split()).rstrip(".")
        raise TrainerError(
            f"nvidia-smi, which knows this machine's GPUs, fails: {reason}."
        ) from None
    return done.stdout
