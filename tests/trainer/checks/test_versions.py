"""Packages that do not fit together are named, each with what to type."""

from importlib import metadata

import importlib_metadata
import pytest

from trainer.checks import versions

PYTHON = versions.platform.python_version()


@pytest.fixture(params=[metadata, importlib_metadata], ids=lambda finder: finder.__name__)
def install(request, tmp_path, monkeypatch):
    """Makes distributions without code: name, version, requirements, packages.

    As Python finds them, and as importlib_metadata does, for all who look, once anybody loads it.
    """
    finder, context = request.param.MetadataPathFinder, request.param.DistributionFinder.Context
    monkeypatch.setattr(
        versions.metadata,
        "distributions",
        lambda: finder.find_distributions(context(path=[str(tmp_path)])),
    )

    def install(name, version, *requires, packages=(), python=""):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Python: {python}"] if python else []
        lines += [f"Requires-Dist: {each}" for each in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        files = [f"{package}/{file}" for package in packages for file in ("__init__.py", "x.py")]
        (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()

    return install


def found() -> list[tuple[str, str]]:
    return [(finding.verdict, finding.found) for finding in versions.examine()]


def test_this_environment_fits():
    ((verdict, text),) = found()
    assert verdict == "ok"
    assert text.startswith("tensorflow 2.21") and text.endswith(f"Python {PYTHON}")


def test_what_fits_is_listed(install):
    install("samestep", "1", "numpy>=2,<3", "types-x; extra == 'dev'", python=">=3.9")
    install("numpy", "2.1")
    assert found() == [("ok", f"numpy 2.1, Python {PYTHON}")]


def test_a_version_out_of_range_is_named_at_any_depth(install):
    install("samestep", "1", "tensorflow>=2.21,<2.22", "keras[x]>=3")
    install("tensorflow", "2.20.0", "protobuf>=6", "numpy")
    install("protobuf", "5.1")
    install("keras", "3.15", "h5py; extra == 'x'", "jax; extra == 'y'")
    assert [text for verdict, text in found() if verdict == "wrong"] == [
        "samestep 1 needs tensorflow<2.22,>=2.21, and 2.20.0 is there: "
        "pip install 'tensorflow<2.22,>=2.21'",
        "tensorflow 2.20.0 needs protobuf>=6, and 5.1 is there: pip install 'protobuf>=6'",
        "tensorflow 2.20.0 needs numpy, which is not installed: pip install 'numpy'",
        "keras 3.15 needs h5py, which is not installed: pip install 'h5py'",
    ]


def test_requirements_that_go_round_end(install):
    install("samestep", "1", "a")
    install("a", "1", "b")
    install("b", "1", "a>=2")
    assert found() == [("wrong", "b 1 needs a>=2, and 1 is there: pip install 'a>=2'")]


def test_two_that_write_one_folder_are_named(install):
    install("samestep", "1", "tensorflow", "protobuf")
    install("tensorflow", "2.21", packages=["tensorflow"])
    install("tf-nightly", "2.22", packages=["tensorflow"])
    install("protobuf", "6")
    install("other", "1", packages=["shared"])
    install("another", "1", packages=["shared"])  # of no concern here
    ((verdict, text),) = found()
    assert verdict == "wrong"
    assert text == (
        "tensorflow and tf-nightly are both installed, and both write the folder tensorflow. "
        "Remove both and install one: pip uninstall tensorflow tf-nightly; pip install tensorflow"
    )


def test_a_folder_that_a_removal_left_is_none(install, tmp_path):
    install("samestep", "1")
    (tmp_path / "numpy-2.1.dist-info").mkdir()
    assert found() == [("ok", f"Python {PYTHON}")]


def test_another_python_is_named(install):
    install("samestep", "1", python=">=3.99")
    assert found() == [
        ("wrong", f"Python is {PYTHON}, and samestep needs >=3.99. Use another one.")
    ]


def test_a_clone_that_is_not_installed_is_a_warning(install):
    install("numpy", "2.1")
    ((verdict, text),) = found()
    assert verdict == "warning"
    assert "pip install -e ." in text
