"""GPUs are divided evenly, or as asked, or not at all."""

import pytest

from trainer.errors import TrainerError
from trainer.launch import gpus


def test_gpus_are_divided():
    assert gpus.divide_gpus(["0", "1", "2", "3"], 2, None) == [["0", "1"], ["2", "3"]]
    assert gpus.divide_gpus(["4", "5", "6"], 2, 1) == [["4"], ["5"]]
    assert gpus.divide_gpus([], 3, None) == [[], [], []]
    for found, workers, each in ((["0"], 2, 1), (["0", "1", "2"], 2, None), ([], 1, 1)):
        with pytest.raises(TrainerError, match=f"{len(found)} GPUs? cannot be divided evenly"):
            gpus.divide_gpus(found, workers, each)
    assert gpus.visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-a,3"}) == ["GPU-a", "3"]
    assert gpus.visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
