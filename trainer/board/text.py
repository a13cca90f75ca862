"""What a run says of itself, in Markdown."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from input.foundation.text import one_line


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Cells are shown as they are: what is Markdown or HTML in them is escaped."""
    lines = [[*columns], ["---"] * len(columns)]
    lines += [[_literal(one_line(str(cell))) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _literal(cell: str) -> str:
    return escape(re.sub(r"([\\`*_{}\[\]()#+!|.-])", r"\\\1", cell), quote=False)
