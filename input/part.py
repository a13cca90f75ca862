"""A part of a split's records: those that are held back for validation, or the others."""

from dataclasses import dataclass

import numpy as np

from input import randomness
from input.errors import InputError
from input.foundation.text import counted
from input.manifest import Index


@dataclass(frozen=True)
class Part:
    """Which records of a split are in it follows from each record's content and the seed.

    The order of the records and their division into shards have no part in it, and the same record
    twice is on one side: no image that was trained on is validated on.
    """

    share: float  # of the records, held back
    seed: int
    held_back: bool  # those, or the others

    def of(self, index: Index) -> np.ndarray:
        """int64[n], ascending: the numbers of its records. Raises InputError."""
        if index.checksums is None:
            raise InputError(
                "--validation_share chooses records by their checksums, and these have none: "
                "samestep-records index adds them."
            )
        ranks = randomness.ranks(self.seed, index.checksums)
        count = min(round(self.share * len(ranks)), len(ranks) - 1)
        if count < 1:
            raise InputError(
                f"--validation_share={self.share:g} of {counted(len(ranks), 'record')} leaves none "
                "to validate on, or none to train on."
            )
        held_back = ranks <= np.partition(ranks, count - 1)[count - 1]
        return np.flatnonzero(held_back == self.held_back)
