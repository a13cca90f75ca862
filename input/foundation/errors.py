"""The base of all errors that a user can mend."""

from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave is wrong; the message is one line with the way out.

    details: lines to be shown below it, one for each thing that is wrong.
    """

    exit_code = 2

    def __init__(self, message: str, details: Iterable[str] = ()):
        super().__init__(message)
        self.message = message
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n  ".join([self.message, *self.details])
