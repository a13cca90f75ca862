"""Names of other frameworks lead to flags that are there."""

import pytest

from input.foundation.settings import settings
from input.prepare.config import IndexConfig, WriteConfig
from scripts import flags, foreign
from scripts.benchmarks.config import BenchmarkConfig
from scripts.evaluate import EvaluateConfig
from scripts.export import ExportConfig
from tests.scripts.conftest import parsed
from trainer.config import Config, Hardware
from trainer.launch.config import LaunchConfig

TRAIN = (Config, Hardware)
OTHERS = (WriteConfig, IndexConfig, ExportConfig, EvaluateConfig, LaunchConfig, BenchmarkConfig)
DEFINED = [each.name for own in flags.sections((*TRAIN, *OTHERS)).values() for each in own]


def test_every_row_leads_to_a_flag_of_ours_and_away_from_one_that_is_not():
    assert set(foreign.THEIRS) <= set(DEFINED)
    of_a_run = {each.name for group in Config.__annotations__.values() for each in settings(group)}
    theirs = {name for ours in of_a_run for name in foreign.THEIRS.get(ours, "").split()}
    assert not theirs & of_a_run
    assert not foreign.NONE_NEEDED.keys() & of_a_run


@pytest.mark.parametrize(
    ("argument", "ours"),
    [
        ("--lr=0.1", "learning_rate"),
        ("--batch_size=64", "global_batch_size"),
        ("--batch-size=64", "global_batch_size"),
        ("-b=64", "global_batch_size"),
        ("--bs=64", "global_batch_size"),
        ("--wd=0.1", "weight_decay"),
        ("--num_gpus=2", "gpus"),
        ("--num_epochs=3", "epochs"),
        ("--arch=resnet50", "model"),
        ("--data=x", "data_dir"),
        ("--output_dir=x", "run_dir"),
        ("--pretrained", "init_weights"),
        ("--patience=3", "stop_after"),
    ],
)
def test_the_right_flag_is_named(argument, ours):
    name = argument.strip("-").partition("=")[0]
    with pytest.raises(flags.FlagError) as raised:
        parsed([argument], *TRAIN)
    assert str(raised.value) == f"There is no flag --{name}: here it is --{ours}."
    assert raised.value.about == ours


@pytest.mark.parametrize(
    ("config_type", "argument", "ours"),
    [
        (WriteConfig, "--data_dir=x", "images"),
        (WriteConfig, "--output=x", "out"),
        (IndexConfig, "--data_dir=x", "dir"),
        (ExportConfig, "--output_dir=x", "run_dir"),
        (LaunchConfig, "--nnodes=2", "workers"),
        (EvaluateConfig, "--data=x", "data_dir"),
    ],
)
def test_a_command_is_led_to_its_own_flags(config_type, argument, ours):
    with pytest.raises(flags.FlagError, match=f"here it is --{ours}"):
        parsed([argument], config_type)


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("--precision=fp16", "float16"),
        ("--precision=bf16", "bfloat16"),
        ("--schedule=MultiStep", "step"),
        ("--optimizer=AdamW", "adamw"),
    ],
)
def test_the_right_word_is_named(argument, word):
    with pytest.raises(flags.FlagError, match=rf" Did you mean {word}\b"):
        parsed([argument], *TRAIN)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--resume", "a run resumes by itself: give the same command"),
        ("--num_workers=8", "reading and decoding take the cores that are there"),
        ("--gradient_accumulation_steps=2", "--micro_batch_size"),
        ("--device=cuda", "every visible GPU is used"),
    ],
)
def test_what_needs_no_flag_is_said(argument, said):
    with pytest.raises(flags.FlagError) as raised:
        parsed([argument], *TRAIN)
    assert ", and none is needed: " in str(raised.value)
    assert said in str(raised.value)
