"""What a checkpoint says about itself: the content of its state.json."""

from dataclasses import dataclass, replace

from input.foundation.text import counted

TOP = 5  # a label among so many of the largest logits counts for `correct_top5`


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation, over every record once."""

    loss: float | None  # mean cross entropy; None: not finite, which JSON does not have
    correct: int
    images: int  # that counted: all but the bad ones
    records: int
    correct_top5: int | None = None  # None: there are no more than five classes
    class_images: tuple[int, ...] = ()  # by class
    class_correct: tuple[int, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """None: every record was bad."""
        return self.correct / self.images if self.images else None

    @property
    def top5(self) -> float | None:
        """The share of images whose label is among the five likeliest; None: not known."""
        if self.correct_top5 is None or not self.images:
            return None
        return self.correct_top5 / self.images

    @property
    def class_accuracies(self) -> tuple[float | None, ...]:
        """By class; None where a class has no image."""
        pairs = zip(self.class_correct, self.class_images, strict=True)
        return tuple(correct / images if images else None for correct, images in pairs)

    @property
    def mean_class_accuracy(self) -> float | None:
        """The mean over the classes that have images: each counts the same, however rare."""
        known = [accuracy for accuracy in self.class_accuracies if accuracy is not None]
        return sum(known) / len(known) if known else None

    def __str__(self) -> str:
        bad = self.records - self.images
        note = f" ({counted(bad, 'bad record')})" if bad else ""
        loss = "not finite" if self.loss is None else f"{self.loss:.6f}"
        accuracy = "unknown" if self.accuracy is None else f"{self.accuracy:.4f}"
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.4f}"
        return f"accuracy {accuracy}{top5} on {self.images}/{self.records}{note}, loss {loss}"


@dataclass(frozen=True)
class State:
    """A checkpoint."""

    step: int  # steps that are done
    run: str  # whose it is: run_dir.identity of its definition
    fingerprint: str  # of the weights
    files: dict[str, str]  # name -> SHA-256
    evaluation: EvaluationResult | None = None  # once it has been made
    averages: str = ""  # fingerprint of the weights' averages, where the run has them
    evaluation_of_averages: EvaluationResult | None = None
    best: float = -1.0  # accuracy of the run's best evaluation so far; -1: none yet
    since_best: int = 0  # evaluations after that one, none of them better
    skipped: int = 0  # steps in a row before it
    skipped_from: int = 0  # the first of them
    incidents: int = 0  # that the run had had: a later one may make it void

    @property
    def judged(self) -> EvaluationResult | None:
        """What a checkpoint is compared with others by: its averages where there are any."""
        return self.evaluation_of_averages or self.evaluation

    def evaluated(
        self, evaluation: EvaluationResult, of_averages: EvaluationResult | None
    ) -> "State":
        """The checkpoint with its evaluations; `best` and `since_best` as of the one before it."""
        result = replace(self, evaluation=evaluation, evaluation_of_averages=of_averages)
        accuracy = (of_averages or evaluation).accuracy
        if accuracy is not None and accuracy > self.best:
            return replace(result, best=accuracy, since_best=0)
        return replace(result, since_best=self.since_best + 1)
