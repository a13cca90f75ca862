"""What a checkpoint says about itself: the content of its state.json."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation, over every record once."""

    loss: float | None  # mean cross entropy; None: not finite, which JSON does not have
    accuracy: float | None  # None: every record was bad
    correct: int
    images: int  # that counted: all but the bad ones
    records: int

    def __str__(self) -> str:
        bad = self.records - self.images
        note = f" ({bad} bad records)" if bad else ""
        loss = "not finite" if self.loss is None else f"{self.loss:.6f}"
        accuracy = "unknown" if self.accuracy is None else f"{self.accuracy:.4f}"
        return f"accuracy {accuracy} on {self.images}/{self.records}{note}, loss {loss}"


@dataclass(frozen=True)
class State:
    """A checkpoint."""

    step: int  # steps that are done
    run: str  # whose it is: run_dir.identity of its definition
    fingerprint: str  # of the weights
    files: dict[str, str]  # name -> SHA-256
    evaluation: EvaluationResult | None = None  # once it has been made
