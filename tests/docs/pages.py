"""Parts of a Markdown page that the tests need: fenced blocks, headings and links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_FENCE: Final = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and the line number of its opening fence."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    return [
        Block(found[2].strip(), textwrap.dedent(found[3]), text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def anchors(page: Path, level: str = "#+") -> list[str]:
    """The anchors of a page's headings in order, as code hosts generate them.

    `level` is a pattern for the hashes before a heading.
    """
    lines = _FENCE.sub("", page.read_text()).splitlines()
    headings = [line.lstrip("#").strip() for line in lines if re.match(f"{level} ", line)]
    return [re.sub(r"[^\w\- ]", "", text).lower().replace(" ", "-") for text in headings]


def contents(page: Path) -> list[str]:
    """The anchors that a page's list of contents links to, in order; empty if it has no list."""
    _, _, listed = page.read_text().partition("\nContents:")
    return [link[1:] for link in _LINK.findall(listed.partition("\n## ")[0]) if link[0] == "#"]


def links(page: Path) -> list[str]:
    """The targets of all links outside fenced blocks."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def sections(page: Path) -> dict[str, str]:
    """The TOML block of each section that has one, by the section's heading."""
    found, heading = dict[str, str](), ""
    for part in re.split(r"^(?=#+ |```toml\n)", page.read_text(), flags=re.MULTILINE):
        if part.startswith("#"):
            heading = part.partition("\n")[0].lstrip("# ")
        elif part.startswith("```toml\n"):
            found[heading] = part.partition("\n")[2].partition("```")[0]
    return found
