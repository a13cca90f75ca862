"""Images that do not decode lose their slots, and the others of their micro-batch keep theirs."""

import numpy as np
import pytest

from input import undecodable
from input.config import ResolvedInput
from input.errors import BadRecordError
from input.views import micro_batch
from tests.input.conftest import undecodable_png

CONFIG = ResolvedInput(global_batch_size=8, micro_batch_size=4, image_size=12)


def slots(reader, records):
    indices = np.array(records)
    uniforms = micro_batch.training_uniforms(CONFIG, 0, 0, indices)
    return micro_batch.read_slots(reader, indices, uniforms)


def test_only_the_slots_of_images_that_do_not_decode_are_emptied(records):
    ((bad, _),) = undecodable_png(records).items()
    reader = records.reader(max_bad_records=1)
    others = [index for index in range(4) if index != bad][:3]
    read = slots(reader, [others[0], bad, *others[1:]])

    def views(one):
        return micro_batch.training_views(CONFIG, reader, one)

    left = undecodable.left_out(views, reader, read)
    assert left.weights.numpy().tolist() == [1, 0, 1, 1]
    assert left.images.numpy()[[0, 2, 3]].tolist() == read.images.numpy()[[0, 2, 3]].tolist()
    assert list(reader.bad_records) == [bad]
    assert not views(left).numpy()[1].any()
    with pytest.raises(BadRecordError):
        undecodable.left_out(views, records.reader(max_bad_records=0), read)
