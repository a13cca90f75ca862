"""A user's own model: by module or by file, and why it cannot be loaded."""

import sys

import keras
import pytest
import tensorflow as tf

from models import own as own_models
from models.errors import ModelError
from tests.conftest import error
from tests.models.conftest import OWN, bits, made, pixels


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


NET = "return keras.Sequential([INPUT, L.GlobalAveragePooling2D(), L.Dense(num_classes)])"
INPUT = "keras.Input(input_shape)"
TRAINS = """
class Net(keras.Model):
    def METHOD(self, *arguments, **settings):
        return {}
"""
WHOLE = "x = keras.Input(input_shape)\nreturn Net(x, L.Dense(num_classes)(L.Flatten()(x)))"


def refused(write, body, after="", **settings) -> str:
    """What is said to it, without its name: PATH/net.py:net."""
    name = write(body, after)
    said = error(made, name, size=16, **settings)
    assert not {"\n", "\x1b"} & set(said)
    assert said.startswith(name)
    return said.removeprefix(name).replace(name.partition(":")[0], "net.py")


@pytest.mark.parametrize("method", ["train_step", "test_step", "compute_loss"])
def test_a_step_of_its_own_is_refused(write, method):
    assert refused(write, WHOLE, TRAINS.replace("METHOD", method)) == (
        f" has a {method} of its own, which samestep never calls: its step is the same for all "
        "models. Return a model without it; a term of the loss can be added with add_loss in a "
        "layer."
    )
    on_the_instance = f"x = keras.Input(input_shape)\nm = keras.Model(x, x)\nm.{method} = print\n"
    assert f" has a {method} of its own" in refused(write, on_the_instance + "return m")


def test_a_subclass_that_leaves_training_alone_is_taken(write):
    assert made(write(WHOLE, TRAINS.replace("METHOD", "custom")), size=16)


def test_a_compiled_model_is_refused(write):
    body = f"m = {NET.replace('INPUT', INPUT).removeprefix('return ')}\nm.compile('sgd')\nreturn m"
    assert refused(write, body) == (
        " returns a compiled model, and samestep trains with its own loss, metrics and "
        "--optimizer. Leave compile() out; keras.models.load_model takes compile=False."
    )


@pytest.mark.parametrize(
    "body",
    [
        "return keras.Sequential([L.GlobalAveragePooling2D(), L.Lambda(lambda x: x[:, :1] * 3)])",
        f"m = {NET.replace('INPUT', INPUT).removeprefix('return ')}\nm.trainable = False\nreturn m",
    ],
)
def test_a_model_without_anything_to_train_is_refused(write, body):
    assert refused(write, body) == (
        " has no trainable weights: there is nothing to train. Set trainable = True on a layer "
        "that has some."
    )


@pytest.mark.parametrize("cleared", ["keras.utils", "keras.backend"])
def test_a_cleared_session_is_refused(write, strategies, cleared):
    """In the function or while its file is loaded; the strategy's scope stays whole."""
    said = (
        " calls keras.utils.clear_session(), which throws away the run's devices, seed and "
        "precision. Leave it out: every run is a process of its own."
    )
    for where in ("function", "file"):
        call = f"{cleared}.clear_session()"
        inside, after = (f"{call}\n", "") if where == "function" else ("", call)
        with strategies[2].scope():
            body = inside + NET.replace("INPUT", INPUT)
            assert refused(write, body, after, precision="bfloat16") == said
            assert tf.distribute.get_strategy() is strategies[2]
    assert keras.config.dtype_policy().name == "float32"


def test_a_session_that_is_cleared_before_an_error_is_whole_again(write, strategies):
    with strategies[2].scope():
        said = refused(write, "keras.utils.clear_session()\n1 / 0")
        assert said == " failed in net.py:8: ZeroDivisionError: division by zero."
        assert tf.distribute.get_strategy() is strategies[2]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            "keras.mixed_precision.set_global_policy('mixed_float16')",
            " sets Keras' dtype policy to mixed_float16, and the run's is float32. Leave that out: "
            "use --precision.",
        ),
        (
            "keras.config.set_dtype_policy('bfloat16')",
            " sets Keras' dtype policy to bfloat16, and the run's is float32. Leave that out: "
            "use --precision.",
        ),
        (
            "keras.config.set_image_data_format('channels_first')",
            " sets Keras' image data format to channels_first, and the run's is channels_last. "
            "Leave that out: batches are [M, H, W, C].",
        ),
        (
            "keras.config.set_floatx('float64')",
            " sets Keras' floatx to float64, and the run's is float32. Leave that out: use "
            "--precision.",
        ),
    ],
)
def test_settings_of_all_keras_are_refused_and_put_back(write, call, said):
    assert refused(write, f"{call}\n{NET.replace('INPUT', INPUT)}") == said
    assert refused(write, NET.replace("INPUT", INPUT), after=call) == said
    assert keras.config.dtype_policy().name == keras.config.floatx() == "float32"
    assert keras.config.image_data_format() == "channels_last"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (
            "keras.Input((16, 16, 1))",
            " declares images of 16x16x1, and gets 16x16x3. Declare keras.Input(input_shape), "
            "with what the function is called with.",
        ),
        (
            "keras.Input((None, 3))",
            " declares images of Nonex3, and gets 16x16x3. Declare keras.Input(input_shape), "
            "with what the function is called with.",
        ),
        (
            "keras.Input(input_shape, dtype='int8')",
            " declares int8 pixels, which do not hold 0..255. Declare uint8 or a float input.",
        ),
        (
            "keras.Input(input_shape, dtype='string')",
            " declares string pixels, which do not hold 0..255. Declare uint8 or a float input.",
        ),
    ],
)
def test_other_images_are_refused(write, declared, said):
    body = f"x = {declared}\nreturn keras.Model(x, L.Flatten()(x))"
    assert refused(write, body) == said


