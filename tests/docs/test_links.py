"""Links in the documentation lead somewhere, and the settings and metrics that it names exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.settings import Settings
from sidecar.telemetry.exposition import MetricsCollector
from tests.deploy.manifests import ROOT
from tests.docs.pages import anchors, blocks, contents, links
from tests.peers.all_metrics import all_metrics

if TYPE_CHECKING:
    from pathlib import Path

PAGES: Final = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "THREAT_MODEL.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

# Names in capitals with an underscore that are not settings.
OTHERS: Final = {
    *("OPERATOR_PASSWORD", "REDISCLI_AUTH", "SIDECAR_CONFIG", "SIDECAR_TREE", "SSL_CERT_FILE"),
    *("REDIS_PASSWORD_FILE", "JWT_SECRET_FILE", "_PREVIOUS"),
}
# Files that do not exist before `make bench` writes them.
LATER: Final[frozenset[str]] = frozenset()


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names an existing file and, if it has an anchor, an existing heading."""
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if str(target.relative_to(ROOT)) not in LATER:
            assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_contents_name_every_section(page: Path) -> None:
    """A list of contents has the sections of its page in order, and their parts in order."""
    listed = contents(page)
    sections = [anchor for anchor in anchors(page, "##") if anchor != "related"]
    assert [anchor for anchor in listed if anchor in sections] == (sections if listed else [])
    parts = [anchor for anchor in anchors(page, "##+") if anchor in listed]
    assert listed == parts


@every_page
def test_settings_exist(page: Path) -> None:
    """All settings that a page names exist."""
    known = {name.upper() for name in Settings.__struct_fields__} | OTHERS
    named = re.findall(r"`([A-Z]*_[A-Z_]+)(?:=[^`]*)?`", page.read_text())
    assert [name for name in named if name not in known] == []


@every_page
def test_metrics_exist(page: Path) -> None:
    """All metrics that a page names exist."""
    families = [family.name for family in MetricsCollector(all_metrics()).collect()]
    known = {name + suffix for name in families for suffix in ("", "_total", "_bucket", "_sum")}
    named = re.findall(r"`(sidecar_[a-z_]+)", page.read_text())
    assert [name for name in named if name not in known] == []


def test_every_setting_has_its_default() -> None:
    """The list of settings in docs/operating.md agrees with config/sidecar.toml."""
    (listed,) = (b.text for b in blocks(ROOT / "docs/operating.md") if "ADMIN_LISTEN=" in b.text)
    shown = dict(re.findall(r"(?m)(?:^|  )([A-Z_]+)=(\S*(?: \S+)*)", listed))
    annotated = (ROOT / "config/sidecar.toml").read_text().partition("#[identity]")[0]
    defaults = dict(re.findall(r'(?m)^#([a-z_]+) = "?([^"\n]*)"?$', annotated))
    expected = {name.upper(): value.replace("[]", "") for name, value in defaults.items()}
    assert shown == expected
