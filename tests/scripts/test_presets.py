"""Every preset is a run: it is parsed, planned as it stands, and makes steps on tiny images."""

import dataclasses
import json

import numpy as np
import pytest
from absl.flags import FlagValues

from input.prepare.config import WriteConfig
from input.prepare.writer import write
from scripts import flags
from tests.conftest import ROOT
from trainer import forecast, loop
from trainer.config import Config, Hardware

PRESETS = sorted((ROOT / "scripts" / "presets").glob("*.flags"))
# What stands in for the sizes that a preset is for, and for what needs a network.
TINY = {"image_size": 32, "global_batch_size": 12, "micro_batch_size": 6}
EPOCHS = 1
SMALL = ("demo", "fashion_mnist")  # for a CPU; the others take up to a minute to trace


def records(folder, count: int, split: str):
    """Noise of three classes, 32 pixels, raw."""
    random = np.random.default_rng(0)
    np.savez(
        folder / "images.npz",
        images=random.integers(0, 256, (count, 32, 32, 3), np.uint8),
        labels=np.arange(count) % 3,
    )
    out = folder / "records"
    images = str(folder / "images.npz")
    write(WriteConfig(images=images, out=str(out), split=split, encoding="raw"))
    return out


@pytest.fixture(scope="module")
def many_records(tmp_path_factory):
    """As many as the largest step takes."""
    return records(tmp_path_factory.mktemp("many"), 4200, "train:0.98,validation:0.02")


@pytest.fixture(scope="module")
def few_records(tmp_path_factory):
    """24 to train on, 12 to evaluate on."""
    return records(tmp_path_factory.mktemp("few"), 36, "train:2/3,validation:1/3")


def config_of(path, **changes) -> Config:
    values = FlagValues()
    flags.define(Config, values)
    flags.parse(["samestep-train", f"--flagfile={path}"], values)
    for name, value in changes.items():
        values[name].value = value
    return flags.read(Config, values)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_what_it_is_for(path):
    comment = " ".join(
        line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("#")
    )
    if path.stem in SMALL:
        return
    assert "Expected top-1" in comment
    assert "Meant for" in comment
    assert "arXiv:" in comment


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_plan_of_one_run_on_all_its_devices(path, many_records):
    """On each number of devices that it divides among, 8 of them where it is for GPUs."""
    config = config_of(path, data_dir=str(many_records))
    found = forecast.forecast(config)
    counts = found.plan.replica_counts
    assert counts[:2] == [1, 2]
    assert 8 in counts or path.stem in ("fashion_mnist", "finetune")
    assert found.plan.micro_batches == max(counts)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem in SMALL else pytest.mark.presets, id=path.stem)
        for path in PRESETS
    ],
)
def test_a_preset_makes_steps(path, few_records, tmp_path):
    """Two, and an evaluation."""
    config = config_of(
        path,
        data_dir=str(few_records),
        run_dir=str(tmp_path),
        epochs=EPOCHS,
        init_weights="",
        intra_op_threads=2,
        **TINY,
    )
    state = loop.fit(config, Hardware(virtual_cpus=1))
    assert state.step == 2
    assert state.evaluation is not None and state.evaluation.images == 12
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["train/skipped_steps"] == 0
    assert dataclasses.asdict(config)["run"]["epochs"] == EPOCHS
