"""A user's own model: by module or by file, and why it cannot be loaded."""

import sys

import pytest

from models import own as own_models
from models.own import did_you_mean
from tests.conftest import error
from tests.models.conftest import OWN, bits, made


@pytest.fixture(autouse=True)
def restored_imports(monkeypatch):
    """Puts sys.path and sys.modules back: loading adds to both."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("samestep_model_", "own_", "standing_here")):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    """A folder of the user's with a model file, which imports the module beside it."""
    here = tmp_path / "my models"
    here.mkdir()
    (here / "own_widths.py").write_text("WIDTH = 4\n")
    networks = OWN.replace("layers.Conv2D(4, 3)", "layers.Conv2D(own_widths.WIDTH, 3)")
    (here / "networks.py").write_text("import own_widths\n" + networks)
    return here


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("own_package.networks:positional", ["positional(input_shape=", "missing"]),
        ("own_package.networks:float", ["networks.py", "'float'", "Did you mean floats"]),
        ("own_package.missing:floats", ["own_package.missing", "PYTHONPATH"]),
        ("own_broken:floats", ["a_module_that_is_not_installed"]),
        # samestep's own packages hide the user's folder of that name.
        ("models.mynet:net", ["importing models.mynet failed", "--model=models/mynet.py:net"]),
        ("input.a.mynet:net", ["input is a package of samestep's", "--model=input/a/mynet.py:net"]),
    ],
)
def test_what_cannot_be_imported_says_why(own, model, words):
    said = error(made, model, size=16)
    for word in words:
        assert word in said
    assert "\n" not in said


def test_only_samesteps_own_packages_name_the_file_form(own):
    assert "--model=" not in error(own_models.load, "own_package.missing:floats")
    assert "PYTHONPATH" not in error(own_models.load, "models.mynet:net")


def test_own_model_is_found_where_the_user_stands(tmp_path, monkeypatch):
    (tmp_path / "standing_here.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert made("standing_here:floats", size=16).output.shape == (None, 10)


def test_a_file_is_the_model_that_its_module_is(own, folder, monkeypatch):
    """By a relative and by an absolute path; what lies beside the file can be imported."""
    expected = bits(made(f"{own}:floats", size=16))
    monkeypatch.chdir(folder.parent)
    assert bits(made("my models/networks.py:floats", size=16)) == expected
    assert bits(made(f"{folder}/networks.py:floats", size=16)) == expected
    monkeypatch.chdir(folder)
    assert bits(made("networks.py:floats", size=16)) == expected


def test_a_file_in_a_folder_called_models_is_found(tmp_path, monkeypatch):
    """What --model=models.mynet:net is told to write."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mynet.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert made("models/mynet.py:floats", size=16).output.shape == (None, 10)


def test_files_of_one_name_are_not_mixed_up(tmp_path):
    for units in (3, 5):
        here = tmp_path / str(units)
        here.mkdir()
        (here / "net.py").write_text(f"def units(input_shape, num_classes):\n    return {units}\n")
    assert [
        own_models.load(f"{tmp_path}/{units}/net.py:units")(input_shape=None, num_classes=None)
        for units in (3, 5)
    ] == [3, 5]


def test_what_lies_beside_the_file_hides_no_other_module(tmp_path):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('this is not the colorsys')")
    (tmp_path / "net.py").write_text(
        "import colorsys\ndef net(input_shape, num_classes):\n    return colorsys.__file__\n"
    )
    sys.modules.pop("colorsys", None)
    found = own_models.load(f"{tmp_path}/net.py:net")(input_shape=None, num_classes=None)
    assert not found.startswith(str(tmp_path))


def test_dataclasses_of_a_file_find_their_own_names(tmp_path):
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\n"
        "import dataclasses, typing\n"
        "@dataclasses.dataclass\n"
        "class Settings:\n"
        "    width: Width = 3\n"
        "Width = int\n"
        "def net(input_shape, num_classes):\n"
        "    return typing.get_type_hints(Settings)\n"
    )
    net = own_models.load(f"{tmp_path}/net.py:net")
    assert net(input_shape=None, num_classes=None) == {"width": int}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import a_module_that_is_not_installed", ["No module named 'a_module_that_is_not_inst"]),
        ("def net(:", ["loading", "invalid syntax", "line 1"]),
        ("def nets(input_shape, num_classes): ...", ["has no function 'net'. Did you mean nets?"]),
        ("net = 3", ["has no function 'net'"]),
        ("def net(shape): ...", ["must be callable as net(input_shape=(224, 224, 3), num_classes"]),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why(tmp_path, content, words):
    path = tmp_path / "net.py"
    path.write_text(content)
    said = error(own_models.load, f"{path}:net")
    for word in (f"{path}:net", *words):
        assert word in said
    assert "\n" not in said


def test_a_missing_file_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert error(made, "nets/mynet.py:net", size=16) == (
        f"nets/mynet.py:net: there is no file nets/mynet.py here, in {tmp_path}."
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Bytes", " Did you mean bytes_?"),
        ("floatz", " Did you mean floats or float32?"),
        ("quaternion", ""),
    ],
)
def test_did_you_mean(name, said):
    assert did_you_mean(name, ["floats", "float32", "bytes_"]) == said
