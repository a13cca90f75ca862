"""What is shown is one line of printable characters, and what was printable stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from input.foundation.text import one_line


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
