"""Work in a new process: what comes back, what is raised, and what TensorFlow does not say."""

import os

import pytest

from scripts import process, quiet
from trainer.workers import strategy


def test_what_a_function_returns_there_comes_back():
    assert process.in_new_process(os.getpid) != os.getpid()


def test_what_it_raises_there_is_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        process.in_new_process(int, "seven")


def test_tensorflow_is_quiet_also_where_the_functions_module_loads_it(capfd):
    assert process.in_new_process(strategy.processor, say=True) == strategy.processor()
    assert capfd.readouterr().err == f"{quiet.LOADING}\n"
