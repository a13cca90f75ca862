"""Learning rates that differ between the parts of a network, for fine-tuning."""

import re

import keras

# What a network's block is called in the names of its layers, by us and by keras.applications.
_BLOCK = re.compile(
    r"(stage_?\d+_block_?\d+|conv\d+_block\d+|block\d+[a-z]?(_unit_?\d+)?|block_\d+"
    r"|stages_\d+_blocks?_\d+|stem)"
)


def scales(model: keras.Model, *, head: float, layer_decay: float) -> list[float]:
    """What multiplies the learning rate of each of model.trainable_variables.

    The head, which is the last part with weights, has `head`; each part before it layer_decay times
    the rate of the one behind it (Clark et al. 2020, arXiv:2003.10555, sec. 3.1), the first of them
    layer_decay. A part is a block, by its layers' names; what is in none is one by itself.
    """
    places = parts(model)
    last = max(places)
    return [head if place == last else layer_decay ** (last - place) for place in places]


def parts(model: keras.Model) -> list[int]:
    """The number of the part of each of model.trainable_variables, from 0, in the model's order."""
    numbers: dict[str, int] = {}
    return [
        numbers.setdefault(_part(variable.path), len(numbers))
        for variable in model.trainable_variables
    ]


def _part(path: str) -> str:
    found = _BLOCK.search(path)
    return found[0] if found else path.rpartition("/")[0]
