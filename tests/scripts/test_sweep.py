"""A sweep: its command line, its runs as processes, its table."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from input.config import InputConfig
from models.config import ModelConfig
from scripts import sweep
from scripts.sweep import Outcome, separate
from tests.conftest import ROOT, error
from tests.scripts.conftest import python
from trainer import loop, metrics
from trainer.config import Config, Hardware, RunConfig
from trainer.recipe import OptimizerConfig


def variants(*arguments: str) -> list[sweep.Variant]:
    lists, argv = separate(["samestep-sweep", *arguments])
    return list(sweep.variants(lists, argv[1:]))


def test_lists_are_told_from_texts_with_commas():
    lists, argv = separate(
        [
            *("samestep-sweep", "--global_batch_size=64,128", "--seed=3", "-model=cnn,resnet18"),
            *("--freeze=a{1,2}", "--data_dir=a,b", "--optimizer=sgd,adamw", "--nosuch=1,2"),
        ]
    )
    assert lists == {
        "global_batch_size": ["64", "128"],
        "model": ["cnn", "resnet18"],
        "optimizer": ["sgd", "adamw"],
    }
    assert argv == [
        *("samestep-sweep", "--global_batch_size=64", "--seed=3", "--model=cnn"),
        *("--freeze=a{1,2}", "--data_dir=a,b", "--optimizer=sgd", "--nosuch=1,2"),
    ]


def test_every_combination_is_a_run(tmp_path):
    (tmp_path / "own.flags").write_text("--epochs=3\n--nesterov=false\n")
    found = variants(
        *(f"--flagfile={tmp_path}/own.flags", "--global_batch_size=64,128", "--seed=0,1"),
        *("--out=x", "--virtual_cpus=2"),
    )
    assert [variant.name for variant in found] == [
        f"global_batch_size={images},seed={seed}" for images in (64, 128) for seed in (0, 1)
    ]
    assert found[3].flags == [
        *("--global_batch_size=128", "--nonesterov", "--epochs=3", "--seed=1", "--virtual_cpus=2")
    ]
    assert (found[3].config.input.global_batch_size, found[3].config.run.epochs) == (128, 3)


def test_a_name_can_be_a_folder():
    (first, _) = variants("--model=a/b.py:net,cnn")
    assert first.name == "model=a_b.py:net"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--global_batch_size=64"], "Nothing is varied: give a list"),
        (["--seed=1,2,1"], "--seed=1,2,1 has a value twice"),
        (["--global_batch_size=64,0"], "--global_batch_size must be at least 1, not 0"),
        (["--global_batch_size=64,100", "--micro_batch_size=32"], "100 images a step do not"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_any_run(arguments, words):
    assert words in error(variants, *arguments)


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(sweep.flags.FlagError, match="global_batch_size"):
        variants("--global_batch_size=64,many")


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run, and its config as the command line gives it."""
    folder = tmp_path_factory.mktemp("run")
    config = Config(
        InputConfig(data_dir=str(data_dir), global_batch_size=32, micro_batch_size=8),
        ModelConfig(),
        OptimizerConfig(),
        RunConfig(run_dir=str(folder), epochs=2, log_every_steps=2, intra_op_threads=2),
    )
    loop.fit(config, Hardware())
    return folder, config


def changed(config: Config, **run) -> Config:
    return replace(config, run=replace(config.run, **run))


def test_a_run_is_finished_with_its_last_epoch(run, tmp_path):
    folder, config = run
    assert sweep.finished(folder, config)
    assert sweep.finished(folder, changed(config, intra_op_threads=None))
    assert not sweep.finished(folder, changed(config, epochs=3))
    assert not sweep.finished(folder, changed(config, seed=1))  # samestep-train refuses it
    assert not sweep.finished(tmp_path, config)


def test_an_outcome_is_read_from_the_run(run):
    folder, _ = run
    found = sweep.outcome(folder, {"seed": "0"})
    state = [line for line in metrics.read(folder) if "validation/accuracy" in line][-1]
    assert found.accuracy == state["validation/accuracy"]
    assert found.global_batch_size == 32
    assert found.learning_rate == pytest.approx(0.004 * (32 / 256) ** 0.5)
    # Lines at steps 2, 4, 5 and so on: each line's time is of its own steps.
    lines = [line for line in metrics.read(folder) if "seconds_per_step" in line]
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 8, 10]
    seconds = [line["seconds_per_step"] for line in lines]
    spans = [2, 2, 1, 1, 2, 2]
    assert found.seconds == pytest.approx(sum(a * b for a, b in zip(seconds, spans, strict=True)))


