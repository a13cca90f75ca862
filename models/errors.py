"""What can be wrong with a model, said in one line."""

from input.foundation.errors import UserError


class ModelError(UserError):
    """A model setting is wrong; the message is all a user needs."""
