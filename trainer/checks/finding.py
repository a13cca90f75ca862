"""What samestep-doctor says about one thing."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from input.foundation.errors import UserError

Verdict = Literal["ok", "warning", "wrong"]
# warning: a run works, but slower or less safely than it could. wrong: it fails, now or later.
EXIT_CODES: dict[Verdict, int] = {"ok": 0, "warning": 3, "wrong": 2}


class Finding(NamedTuple):
    """One check and its verdict."""

    check: str
    verdict: Verdict
    found: str  # in one line; of what is not ok with the way out

    def __str__(self) -> str:
        return f"{self.verdict:<9}{self.check:<15}{self.found}"


def wrong(check: str, error: UserError) -> Finding:
    return Finding(check, "wrong", " ".join([error.message, *error.details]))


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict on everything: ok where nothing was found."""
    verdicts = {finding.verdict for finding in findings}
    return next((each for each in ("wrong", "warning") if each in verdicts), "ok")
