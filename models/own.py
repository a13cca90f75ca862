"""A model function of the user's: package.module:function, or path/to/file.py:function."""

import importlib.util
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from input.foundation import modules
from input.foundation.text import did_you_mean
from models import internals
from models.errors import ModelError
from models.names import IN_FILE

OURS = ("input", "models", "trainer", "scripts")  # top-level packages of samestep

# What Keras' fit calls and samestep's step does not.
_OVERRIDES = ("train_step", "test_step", "compute_loss")
# Integers that hold 0..255; Keras casts to others without a word.
_INTEGERS = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def build(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """What the user's function returns: one input for images of input_shape, weights to train.

    Raises ModelError, also for what the function must leave to samestep.
    """
    with _keras_kept(name):
        function = load(name)
        with failing(name):
            model = function(input_shape=input_shape, num_classes=num_classes)
    if not isinstance(model, keras.Model):
        kind = type(model)
        raise ModelError(
            f"{name} must return a keras.Model, not {kind.__module__}.{kind.__qualname__}."
        )
    _check_training(name, model)
    _check_inputs(name, model, input_shape)
    return model


def integer_input(model: keras.Model) -> str | None:
    """The integer dtype that a model declares its pixels in; None for floats."""
    (image,) = _inputs(model) or [None]
    return None if image is None or keras.backend.is_float_dtype(image.dtype) else image.dtype


@contextmanager
def failing(name: str) -> Iterator[None]:
    """Whatever the user's own code raises becomes a ModelError of one line, with the place.

    A ValueError that no code of the user's is part of passes: Keras says why it refuses a layer.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not _place(error):
            raise
        raise _failed(name, error) from error


def _failed(name: str, error: Exception) -> ModelError:
    said = f"{type(error).__name__}: {internals.reason(error)}"
    return ModelError(f"{name} failed{_place(error)}: {said}.")


def _place(error: Exception) -> str:
    """Where in the user's own code: the deepest frame outside of Python, packages and models/."""
    paths = sysconfig.get_paths()
    others = [Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    others.append(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.is_relative_to(other) for other in others):
            return f" in {path}:{frame.lineno}"
    return ""


@contextmanager
def _keras_kept(name: str) -> Iterator[None]:
    """Refuses changes to what Keras has one of for all models, and puts it back."""
    config, session = keras.config, internals.session()
    policy, floatx, layout = config.dtype_policy(), config.floatx(), config.image_data_format()
    try:
        yield
        if internals.put_back(session):
            raise ModelError(
                f"{name} calls keras.utils.clear_session(), which throws away the run's devices, "
                "seed and precision. Leave it out: every run is a process of its own."
            )
        for what, was, found, way_out in (
            ("dtype policy", policy.name, config.dtype_policy().name, "use --precision"),
            ("floatx", floatx, config.floatx(), "use --precision"),
            ("image data format", layout, config.image_data_format(), "batches are [M, H, W, C]"),
        ):
            if found != was:
                raise ModelError(
                    f"{name} sets Keras' {what} to {found}, and the run's is {was}. Leave that "
                    f"out: {way_out}."
                )
    finally:
        internals.put_back(session)
        config.set_dtype_policy(policy)
        config.set_floatx(floatx)
        config.set_image_data_format(layout)


def _check_training(name: str, model: keras.Model) -> None:
    for method in _OVERRIDES:
        # Of the instance too: a function may be put on it.
        own = getattr(model, method)
        if getattr(own, "__func__", own) is not getattr(keras.Model, method):
            raise ModelError(
                f"{name} has a {method} of its own, which samestep never calls: its step is the "
                "same for all models. Return a model without it; a term of the loss can be added "
                "with add_loss in a layer."
            )
    if model.compiled:
        raise ModelError(
            f"{name} returns a compiled model, and samestep trains with its own loss, metrics and "
            "--optimizer. Leave compile() out; keras.models.load_model takes compile=False."
        )


def _check_inputs(name: str, model: keras.Model, input_shape: tuple[int, int, int]) -> None:
    inputs = _inputs(model)
    if len(inputs) > 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ModelError(
            f"{name} declares {len(inputs)} inputs ({names}), and a record has one image. Declare "
            "one keras.Input(input_shape)."
        )
    for tensor in inputs:
        batch, *declared = tensor.shape
        if batch is not None:
            raise ModelError(
                f"{name} fixes its batch at {batch}; the input pipeline alone decides on that. "
                "Leave batch_size out of keras.Input."
            )
        fits = len(declared) == 3 and all(
            size in (None, given) for size, given in zip(declared, input_shape, strict=True)
        )
        if not fits:
            raise ModelError(
                f"{name} declares images of {_size(declared)}, and gets {_size(input_shape)}. "
                "Declare keras.Input(input_shape), with what the function is called with."
            )
        if not keras.backend.is_float_dtype(tensor.dtype) and tensor.dtype not in _INTEGERS:
            raise ModelError(
                f"{name} declares {tensor.dtype} pixels, which do not hold 0..255. Declare uint8 "
                "or a float input."
            )


def _inputs(model: keras.Model) -> list[keras.KerasTensor]:
    """What a model declares: none for a subclass of keras.Model or a Sequential of layers only."""
    return list(getattr(model, "inputs", None) or [])


def _size(shape: Iterable[int | None]) -> str:
    return "x".join(map(str, shape))


def load(name: str) -> Callable[..., Any]:
    """The function, callable with input_shape= and num_classes=. Raises ModelError."""
    place, _, function_name = name.rpartition(":")
    module = _from_file(name, Path(place)) if re.fullmatch(IN_FILE, name) else _module(name, place)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ModelError(
            f"{name}: {module.__file__} has no function {function_name!r}."
            f"{did_you_mean(function_name, vars(module))}"
        )
    try:
        inspect.signature(function).bind(input_shape=None, num_classes=None)
    except TypeError as error:
        raise ModelError(
            f"{name} must be callable as {function_name}(input_shape=(224, 224, 3), "
            f"num_classes=1000): {error}."
        ) from error
    return function


def _module(name: str, module_name: str) -> ModuleType:
    try:
        return modules.load(module_name)
    except ImportError as error:
        first = module_name.partition(".")[0]
        if first in OURS:
            file = f"{module_name.replace('.', '/')}.py:{name.rpartition(':')[2]}"
            way_out = (
                f"{first} is a package of samestep's own, and hides a folder of yours of that "
                f"name. Give the file instead: --model={file}"
            )
        else:
            way_out = modules.WAY_OUT
        raise ModelError(f"{name}: importing {module_name} failed: {error}. {way_out}") from error
    except Exception as error:
        raise _failed(name, error) from error


def _from_file(name: str, path: Path) -> ModuleType:
    # Modules that lie beside the file can be imported; after all others, so that they hide none.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"samestep_model_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses of the file look for their own names
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ModelError(f"{name}: loading {path} failed: {error}.") from error
    except Exception as error:
        raise _failed(name, error) from error
    return module