def test_two_inputs_are_refused(write):
    body = (
        "x, y = keras.Input(input_shape, name='left'), keras.Input(input_shape, name='right')\n"
        "return keras.Model({'left': x, 'right': y}, L.Dense(num_classes)(L.Flatten()(x + y)))"
    )
    assert refused(write, body) == (
        " declares 2 inputs (left, right), and a record has one image. Declare one "
        "keras.Input(input_shape)."
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return {}['width']", " failed in net.py:7: KeyError: 'width'."),
        ("x = 3\nx.shape()", " failed in net.py:8: AttributeError: 'int' object has no attribute"),
        ("raise ValueError('two\\nlines')", " failed in net.py:7: ValueError: two lines."),
        ("import nowhere", " failed in net.py:7: ModuleNotFoundError: No module named 'nowhere'."),
        (
            "x = keras.Input((1, 1, 3))\nL.MaxPooling2D()(x)",
            " failed in net.py:8: ValueError: Computed output size would be zero or negative.",
        ),
    ],
)
def test_what_the_function_raises_is_one_line_with_its_place(write, body, said):
    assert refused(write, body).startswith(said)
    with pytest.raises(ModelError) as caught:
        made(write(body), size=16)
    assert caught.value.__cause__ is not None  # with the traceback, for whoever catches it


def test_what_the_file_raises_is_one_line_with_its_place(write):
    assert refused(write, "return 1", "1 / 0") == (
        " failed in net.py:8: ZeroDivisionError: division by zero."
    )


def test_what_a_module_raises_is_one_line_with_its_place(tmp_path, monkeypatch):
    (tmp_path / "own_raising.py").write_text("WIDTHS = {}\nWIDTHS['first']\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert error(made, "own_raising:net", size=16) == (
        f"own_raising:net failed in {tmp_path}/own_raising.py:2: KeyError: 'first'."
    )


def test_what_a_call_raises_is_one_line_with_its_place(write):
    after = """
class Net(keras.Model):
    def call(self, x):
        return x["image"]
"""
    assert refused(write, "return Net()", after).startswith(" failed in net.py:11: TypeError: ")


@pytest.mark.parametrize("name", ["image", "pixels", "logits", "net"])
def test_a_model_may_have_any_name(write, name):
    """Also one of those that our own layers around it have."""
    body = NET.replace("return keras.Sequential(", "m = keras.Sequential(").replace("INPUT", INPUT)
    named = made(write(f"{body}\nm.name = {name!r}\nreturn m"), size=16)
    plain = made(write(NET.replace("INPUT", INPUT)), size=16)
    assert named.name == name
    assert named(pixels(2, 16, 16, 3)).shape == (2, 10)
    assert [v.path for v in named.variables] == [v.path for v in plain.variables]


@pytest.mark.parametrize(
    "declared",
    [
        "keras.Input((None, None, 3))",
        "keras.Input(input_shape, dtype='float16')",
        "keras.Input(input_shape, dtype='int32')",
        "keras.Input(input_shape, name='logits')",
        "L.Rescaling(1 / 255, name='image')",  # no input declared
    ],
)
def test_inputs_that_are_taken(write, declared):
    logits = made(write(NET.replace("INPUT", declared)), size=16)(pixels(2, 16, 16, 3))
    assert (logits.dtype, logits.shape) == (tf.float32, (2, 10))


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_logits_are_float32_whatever_the_layers_compute_in(write, dtype):
    body = NET.replace("INPUT", INPUT).replace("num_classes)", f"num_classes, dtype={dtype!r})")
    assert made(write(body), size=16)(pixels(2, 16, 16, 3)).dtype == tf.float32


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ("{'logits': y}", "dict"),
        ("[y, y]", "list"),
        ("L.Reshape((1, 1, num_classes))(y)", "(None, 1, 1, 10)"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(write, output, what):
    body = "x = keras.Input(input_shape)\ny = L.Dense(num_classes)(L.Flatten()(x))\n"
    assert refused(write, f"{body}return keras.Model(x, {output})") == (
        f" must return logits of shape (None, 10), not {what}."
    )
