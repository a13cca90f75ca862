"""A fingerprint is of every bit of every weight, and names none that did not change."""

import keras
import numpy as np

from tests.trainer.test_checkpoint import dense
from trainer.fingerprint import fingerprint, fingerprint_of, of_each


def test_fingerprint_sees_every_bit_but_no_seed():
    model, same = dense(), dense()
    keras.utils.set_random_seed(5)
    assert fingerprint(model) == fingerprint(same)
    for variable in same.variables:
        before = fingerprint(same)
        if variable.name == "seed_generator_state":
            variable.assign(variable + 1)
            assert fingerprint(same) == before
        else:
            changed = variable.numpy().ravel().view(np.int32)
            changed[-1] ^= 1
            variable.assign(changed.view(np.float32).reshape(variable.shape))
            assert fingerprint(same) != before


def test_each_weight_has_one_of_its_own():
    model = dense()
    kernel, bias = (v.path for v in model.trainable_variables)
    before = dict(of_each(model))
    assert list(before) == [kernel, bias]
    assert before[bias] == fingerprint_of([np.zeros(3, np.float32)])
    model.trainable_variables[1].assign([0.0, 1.0, 0.0])
    after = dict(of_each(model))
    assert [path for path in after if after[path] != before[path]] == [bias]
