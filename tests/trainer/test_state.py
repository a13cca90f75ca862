"""What a checkpoint says about itself, and how an evaluation reads."""

import math

import pytest

from input.foundation import typed_json
from trainer.state import EvaluationResult, State


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (
            EvaluationResult(0.5, 971, 1000, 1000),
            "accuracy 0.9710 on 1000/1000, loss 0.500000",
        ),
        (
            EvaluationResult(0.5, 1, 2, 3),
            "accuracy 0.5000 on 2/3 (1 bad record), loss 0.500000",
        ),
        (
            EvaluationResult(None, 3, 9, 9),
            "accuracy 0.3333 on 9/9, loss not finite",
        ),
        (
            EvaluationResult(None, 0, 0, 3),
            "accuracy unknown on 0/3 (3 bad records), loss not finite",
        ),
    ],
)
def test_how_a_result_reads(result, said):
    assert str(result) == said


@pytest.mark.parametrize(
    "evaluation",
    [None, EvaluationResult(0.1, 9, 10, 10), EvaluationResult(None, 0, 0, 3)],
)
def test_a_state_is_the_same_after_json(evaluation):
    state = State(7, "ef" * 32, "ab" * 32, {"weights.index": "cd" * 32}, evaluation)
    text = typed_json.dump(state)
    assert typed_json.loads(State, text.encode(), "state.json") == state


def test_a_loss_that_is_not_finite_has_no_place_in_json():
    """So an EvaluationResult has None for it."""
    result = EvaluationResult(math.nan, 1, 2, 2)
    with pytest.raises(ValueError, match="JSON compliant"):
        typed_json.dump(State(7, "ef", "ab", {}, result))
