"""The paths of one rule, as written and as applications fold them."""

from __future__ import annotations

import pytest

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.route_shapes import make_shape
from sidecar.auth.routes import RouteTable

RULES = (
    RouteRule(path="/open", access=Access.PUBLIC, trailing_slash="ignore"),
    RouteRule(path="/ADMIN/Open", access=Access.PUBLIC, name="exactly"),
    RouteRule(path="/admin/*", roles=["admin"], paths_case="insensitive"),
    RouteRule(path="/Both/", paths_case="insensitive", trailing_slash="ignore"),
    RouteRule(path="/k/*", methods=["PUT"], hosts=["h"], paths_case="insensitive"),
    RouteRule(path="/docs/*", access=Access.PUBLIC, paths_case="insensitive"),
    RouteRule(path="/rest/*", access=Access.PUBLIC),
    RouteRule(path="/rest", name="never"),
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/open", "open", id="exact"),
        pytest.param("/open/", "open", id="slash-ignored"),
        pytest.param("/open/x", "default", id="below-exact"),
        pytest.param("/Open/", "default", id="case-counts"),
        pytest.param("/admin", "admin", id="prefix"),
        pytest.param("/ADMIN", "admin", id="prefix-in-capitals"),
        pytest.param("/Admin/", "admin", id="prefix-and-slash"),
        pytest.param("/aDMIN/X/y", "admin", id="below-prefix"),
        pytest.param("/ADMINS", "default", id="prefix-and-letter"),
        pytest.param("/ADMIN/Open", "exactly", id="earlier-exact-rule"),
        pytest.param("/ADMIN/open", "admin", id="case-of-earlier-rule-counts"),
        pytest.param("/both", "Both", id="both-fold"),
        pytest.param("/BOTH/", "Both", id="both-fold-with-slash"),
        pytest.param("/K/a", "k", id="method-and-host"),
        pytest.param("/\u212a/a", "k", id="kelvin-sign-of-a-restricted-rule"),
        pytest.param("/DOC\u017f/a", "default", id="long-s-of-a-public-rule"),
        pytest.param("/DOCS/a", "docs", id="public-rule"),
        pytest.param("/rest/a", "rest", id="other-prefix"),
        pytest.param("/rest", "rest", id="other-prefix-itself"),
        pytest.param("/", "default", id="root"),
        pytest.param("", "default", id="empty"),
        pytest.param("*", "default", id="asterisk"),
    ],
)
def test_a_table_with_folding_rules(path: str, name: str) -> None:
    """The first rule that matches applies; each rule folds for itself alone."""
    assert RouteTable(RULES).match(b"PUT", b"h:1", path).name == name


def test_method_and_host_still_count() -> None:
    """A folded path does not make a rule apply to another method or host."""
    table = RouteTable(RULES)
    assert table.match(b"GET", b"h", "/K/a").name == "default"
    assert table.match(b"PUT", b"g", "/K/a").name == "default"


def test_everything_ignores_case() -> None:
    """A rule for every path matches every path, whatever it says about case."""
    table = RouteTable((RouteRule(path="/*", paths_case="insensitive", trailing_slash="ignore"),))
    assert table.match(b"GET", b"h", "/A/b/").name == "all"
    assert table.match(b"OPTIONS", b"h", "*").name == "default"


def test_a_prefix_has_no_final_slash() -> None:
    """A prefix matches both spellings anyway, and ignoring the slash changes nothing."""
    shape = make_shape("/a", below=True, any_case=False, any_slash=True, restricts=True)
    assert not shape.folds
    assert shape.matches("/a")
    assert shape.matches("/a/")
    assert not shape.matches("/ab")


def test_the_root_keeps_its_slash() -> None:
    """The final slash of "/" is all of the path."""
    shape = make_shape("/", below=False, any_case=False, any_slash=True, restricts=True)
    assert shape.matches("/")
    assert not shape.matches("")
