"""Texts avoid the turns of phrase that made readers stumble, and no docstring is a riddle.

A hit is a place to look at, not always a fault. What was looked at and reads well is in `KEPT`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("*.md", "docs/**/*.md", "bench/*.md", "tests/**/*.md")
PLAIN: Final = ("config/*", "k8s/**/*", "scripts/*", "compose.yaml", "Dockerfile", "Makefile")
CODE: Final = ("sidecar/**/*.py", "tests/**/*.py", "bench/**/*.py")

# What it should say instead, and how the turn of phrase is found.
STUMBLES: Final = {
    "say because": re.compile(r", for (?:the|it|then|they|a|there|who)\b"),
    "name the subject": re.compile(r"\b[Ww]hoever\b"),
    "say while, or as long as": re.compile(r"\bso long\b"),
    "say must, or name who does it": re.compile(r"\b(?:is|are) to be\b"),
    "say belongs to, or belongs in": re.compile(r"\bbelongs? into\b"),
    "say is notified, or reports": re.compile(r"\b(?:is|are) told of\b|\btells? of\b"),
    "say replay, or make up for": re.compile(r"\bmakes? good\b|\bmade good\b"),
}
RIDDLE: Final = re.compile(r"\w+(?: \w+)?\.")  # a docstring of one or two words

# Looked at, and kept on purpose: the file and a part of the line.
KEPT: Final = frozenset(
    (
        ("bench/polling.py", "The file descriptor, for a selector."),
        ("docs/operating.md", ", for a Redis shared with services that already"),
        ("docs/operating.md", "HTTP, for the kubelet and Prometheus."),
        ("k8s/components/redis/kustomization.yaml", ", for the pods labelled"),
        ("tests/sessions/tiered/test_backlog.py", "Redis returns, for the first pod first."),
    )
)


class Text(NamedTuple):
    """A piece of prose: where it is, and what it says."""

    place: str
    words: str


def files(*patterns: str) -> list[Path]:
    """The files that match, in order."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(path for path in found if ".venv" not in path.parts and path.suffix != ".png")


def prose(path: Path) -> Iterator[Text]:
    """Each line of a page; of Python, each comment and each line of a docstring."""
    name = str(path.relative_to(ROOT))
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        for number, line in enumerate(text.splitlines(), 1):
            yield Text(f"{name}:{number}", line)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Text(f"{name}:{token.start[0]}", token.string)
    for place, docstring in docstrings(path):
        for line in docstring.splitlines():
            yield Text(place, line)


@cache
def everything() -> tuple[Text, ...]:
    """The prose of all files but this one, read once for all patterns."""
    here = Path(__file__)
    return tuple(
        text for path in files(*PAGES, *PLAIN, *CODE) if path != here for text in prose(path)
    )


def docstrings(path: Path) -> Iterator[Text]:
    """Each docstring of a Python file."""
    name = path.relative_to(ROOT)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, documented) and (docstring := ast.get_docstring(node)):
            yield Text(f"{name}:{node.body[0].lineno}", docstring)


def is_kept(text: Text) -> bool:
    """Whether somebody has looked at this line and kept it."""
    file = text.place.partition(":")[0]
    return any(file == where and part in text.words for where, part in KEPT)


@pytest.mark.parametrize("advice", STUMBLES)
def test_no_turn_of_phrase_makes_readers_stumble(advice: str) -> None:
    """Pages, comments and docstrings say it plainly."""
    found = [
        f"{text.place}: {text.words.strip()}"
        for text in everything()
        if STUMBLES[advice].search(text.words) and not is_kept(text)
    ]
    assert found == [], advice


def test_docstrings_explain() -> None:
    """A docstring says what happens; one or two words of the sidecar's own code do not."""
    found = [
        f"{text.place}: {text.words}"
        for path in files("sidecar/**/*.py")
        for text in docstrings(path)
        if RIDDLE.fullmatch(text.words) and not is_kept(text)
    ]
    assert found == []


def test_what_is_kept_is_there() -> None:
    """An exception whose line has changed is removed from the list."""
    there = {file for file, part in KEPT if part in (ROOT / file).read_text("utf-8")}
    assert {file for file, _ in KEPT} == there


@pytest.mark.parametrize(
    "line",
    [
        "It waits, for the peer is slow.",
        "Whoever asks is answered.",
        "the key is to be kept",
        "Redis tells of changes",
    ],
)
def test_a_stumble_is_found(line: str) -> None:
    """The patterns find what they are meant to find."""
    assert any(pattern.search(line) for pattern in STUMBLES.values())
