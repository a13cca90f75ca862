"""Every record counts once, on any number of replicas, and the figures are NumPy's."""

import numpy as np
import pytest
from tests.conftest import CLASSES, draw

import models.build
from input.arrays import ArrayReader
from input.config import InputConfig
from models.config import ModelConfig
from trainer import evaluate
from trainer.checkpoint import Checkpoints
from trainer.evaluate import Result

M = 8
INPUT = InputConfig(global_batch_size=32, micro_batch_size=M, image_size=16)


def reader(count: int) -> ArrayReader:
    random = np.random.default_rng(count)
    labels = random.integers(0, len(CLASSES), count)
    return ArrayReader(np.stack([draw(label, random) for label in labels]), labels, CLASSES)


@pytest.fixture(scope="module")
def built(strategies):
    """Replicas -> a cnn with the same weights."""
    found = {}
    for replicas, strategy in strategies.items():
        with strategy.scope():
            found[replicas] = models.build.build(
                ModelConfig("cnn"), input_shape=(16, 16, 3), num_classes=len(CLASSES), seed=3
            )
    return found


@pytest.mark.parametrize("count", [1, M - 1, M, M + 1, 97])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_evaluation_is_exact(strategies, built, count, replicas):
    data = reader(count)
    evaluation = evaluate.build(strategies[replicas], built[replicas], INPUT, data)
    result = evaluation()

    logits = built[1](np.repeat(data.pixels, 3, axis=-1), training=False).numpy()
    labels = data.read(np.arange(count)).labels
    logits = logits.astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(count), labels]
    assert result.images == result.records == count
    assert result.correct == (logits.argmax(axis=1) == labels).sum()
    assert result.accuracy == pytest.approx((logits.argmax(axis=1) == labels).mean(), abs=1e-6)
    assert result.loss == pytest.approx(losses.mean(), abs=1e-6)
    assert evaluation() == result, "the second pass starts where the first did"


def test_replicas_agree_to_the_bit(strategies, built):
    data = reader(97)
    results = {evaluate.build(strategies[n], built[n], INPUT, data)() for n in (1, 2, 4)}
    assert len(results) == 1


def test_before_saving_equals_after_loading(strategies, built, tmp_path):
    data = reader(97)
    saved = evaluate.build(strategies[2], built[2], INPUT, data)()
    Checkpoints(tmp_path, built[2]).save(7)
    with strategies[4].scope():
        other = models.build.build(
            ModelConfig("cnn"), input_shape=(16, 16, 3), num_classes=len(CLASSES), seed=4
        )
    evaluation = evaluate.build(strategies[4], other, INPUT, data)
    assert evaluation() != saved
    assert Checkpoints(tmp_path, other).restore().step == 7
    assert evaluation() == saved


def test_a_model_that_is_not_finite_has_no_loss(strategies, built):
    weights = built[1].get_weights()
    built[1].set_weights([w * np.nan for w in weights])
    result = evaluate.build(strategies[1], built[1], INPUT, reader(9))()
    built[1].set_weights(weights)
    assert np.isnan(result.loss)


def test_how_a_result_reads():
    assert str(Result(0.5, 0.9712, 971, 1000, 1000)) == "accuracy 0.9712 on 1000/1000"
    assert str(Result(0.5, 0.5, 1, 2, 3)) == "accuracy 0.5000 on 2/3 (1 bad records)"
