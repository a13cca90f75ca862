"""Of which run, and which of its weights: settings that several commands have. No TensorFlow."""

from typing import Annotated, Literal

from input.foundation.settings import REQUIRED

Folder = Annotated[str, "Folder of the run.", REQUIRED]
OwnModel = Annotated[
    str,
    "The run's model, where it is code of your own (file.py:function): to say that it may be "
    "imported.",
]
Records = Annotated[str, "Folder of the records. Unset: where the run was trained from."]
Checkpoint = Annotated[Literal["latest", "best"], "best: by validation accuracy."]
Weights = Annotated[
    Literal["auto", "trained", "averaged"],
    "averaged: the averages of --ema_decay. auto: those, where the run has them.",
]
