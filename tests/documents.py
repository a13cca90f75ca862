"""README and docs/*.md: their code blocks, what a comment says about each, headings and links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!-- (not run|run with): ((?:(?!-->).)+) -->\s*\Z", re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """One code block of a page."""

    page: Path
    line: int  # of the page, on which it begins
    language: str  # sh, python, diff, console; empty: nothing that is run
    text: str
    not_run: str = ""  # why; empty: it is run
    exchanges: tuple[tuple[str, str], ...] = ()  # what is run in place of what stands there

    @property
    def where(self) -> str:
        """docs/start.md:12."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def as_run(self) -> str:
        """The text, with what the comment before it exchanges. Raises ValueError for an unused one.

        A run on two cores has fewer epochs than a run of the user's.
        """
        text = self.text
        for old, new in self.exchanges:
            if old not in text:
                raise ValueError(f"{self.where}: {old} is not in the block.")
            text = text.replace(old, new)
        return text

    @property
    def file(self) -> str:
        """What a Python block is saved as: its first line, as in "# net.py"."""
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else ""


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in their order.

    An HTML comment before a block says why it is not run, or what is run in another way:
    <!-- not run: needs two GPUs --> or <!-- run with: --epochs=30 as --epochs=1 -->.
    """
    text, found = page.read_text(), []
    for fence in _FENCE.finditer(text):
        before = _COMMENT.search(text, endpos=fence.start())
        kind, said = before.groups() if before else ("", "")
        said = " ".join(said.split())
        pairs = [pair.partition(" as ") for pair in said.split("; ")] if kind == "run with" else []
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, fence.start()) + 1,
                language=fence[1],
                text=fence[2],
                not_run=said if kind == "not run" else "",
                exchanges=tuple((old, new) for old, _, new in pairs),
            )
        )
    return found


def anchors(page: Path) -> set[str]:
    """What a link can point to in a page: its headings as GitHub makes them into anchors."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text())):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", heading)).lower()
        name, number = words.replace(" ", "-"), 0
        while (anchor := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(anchor)
    return found


def broken_links(page: Path) -> Iterator[str]:
    """The relative links of a page that lead nowhere, with the reason."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists():
            yield f"{target}: there is no {name}"
        elif anchor and anchor not in anchors(path):
            yield f"{target}: {path.name} has no heading {anchor}"