OUTCOMES = [
    Outcome({"global_batch_size": "64", "seed": "0"}, 64, 0.002, 0.98, 1234.5, 2.0),
    Outcome({"global_batch_size": "128", "seed": "0"}, 128, 0.00283, 0.97, 1000.0, 3.0),
    Outcome({"global_batch_size": "64", "seed": "1"}, 64, 0.002, 0.99, 1300.0, 4.0),
]


def test_the_table_has_what_is_varied_and_what_was_reached():
    columns, rows = sweep.table(OUTCOMES)
    assert columns == [
        *("images a step", "learning rate", "seed", "accuracy", "images/s", "training time")
    ]
    assert rows[1] == ["128", "0.00283", "0", "0.9700", "1,000", "3.0 s"]


def test_seeds_are_on_one_curve():
    axis, (series,) = sweep.curves(OUTCOMES)
    assert (axis, series.label) == ("global_batch_size", "")
    assert [point.x for point in series.points] == ["64", "128", "64"]


def varied(*values: dict[str, str]) -> list[Outcome]:
    return [OUTCOMES[0]._replace(values=each) for each in values]


def test_the_axis_is_what_has_most_values_and_the_rest_has_curves_of_its_own():
    rates = [
        {"learning_rate": rate, "global_batch_size": images}
        for images in ("64", "512")
        for rate in ("0.1", "0.2", "0.3")
    ]
    axis, series = sweep.curves(varied(*rates))
    assert axis == "learning_rate"
    assert [each.label for each in series] == ["global batch size 64", "global batch size 512"]
    axis, series = sweep.curves(varied(*rates[:2], *rates[3:5]))
    assert axis == "global_batch_size"
    assert [each.label for each in series] == ["learning rate 0.1", "learning rate 0.2"]


def test_seeds_alone_are_the_axis():
    axis, (series,) = sweep.curves(varied({"seed": "0"}, {"seed": "1"}))
    assert (axis, [point.x for point in series.points]) == ("seed", ["0", "1"])


def test_a_sweep_is_stopped_goes_on_and_names_what_fails(data_dir, tmp_path):
    """512 images are more than there are records."""
    arguments = [
        *("-m", "scripts.sweep", f"--out={tmp_path}/sweep", f"--data_dir={data_dir}"),
        *("--global_batch_size=32,512", "--epochs=2", "--log_every_steps=1"),
    ]
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as stopped:
        line = next(line for line in stopped.stdout if line.startswith("epoch 1/2"))
        stopped.send_signal(signal.SIGTERM)
        _, said = stopped.communicate()
    assert "step 1/" in line
    assert stopped.returncode == 75, said
    assert said == "The sweep was stopped. The same command goes on.\n"
    assert not (tmp_path / "sweep" / "sweep.md").exists()

    again = python(*arguments)
    assert again.returncode == 2
    assert "a new run" not in again.stdout  # it is resumed; the other one comes to no card
    assert "error: 1 of 2 runs have failed." in again.stderr
    assert "global_batch_size=512: exit code 2, A step of 512 images is not filled" in again.stderr
    shown = (tmp_path / "sweep" / "sweep.md").read_text()
    assert [line[:5] for line in shown.splitlines()[2:]] == ["| 32 ", "", "![acc"]
    with Image.open(tmp_path / "sweep" / "sweep.png") as picture:
        assert picture.format == "PNG"

    kept = python(*arguments)
    assert "global_batch_size=32: kept, it is finished" in kept.stdout
    assert kept.returncode == 2
    assert (tmp_path / "sweep" / "sweep.md").read_text() == shown


def test_a_run_dir_is_refused():
    done = python("-m", "scripts.sweep", "--out=x", "--seed=1,2", "--run_dir=y")
    assert done.returncode == 2
    assert "--run_dir is of one run: set --out" in done.stderr
