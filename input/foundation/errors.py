"""The base of all errors that a user can mend."""


class UserError(ValueError):
    """Something the user gave is wrong; the message is one line with the way out."""

    exit_code = 2
