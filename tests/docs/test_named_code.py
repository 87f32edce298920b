"""The contributors' pages name existing files, classes and functions, even after a move."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.manifests import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES: Final = (ROOT / "docs/architecture.md", ROOT / "CONTRIBUTING.md")
BASES: Final = (ROOT, *(ROOT / name for name in ("sidecar", "sidecar/app", "sidecar/sessions")))
# Names in other programs and libraries that the pages mention.
FOREIGN: Final = {"PyJWKClient", "jwt_authn", "jwt_verify", "mod_auth_openidc"}
CODE: Final = "\n".join(
    path.read_text("utf-8")
    for folder in ("sidecar", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def quoted(page: Path) -> list[str]:
    """All inline code of a page."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text("utf-8"))


@each_page
def test_named_files_exist(page: Path) -> None:
    """Each path exists below the repository, the package or one of its main folders."""
    paths = [each for each in quoted(page) if re.fullmatch(r"[a-z][\w.-]*(/[\w.-]*)+", each)]
    assert len(paths) > 20
    assert [path for path in paths if not any((base / path).exists() for base in BASES)] == []


@each_page
def test_named_classes_exist(page: Path) -> None:
    """Each name in mixed case, such as `RouteTable.match`, is defined in the code."""
    names = {each.split("(")[0] for each in quoted(page)}
    found = [re.fullmatch(r"([A-Z][a-z]+(?:[A-Z]\w*)+)(?:\.(\w+))?", name) for name in names]
    known = [match for match in found if match is not None and match[1] not in FOREIGN]
    assert len(known) > 3
    for match in known:
        assert re.search(rf"\bclass {match[1]}\b", CODE), match[0]
        assert match[2] is None or re.search(rf"\bdef {match[2]}\b", CODE), match[0]


@each_page
def test_named_functions_exist(page: Path) -> None:
    """Each lower-case name with an underscore occurs in the code."""
    names = [each for each in quoted(page) if re.fullmatch(r"_?[a-z]+(_[a-z]+)*_?", each)]
    unknown = [
        name for name in names if "_" in name and not re.search(rf"\b{re.escape(name)}\b", CODE)
    ]
    assert [name for name in unknown if name not in FOREIGN] == []
