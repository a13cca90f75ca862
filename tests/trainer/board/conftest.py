"""What the board's tests share: two runs, and a real TensorBoard that is asked over HTTP."""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event

from input import records
from tests.conftest import ROOT
from tests.trainer.conftest import settings
from trainer import loop
from trainer.config import Config, Hardware


def events(folder: Path) -> list[Event]:
    """All events of a folder, files in their order; each record must be sound."""
    found = []
    for path in sorted(folder.glob("*.samestep")):
        content = path.read_bytes()
        while content:
            length = records.HEADER_BYTES + records.FOOTER_BYTES
            length += records.payload_bytes(content[: records.HEADER_BYTES])
            found.append(Event.FromString(records.unframe(content[:length])))
            content = content[length:]
    return found


def steps(folder: Path) -> list[int]:
    """Of the events that have something to show."""
    return [event.step for event in events(folder) if event.HasField("summary")]


def accumulated(folder: Path) -> EventAccumulator:
    """TensorBoard's own reader in Python; another Reload() reads what has come since."""
    return EventAccumulator(str(folder)).Reload()


def watched(data_dir: Path, run_dir: Path) -> Config:
    """As `settings`, with everything that the board can show."""
    config = settings(data_dir, run_dir, histogram_every=5, profile_steps="6:8", log_every_steps=1)
    return replace(config, optimizer=replace(config.optimizer, ema_decay=0.5))


class Server:
    """A TensorBoard on a folder of runs."""

    def __init__(self, url: str):
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        return json.loads(self.raw(f"data/plugin/{path}?{urlencode(query)}"))

    def post(self, path: str, **body: Any) -> Any:
        return json.loads(self.raw(f"data/plugin/{path}", json.dumps(body).encode()))

    def raw(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            return answer.read()


@pytest.fixture(scope="session")
def runs(data_dir, finished, tmp_path_factory) -> Path:
    """`first`, with everything that can be shown, and `second`, the run of `finished`."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(finished.run_dir, folder / "second")
    loop.fit(watched(data_dir, folder / "first"), Hardware(virtual_cpus=1))
    return folder


@pytest.fixture(scope="session")
def server(runs) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "trainer" / "board" / "serving.py"), str(runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().strip()
        yield Server(url)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
