"""What is shown is one printable line; numbers of things in words; names that were meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from input.foundation.text import counted, did_you_mean, one_line, one_of, plural


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äö ☃ 🐈", "plain äö ☃ 🐈"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("\x9b2J\x07", "\\x9b2J\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("left\u202eright", "left\\u202eright"),
        ("\udce4", "\\udce4"),
    ],
)
def test_what_is_not_printable_is_escaped(text, shown):
    assert one_line(text) == shown


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_is_one_printable_line(text):
    shown = one_line(text)
    assert shown.isprintable()
    shown.encode()
    assert one_line(shown) == shown


@pytest.mark.parametrize(
    ("number", "thing", "said"),
    [
        (1, "step", "1 step"),
        (0, "step", "0 steps"),
        (1000, "image", "1,000 images"),
        (2, "micro-batch", "2 micro-batches"),
        (1, "bad record", "1 bad record"),
        (3, "class", "3 classes"),
        (2, "copy", "2 copies"),
        (2, "key", "2 keys"),
        (1.0, "epoch", "1 epoch"),
        (0.25, "epoch", "0.25 epochs"),
    ],
)
def test_a_number_of_things(number, thing, said):
    assert counted(number, thing) == said
    assert plural(thing) in counted(2, thing)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [([1], "1 device"), ([1, 2], "1 or 2 devices"), ([1, 2, 4], "1, 2 or 4 devices")],
)
def test_how_many_things_there_may_be(numbers, said):
    assert one_of(numbers, "device") == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Bytes", " Did you mean bytes_?"),
        ("floatz", " Did you mean floats or float32?"),
        ("quaternion", ""),
    ],
)
def test_did_you_mean(name, said):
    names = ["floats", "float32", "bytes_"]
    assert did_you_mean(name, names) == said
    assert did_you_mean(name, names, "--").replace("--", "") == said
