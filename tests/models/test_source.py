"""A model's file is found without running it."""

import pytest

from models import source

BOOM = "raise SystemExit('run')\ndef build(input_shape, num_classes): ...\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for file in ("net.py", "package/__init__.py", "package/net.py", "package/inner/net.py"):
        (tmp_path / file).write_text(BOOM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("net:build", "net.py"),
        ("net.py:build", "net.py"),
        ("package:build", "package/__init__.py"),
        ("package.net:build", "package/net.py"),
        ("./package/net.py:build", "package/net.py"),
        ("nowhere:build", None),
        ("net.inner:build", None),
    ],
)
def test_the_file_is_found_and_not_run(code, name, file):
    assert source.find(name) == (code / file if file else None)
    assert (source.digest(name) != "") == (file is not None)


def test_a_changed_file_has_another_digest(code):
    before = source.digest("net:build")
    assert source.digest("package.net:build") == before
    (code / "net.py").write_text(BOOM + "# a comment\n")
    assert source.digest("net:build") != before
