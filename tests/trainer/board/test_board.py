"""What goes to which run, what is done again, and what cannot be written."""

from tests.trainer.board.conftest import accumulated, events, steps
from trainer.board import scalars
from trainer.board.board import Board


def board(folder, first_step: int = 0, said: list[str] | None = None) -> Board:
    return Board(folder, first_step, [].append if said is None else said.append)


def test_numbers_go_to_their_runs(tmp_path):
    shown = board(tmp_path)
    shown.scalars(3, {"train/loss": 0.5, "time/input": 0.1})
    shown.scalars(4, {"averages": "ab12", "train/loss": float("nan")})  # no points of a curve
    shown.scalars(5, {"validation/loss": 0.25, "validation_of_averages/loss": 0.125})
    shown.close(finished=True)
    tags = {run: accumulated(tmp_path / run).Tags()["tensors"] for run in scalars.RUNS}
    assert list(tags.values()) == [["loss", "time/input"], ["loss"], ["loss"]]
    assert steps(tmp_path / "train") == [3]


def test_what_is_done_again_is_there_once(tmp_path):
    """As in metrics.jsonl: training up to the checkpoint stays, its evaluation is given anew."""
    shown = board(tmp_path)
    for step in (5, 10, 15):
        shown.scalars(step, {"train/loss": 1.0})
        shown.scalars(step, {"validation/loss": 1.0})
    shown.close(finished=False)
    shown = board(tmp_path, first_step=10)
    shown.close(finished=False)
    assert steps(tmp_path / "train") == [5, 10]
    assert steps(tmp_path / "validation") == [5]


def test_a_launch_replaces_what_the_one_before_said(tmp_path):
    for title in ("one", "two"):
        shown = board(tmp_path, first_step=7)
        shown.card(title, [("a", "b")])
        shown.close(finished=False)
    (event,) = [each for each in events(tmp_path) if each.HasField("summary")]
    assert (event.step, event.summary.value[0].tag) == (7, "cards/two")


def test_what_cannot_be_written_is_said_once(tmp_path):
    (tmp_path / "train").write_text("no folder")
    said = []
    shown = board(tmp_path, said=said)
    for step in (1, 2):
        shown.scalars(step, {"train/loss": 1.0, "validation/loss": 1.0})
    (tmp_path / "train").unlink()
    shown.scalars(3, {"train/loss": 1.0})
    shown.close(finished=True)
    assert len(said) == 1
    assert said[0].startswith(f"events for TensorBoard cannot be written: {tmp_path}/train")
    assert "the training goes on" in said[0]
    assert steps(tmp_path / "train") == [3]
    assert steps(tmp_path / "validation") == [1, 2]
