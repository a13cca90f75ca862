"""A job's step: what of its settings goes into it."""

from dataclasses import replace

import pytest

from tests.trainer.conftest import HARDWARE, settings
from trainer import assembly, tracing
from trainer.data import BALANCED


@pytest.fixture(scope="module")
def jobs(data_dir):
    def job(precision="float32", **optimizer):
        given = settings(data_dir)
        given = replace(
            given,
            optimizer=replace(given.optimizer, **optimizer),
            run=replace(given.run, precision=precision),
        )
        return assembly.begin(given, HARDWARE)

    return job


def test_only_float16_has_a_loss_scale(jobs):
    assert tracing.training(jobs()).micro_batch.loss_scale is None
    assert tracing.training(jobs("float16")).micro_batch.loss_scale is not None


def test_averages_are_of_all_that_training_changes(jobs):
    assert tracing.training(jobs()).averages is None
    job = jobs(ema_decay=0.9)
    averages = tracing.training(job).averages
    changing = [v for v in job.model.variables if v.name != "seed_generator_state"]
    assert len(averages.layer.variables) == len(changing)


def test_class_weights_are_those_of_the_records(jobs):
    job = jobs(class_weights=BALANCED)
    fair = 160 / 3
    counts = job.manifests["train"].records_per_class
    assert job.definition.class_weights == tuple(fair / count for count in counts)
    assert tracing.training(job).micro_batch._class_weights == job.definition.class_weights
