"""What can be wrong outside the input and the model, said in one line that names the way out."""


class TrainerError(ValueError):
    """A setting, device, checkpoint or run directory is wrong; the message is all a user needs."""
