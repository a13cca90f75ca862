"""Tables that show their cells as they are."""

import pytest

from trainer.board.text import table

STRANGE = [
    *(
        "a|b",
        "<b>x</b>",
        "*s* _t_ `c`",
        "[red](http://x)",
        "2**50",
        "C:\\new",
        "&amp;",
        "#1",
        "- a",
    ),
    *("1. first", "line\nline", "\x1b[31m", "{x}", "~~no~~", "\\|", "", " "),
]


@pytest.mark.filterwarnings("ignore:html5lib:DeprecationWarning")
@pytest.mark.parametrize("cell", STRANGE)
def test_a_cell_is_shown_as_it_is(cell):
    from tensorboard.plugin_util import markdown_to_safe_html  # which warns when it is loaded

    shown = ascii(cell)[1:-1] if "\n" in cell or "\x1b" in cell else cell
    html = markdown_to_safe_html(table(("name", "value"), [("key", cell), ("last", "x")]))
    rows = html.split("<tr>")[2:]
    assert len(rows) == 2
    between = rows[0].split("<td>")[2].partition("</td>")[0]
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        between = between.replace(entity, character)
    assert between == shown.strip()
