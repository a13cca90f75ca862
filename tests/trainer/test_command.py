"""The command that makes a run again gives back its settings, through a shell."""

import dataclasses
import shlex
import subprocess

from absl.flags import FlagValues

from input import order
from scripts import flags
from trainer import command, recipe, run_dir
from trainer.config import Config, ResolvedConfig, ResolvedRun


def resolved(config: Config) -> ResolvedConfig:
    inputs = order.resolve(config.input, 32)
    run = ResolvedRun(**{**vars(config.run), "intra_op_threads": config.run.intra_op_threads or 3})
    optimizer = recipe.resolve(config.optimizer, inputs.global_batch_size, run.epochs)
    return ResolvedConfig(inputs, config.model, optimizer, run)


def test_typed_into_a_shell_it_is_the_same_run(tmp_path):
    config = Config.of(
        data_dir='it\'s a $HOME `ls` "folder"',
        run_dir="first",
        model="my nets/net.py:build",
        global_batch_size=96,
        mixup=0.1 + 0.2,
        max_bad_records=2,
        nesterov=False,
        optimizer="sgd",
        deterministic=True,
        class_weights="weights; rm -rf x.json",
        stop_after=3,
    )
    first = resolved(config)
    text = command.reproduction(first, tmp_path / "second run")
    assert text.startswith("samestep-train ")
    assert "\n" not in text
    script = text.replace("samestep-train", "printf '%s\\0'", 1)
    typed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert typed.split("\0")[:-1] == shlex.split(text)[1:]
    flag_values = FlagValues()
    flags.define(Config, flag_values)
    flags.parse(["samestep-train", *typed.split("\0")[:-1]], flag_values)
    again = flags.read(Config, flag_values)
    assert resolved(again).run.run_dir == str(tmp_path / "second run")
    run = dataclasses.replace(resolved(again).run, run_dir="first")
    assert dataclasses.replace(resolved(again), run=run) == first
    assert run_dir.fill_in(again, first) == again, "nothing that makes the run is left unset"
