"""A module in the working directory is found, however the command was started."""

import sys

import pytest

from input.foundation import modules


def test_a_module_of_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "beside_the_command.py").write_text("number = 7\n")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "beside_the_command", raising=False)
    assert modules.load("beside_the_command").number == 7
    modules.load("beside_the_command")
    assert sys.path.count(str(tmp_path)) == 1


def test_what_an_import_raises_is_raised(tmp_path, monkeypatch):
    (tmp_path / "breaking.py").write_text("raise KeyError(7)\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyError):
        modules.load("breaking")
    with pytest.raises(ImportError):
        modules.load("not_there_at_all")
