"""Learning rates of a network's parts: which part a weight is in, and what its scale does."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.steps import INPUT, Training, assert_same, build, plain
from trainer import rates

INPUTS = replace(INPUT, image_size=8)


def by_path(model, **settings):
    found = rates.scales(model, **{"head": 1.0, "layer_decay": 1.0} | settings)
    return dict(zip((v.path for v in model.trainable_variables), found, strict=True))


def test_every_block_has_its_own_rate():
    found = by_path(build("resnet18")(), layer_decay=0.5)
    assert found["logits/kernel"] == found["logits/bias"] == 1.0
    assert found["stage4_block2_2_conv/kernel"] == found["stage4_block2_1_norm/gamma"] == 0.5
    assert found["stage1_block1_1_conv/kernel"] == 0.5**8
    assert found["stem_conv/kernel"] == found["stem_norm/beta"] == 0.5**9


def test_only_the_head_has_its_scale():
    found = by_path(build("cnn", size=8)(), head=10.0)
    assert {path for path, scale in found.items() if scale == 10.0} == {
        "classifier/kernel",
        "classifier/bias",
    }
    assert set(found.values()) == {1.0, 10.0}


@pytest.mark.parametrize(
    ("name", "peak"), [("sgd", 0.004), ("adamw", 0.004), ("lars", 4.0), ("muon", 0.004)]
)
def test_a_scale_is_a_learning_rate(strategies, reader, name, peak):
    """Every weight at half of a rate: as all of them at half the rate."""
    settings = plain(optimizer=name, learning_rate=peak, nesterov=True, schedule="constant")

    def trained(strategy, rate, scale):
        own = replace(settings, learning_rate=rate)
        training = Training(
            strategy, reader, build("cnn", size=8), own, INPUTS, rate_scales=[scale] * 11
        )
        assert training.run(0, 3).applied.all()
        return training.state()

    whole, scaled = trained(strategies[1], peak / 2, 1.0), trained(strategies[1], peak, 0.5)
    different = trained(strategies[1], peak, 1.0)
    weights = [k for k in whole if k.endswith("/kernel")]
    for key in weights:
        np.testing.assert_allclose(scaled[key], whole[key], rtol=1e-4, atol=1e-6, err_msg=key)
    assert any(np.abs(different[key] - whole[key]).max() > 1e-4 for key in weights)
    assert_same(scaled, trained(strategies[2], peak, 0.5))
