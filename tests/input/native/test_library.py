"""Where the native decoder is, and what is said where it is not."""

import pytest

from input.errors import InputError
from input.native import library
from tests.conftest import error


@pytest.fixture
def missing(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    library.load.cache_clear()
    yield tmp_path
    library.load.cache_clear()


def test_without_the_library_auto_is_tensorflow_and_native_says_how_to_build_it(missing):
    assert not library.available()
    assert library.resolve("auto") == "tensorflow"
    assert library.version("tensorflow") == "tensorflow"
    message = error(library.resolve, "native")
    assert message.startswith("The native decoder was not built. With a C compiler")
    assert "--decoder=tensorflow does without" in message


def test_a_library_that_does_not_load_says_why(missing):
    (missing / f"_decode{library.EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    with pytest.raises(InputError, match="The native decoder cannot be loaded: "):
        library.load()


@pytest.mark.skipif(not library.available(), reason="the native decoder was not built")
def test_with_the_library():
    assert library.resolve("auto") == library.resolve("native") == "native"
    assert library.resolve("tensorflow") == "tensorflow"
    assert library.version("native").startswith("native 1, libjpeg-turbo ")
