"""What an evaluation finds: which classes are taken for which, and the most confident mistakes.

RUN/evaluations/step-00000120.npz holds what was found at the checkpoint of that step, and is
removed with it. No training reads it: a damaged one is an error of nothing but its display.
"""

import csv
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from input.foundation import durable
from input.foundation.text import one_line
from trainer import run_dir
from trainer.errors import TrainerError
from trainer.state import State

BINS = 256  # of a probability between 0 and 1; a power of 2, by which a float is multiplied exactly
MISTAKES = 64  # that are kept: a contact sheet of eight by eight
MOST_CLASSES = 10_000  # of a dense confusion matrix, which then has 800 MB
MOST_BYTES = 2**30  # of a file: 50 million pairs of classes
_EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class than its own."""

    record: int  # its index among the records that were evaluated
    label: int  # the true class
    predicted: int
    probability: float  # of the predicted class


class Judged(NamedTuple):
    """How a class that has images does."""

    label: int
    images: int
    right: int

    @property
    def share(self) -> float:
        """Of its images those that are right."""
        return self.right / self.images


@dataclass(frozen=True, eq=False)
class Findings:
    """Of one evaluation, over every record once; the same bits on any hardware."""

    classes: tuple[str, ...]
    pairs: np.ndarray  # int64[n, 3]: true class, predicted class, images; sorted; none of 0
    mistakes: tuple[Mistake, ...]  # at most MISTAKES, the most confident first, then by record
    # int64[n, 3] for two classes, else of no rows: true class, BINS times the probability of the
    # second class rounded down, images; sorted.
    scores: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int64))

    @property
    def confusion(self) -> np.ndarray:
        """int64[classes, classes]: images by true class (rows) and predicted class (columns).

        Raises TrainerError for more than 10,000 classes.
        """
        if len(self.classes) > MOST_CLASSES:
            raise TrainerError(
                f"A confusion matrix of {len(self.classes)} classes would not fit in memory; one "
                f"of {MOST_CLASSES} does. The worst classes and their usual mistakes are listed."
            )
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        matrix[self.pairs[:, 0], self.pairs[:, 1]] = self.pairs[:, 2]
        return matrix

    @property
    def shares(self) -> np.ndarray:
        """float64[n]: the images of each pair divided by those of its true class."""
        images = np.bincount(self.pairs[:, 0], self.pairs[:, 2], len(self.classes))
        return self.pairs[:, 2] / images[self.pairs[:, 0]]

    def at_least(self, label: int) -> np.ndarray:
        """int64[BINS + 1], of two classes: images of one with a score of at least 0, 1, .., BINS.

        Exactly those whose probability of the second class is at least 0, 1 / BINS, .., 1.
        """
        own = self.scores[self.scores[:, 0] == label]
        counts = np.zeros(BINS + 1, np.int64)
        counts[own[:, 1]] = own[:, 2]
        return counts[::-1].cumsum()[::-1]

    def worst(self, most: int) -> list[Judged]:
        """The classes with the lowest shares of right images, the lowest first, then by label."""
        images, right = np.zeros((2, len(self.classes)), np.int64)
        np.add.at(images, self.pairs[:, 0], self.pairs[:, 2])
        own = self.pairs[self.pairs[:, 0] == self.pairs[:, 1]]
        right[own[:, 0]] = own[:, 2]
        rows = zip(range(len(self.classes)), images.tolist(), right.tolist(), strict=True)
        judged = [Judged(*row) for row in rows if row[1]]
        return sorted(judged, key=lambda each: each.share)[:most]

    def taken_for(self, label: int) -> list[tuple[int, int]]:
        """The classes that images of a class are taken for, and how many: the usual one first."""
        own = self.pairs[(self.pairs[:, 0] == label) & (self.pairs[:, 1] != label)]
        return [(int(predicted), int(images)) for _, predicted, images in own[_descending(own)]]


def of_images(
    classes: int,
    record: np.ndarray,
    label: np.ndarray,
    predicted: np.ndarray,
    probability: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64[n] three times and float64[n] -> rows for `joined`: of pairs, mistakes and scores.

    A probability that is not finite is no confidence: such an image is in no mistake, and its score
    is 0.
    """
    wrong = (label != predicted) & np.isfinite(probability)
    bits = probability.view(np.int64)  # of numbers from 0 on, in the order of the numbers
    mistakes = np.stack([record, label, predicted, bits], axis=1)[wrong]
    pairs = np.stack([label, predicted, np.ones_like(label)], axis=1)
    score = np.where(predicted == 1, probability, 1 - probability)
    score = (BINS * np.where(np.isfinite(score), score, 0.0)).astype(np.int64)
    scores = np.stack([label, score, np.ones_like(label)], axis=1)[: None if classes == 2 else 0]
    return _added(pairs), _most_confident(mistakes), _added(scores)


def joined(
    classes: tuple[str, ...], pairs: np.ndarray, mistakes: np.ndarray, scores: np.ndarray
) -> Findings:
    """The rows of all workers, one below the other in any order -> what they have found."""
    kept = _most_confident(mistakes)
    probabilities = kept[:, 3].copy().view(np.float64).tolist()
    rows = zip(*kept[:, :3].T.tolist(), probabilities, strict=True)
    found = tuple(Mistake(*row) for row in rows)
    return Findings(classes, _added(pairs), found, _added(scores))


def table(findings: Findings) -> str:
    """The confusion matrix as CSV: a column for each predicted class, a line for each true one.

    Raises TrainerError for more than 10,000 classes.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["true class", *findings.classes])
    for name, row in zip(findings.classes, findings.confusion.tolist(), strict=True):
        writer.writerow([name, *row])
    return file.getvalue()


def save(folder: Path, state: State, findings: Findings) -> None:
    """Writes what was found at a run's checkpoint. Raises TrainerError."""
    file = io.BytesIO()
    mistakes = findings.mistakes
    np.savez_compressed(
        file,
        run=np.array(state.run),
        step=np.array(state.step),
        pairs=findings.pairs,
        mistakes=np.array([(m.record, m.label, m.predicted) for m in mistakes], np.int64),
        probabilities=np.array([m.probability for m in mistakes], np.float64),
        scores=findings.scores,
    )
    with run_dir.writing(folder):
        durable.make(folder / _EVALUATIONS)
        durable.write(_path(folder, state.step), file.getvalue())


def load(folder: Path, step: int) -> Findings | None:
    """What was found at a run's checkpoint; None where that is not known.

    Raises TrainerError where the file is damaged or of another run.
    """
    definition, path = run_dir.load(folder), _path(folder, step)
    try:
        content = durable.read(path, MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainerError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        if zipfile.ZipFile(io.BytesIO(content)).testzip() is not None:
            raise ValueError("a checksum does not match")
        with np.load(io.BytesIO(content)) as arrays:
            run, at = str(arrays["run"]), int(arrays["step"])
            columns = [*arrays["mistakes"].reshape(-1, 3).T, arrays["probabilities"]]
            pairs, scores = arrays["pairs"], arrays["scores"]
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for damaged bytes
        raise TrainerError(
            f"{path} is damaged: {one_line(str(error))}. Remove it; samestep-evaluate finds the "
            "same again."
        ) from None
    if (run, at) != (run_dir.identity(definition), step):
        raise TrainerError(f"{path} is of another run or step. Remove it.")
    mistakes = zip(*(each.tolist() for each in columns), strict=True)
    return Findings(definition.classes, pairs, tuple(Mistake(*each) for each in mistakes), scores)


def remove_orphans(folder: Path) -> None:
    """Removes what was found at checkpoints that are no longer there. Raises OSError."""
    for path in (folder / _EVALUATIONS).glob("step-*"):
        if not (folder / run_dir.CHECKPOINTS / path.name.partition(".")[0]).is_dir():
            path.unlink(missing_ok=True)


def _path(folder: Path, step: int) -> Path:
    return folder / _EVALUATIONS / f"step-{step:08d}.npz"


def _added(pairs: np.ndarray) -> np.ndarray:
    """int64[n, 3], in which a pair may occur again -> int64[m, 3], in which it does not; sorted."""
    ordered = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    firsts = np.flatnonzero(np.diff(ordered[:, :2], axis=0, prepend=-1).any(axis=1))
    return np.column_stack([ordered[firsts, :2], np.add.reduceat(ordered[:, 2], firsts)])


def _most_confident(mistakes: np.ndarray) -> np.ndarray:
    """Rows of mistakes, int64[n, 4] -> at most MISTAKES of them, sorted."""
    return mistakes[np.lexsort((mistakes[:, 0], -mistakes[:, 3]))][:MISTAKES]


def _descending(pairs: np.ndarray) -> np.ndarray:
    """The order of pairs by their images, then by class."""
    return np.lexsort((pairs[:, 1], -pairs[:, 2]))
