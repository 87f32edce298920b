"""The route table: every request has exactly one route, that of the first rule that matches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.credentials import Accepts
from sidecar.auth.route_rule import Access, Forwards, RouteRule
from sidecar.auth.routes import Requirement, Route, RouteTable, bare_host
from sidecar.claim_path import ClaimPath
from sidecar.errors import ConfigError
from tests.auth.forge import unhurried

RULES = (
    RouteRule(path="/health", access=Access.PUBLIC, methods=["GET"]),
    RouteRule(path="/admin/open", access=Access.PUBLIC),
    RouteRule(path="/admin/*", roles=["admin"], name="administration"),
    RouteRule(path="/admin/late", access=Access.PUBLIC, name="never"),
    RouteRule(path="/upload/*", methods=["PUT", "post"], scopes=["write"]),
    RouteRule(path="/static/*", hosts=["Cdn.Example", "[::1]"], access=Access.PUBLIC),
    RouteRule(path="/caf%C3%A9/*", access=Access.OPTIONAL),
    RouteRule(path="/slash/", access=Access.PUBLIC),
    RouteRule(path="/", access=Access.PUBLIC),
)
TABLE = RouteTable(RULES)
OPEN_TABLE = RouteTable((RouteRule(path="/private/*"), RouteRule(path="/*", access=Access.PUBLIC)))


@pytest.mark.parametrize(
    ("method", "host", "path", "name"),
    [
        pytest.param("GET", "x", "/health", "health", id="exact"),
        pytest.param("HEAD", "x", "/health", "health", id="get-covers-head"),
        pytest.param("POST", "x", "/health", "default", id="other-method"),
        pytest.param("get", "x", "/health", "default", id="method-case-counts"),
        pytest.param("GET", "x", "/health/", "default", id="exact-and-slash"),
        pytest.param("GET", "x", "/health/x", "default", id="exact-and-more"),
        pytest.param("GET", "x", "/healthy", "default", id="exact-and-letter"),
        pytest.param("GET", "x", "/Health", "default", id="path-case-counts"),
        pytest.param("GET", "x", "/health?x", "default", id="query-is-no-path"),
        pytest.param("GET", "x", "/admin", "administration", id="prefix-itself"),
        pytest.param("GET", "x", "/admin/", "administration", id="prefix-slash"),
        pytest.param("GET", "x", "/admin/a/b", "administration", id="prefix-below"),
        pytest.param("GET", "x", "/administrator", "default", id="prefix-and-letter"),
        pytest.param("GET", "x", "/admin/open", "admin-open", id="exact-before-prefix"),
        pytest.param("GET", "x", "/admin/late", "administration", id="exact-after-prefix"),
        pytest.param("PUT", "x", "/upload/a", "upload", id="method-of-prefix"),
        pytest.param("POST", "x", "/upload", "upload", id="method-written-small"),
        pytest.param("GET", "x", "/upload/a", "default", id="other-method-of-prefix"),
        pytest.param("HEAD", "x", "/upload/a", "default", id="put-covers-no-head"),
        pytest.param("GET", "cdn.example", "/static/a", "static", id="host"),
        pytest.param("GET", "CDN.example:8080", "/static/a", "static", id="host-case-and-port"),
        pytest.param("GET", "cdn.example.", "/static", "static", id="host-with-final-dot"),
        pytest.param("GET", "cdn.example.:80", "/static", "static", id="host-with-dot-and-port"),
        pytest.param("GET", "[::1]:80", "/static/a", "static", id="host-ipv6"),
        pytest.param("GET", "[::1]", "/static/a", "static", id="host-ipv6-without-port"),
        pytest.param("GET", "cdn.example.evil", "/static/a", "default", id="host-and-more"),
        pytest.param("GET", "a.cdn.example", "/static/a", "default", id="host-below"),
        pytest.param("GET", "", "/static/a", "default", id="no-host"),
        pytest.param("GET", "x", "/café/au/lait", "caf-C3-A9", id="decoded"),
        pytest.param("GET", "x", "/caf%C3%A9/x", "default", id="not-decoded-twice"),
        pytest.param("GET", "x", "/slash/", "slash", id="trailing-slash"),
        pytest.param("GET", "x", "/slash", "default", id="trailing-slash-missing"),
        pytest.param("GET", "x", "/", "root", id="root"),
        pytest.param("GET", "x", "/other", "default", id="nothing"),
        pytest.param("OPTIONS", "x", "*", "default", id="asterisk"),
        pytest.param("GET", "x", "", "default", id="empty"),
    ],
)
def test_match(method: str, host: str, path: str, name: str) -> None:
    """A request gets the first rule that matches its path, method and host, or the default."""
    assert TABLE.match(method.encode(), host.encode(), path).name == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/", "all", id="root"),
        pytest.param("/x", "all", id="any"),
        pytest.param("/private", "private", id="earlier-prefix"),
        pytest.param("/private/x", "private", id="below-earlier-prefix"),
        pytest.param("*", "default", id="asterisk"),
    ],
)
def test_match_everything(path: str, name: str) -> None:
    """The rule "/*" matches every path that no earlier rule matched, and nothing but paths."""
    assert OPEN_TABLE.match(b"GET", b"x", path).name == name


def test_empty_table() -> None:
    """Without any rule, every request requires a session."""
    route = RouteTable().match(b"GET", b"x", "/")
    assert (route.name, route.access) == ("default", Access.REQUIRED)
    assert [route.public, route.optional, route.restricted] == [False] * 3


def test_compiled_route() -> None:
    """A route has the values of its rule, in the form in which requests are compared."""
    rule = RouteRule(
        path="/x",
        access=Access.REQUIRED,
        roles=["a", "b"],
        scopes=["c"],
        claims={"tenant": ["t", 7]},
        upgrades=["WebSocket", "raw"],
        target="api",
    )
    assert RouteTable((rule,)).routes == (
        Route(
            name="x",
            requirement=Requirement(
                frozenset(("a", "b")), frozenset(("c",)), ((ClaimPath("tenant"), ("t", 7)),)
            ),
            upgrades=frozenset((b"websocket", b"raw")),
            target="api",
        ),
    )


@pytest.mark.parametrize(
    ("rule", "flags"),
    [
        pytest.param({"access": Access.PUBLIC}, "special public", id="public"),
        pytest.param({"access": "public"}, "special public", id="public-as-text"),
        pytest.param({"credentials": Accepts.BEARER}, "special", id="bearer"),
        pytest.param({"credentials": Accepts.COOKIE}, "special", id="cookie"),
        pytest.param({"credentials": Accepts.ANY}, "", id="any"),
        pytest.param({"access": Access.OPTIONAL}, "optional", id="optional"),
        pytest.param({"access": "required"}, "", id="required"),
        pytest.param({"roles": ["a"]}, "restricted", id="roles"),
        pytest.param({"scopes": ["a"]}, "restricted", id="scopes"),
        pytest.param({"claims": {"a": ["b"]}}, "restricted", id="claims"),
    ],
)
def test_flags(rule: dict[str, Any], flags: str) -> None:
    """The flags that the gate reads follow from access, credentials and requirement."""
    route = RouteTable((RouteRule(path="/x", **rule),)).routes[0]
    names = ("special", "public", "optional", "restricted")
    assert [name for name in names if getattr(route, name)] == flags.split()


@pytest.mark.parametrize(
    ("access", "forwards", "hides"),
    [
        pytest.param(Access.PUBLIC, None, (True, True), id="public"),
        pytest.param(Access.OPTIONAL, None, (True, False), id="optional"),
        pytest.param(Access.REQUIRED, None, (True, False), id="required"),
        pytest.param(Access.REQUIRED, Forwards.NONE, (True, True), id="none"),
        pytest.param(Access.PUBLIC, Forwards.TOKEN, (True, False), id="token"),
        pytest.param(Access.PUBLIC, Forwards.ALL, (False, False), id="all"),
    ],
)
def test_hidden_credentials(
    access: Access, forwards: Forwards | None, hides: tuple[bool, bool]
) -> None:
    """What is hidden from the application, cookie and token, depends on the access by default."""
    table = RouteTable((RouteRule(path="/x", access=access, forwards=forwards),))
    route = table.match(b"GET", b"", "/x")
    assert (route.hides_cookie, route.hides_token) == hides
    assert (table.default.hides_cookie, table.default.hides_token) == (True, False)


def test_names() -> None:
    """An unnamed route gets a unique name that is derived from its path."""
    paths = ["/a/*", "/a", "/*", "/", "/default", "/a b/ü/*", "/%C3%BC", "/x.y_z-1"]
    rules = [RouteRule(path=path) for path in paths]
    table = RouteTable((*rules, RouteRule(path="/late", name="a-2"), RouteRule(path="/a/")))
    assert [route.name for route in table.routes] == [
        *("a", "a-3", "all", "root", "default-2", "a-b", "C3-BC", "x.y_z-1", "a-2", "a-4"),
    ]
    assert table.all == (*table.routes, table.default)
    assert repr(table) == "<RouteTable 10 routes>"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        pytest.param({"path": ""}, "expected a path such as /x", id="empty"),
        pytest.param({"path": "x"}, "expected a path such as /x", id="no-slash"),
        pytest.param({"path": "*"}, "expected a path such as /x", id="asterisk"),
        pytest.param({"path": "/x*"}, "expected a path such as /x", id="asterisk-in-segment"),
        pytest.param({"path": "/*/x"}, "expected a path such as /x", id="asterisk-inside"),
        pytest.param({"path": "/x?y"}, "expected a path such as /x", id="query"),
        pytest.param({"path": "/x#y"}, "expected a path such as /x", id="fragment"),
        pytest.param({"path": "/a%2Fb"}, "expected escapes of UTF-8", id="escaped-slash"),
        pytest.param({"path": "/a%FF"}, "expected escapes of UTF-8", id="escape-not-utf-8"),
        pytest.param({"path": "/a//b"}, 'without "//"', id="empty-segment"),
        pytest.param({"path": "//*"}, 'without "//"', id="only-empty-segments"),
        pytest.param({"path": "/a/../b"}, 'without "//"', id="dots"),
        pytest.param({"path": "/a/%2E/b"}, 'without "//"', id="escaped-dot"),
        pytest.param(
            {"path": "/x", "access": Access.PUBLIC, "roles": ["a"]}, "access required", id="public"
        ),
        pytest.param(
            {"path": "/x", "access": Access.OPTIONAL, "scopes": ["a"]},
            "access required",
            id="optional",
        ),
        pytest.param(
            {"path": "/x", "access": "public", "claims": {"a": ["b"]}}, "access required", id="text"
        ),
        pytest.param({"path": "/x", "scopes": ["a b"]}, "RFC 6749", id="scope-with-space"),
        pytest.param({"path": "/x", "scopes": ['a"']}, "RFC 6749", id="scope-with-quote"),
        pytest.param({"path": "/x", "scopes": [""]}, "RFC 6749", id="scope-empty"),
        pytest.param({"path": "/x", "claims": {"a": []}}, 'a value for claim "a"', id="no-value"),
        pytest.param({"path": "/x", "name": "default"}, 'other than "default"', id="name-taken"),
        pytest.param(
            {"path": "/x", "claims": {"a..b": ["c"]}},
            "a name on each side of every dot",
            id="claim",
        ),
    ],
)
def test_bad_rule(rule: dict[str, Any], problem: str) -> None:
    """An invalid rule is reported with its place."""
    with pytest.raises(ConfigError) as caught:
        RouteTable((RouteRule(path="/good"), RouteRule(**rule)))
    assert [each.where for each in caught.value.problems] == [f"route {rule['path']}"]
    assert problem in caught.value.problems[0].message


def test_all_problems_at_once() -> None:
    """Every problem of every rule is reported, including a repeated name."""
    rules = (
        RouteRule(path="x", name="a", scopes=["b c"]),
        RouteRule(path="/y", name="b"),
        RouteRule(path="/z", name="a"),
    )
    with pytest.raises(ConfigError) as caught:
        RouteTable(rules)
    places = [each.where for each in caught.value.problems]
    assert places == ["route x", "route x", "route /z"]


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        pytest.param(b"Example.COM", b"example.com", id="case"),
        pytest.param(b"example.com:", b"example.com", id="empty-port"),
        pytest.param(b"[::1]:443", b"[::1]", id="ipv6-with-port"),
        pytest.param(b"", b"", id="empty"),
    ],
)
def test_bare_host(authority: bytes, host: bytes) -> None:
    """Hosts are compared without case, port and final dot."""
    assert bare_host(authority) == host


def reference(rules: list[RouteRule], method: str, path: str) -> str:
    """Return the name of a route as documented, by trying one rule after the other."""
    for number, rule in enumerate(rules):
        methods = {*rule.methods, *(["HEAD"] if "GET" in rule.methods else [])}
        prefix = rule.path.removesuffix("*")
        below = rule.path.endswith("/*") and (path.startswith(prefix) or path == prefix[:-1])
        if (path == rule.path or below) and (not methods or method in methods):
            return f"r{number}"
    return "default"


PATHS = st.lists(st.sampled_from("ab"), max_size=3).map(lambda parts: "/" + "/".join(parts))
PATTERNS = st.tuples(PATHS, st.booleans()).map(
    lambda made: (made[0].rstrip("/") + "/*") if made[1] else made[0]
)
METHODS = st.sampled_from(["GET", "HEAD", "POST"])


@unhurried
@given(
    st.lists(st.tuples(PATTERNS, st.lists(METHODS, max_size=2)), max_size=6),
    st.lists(st.tuples(METHODS, PATHS), min_size=1, max_size=10),
)
def test_compiled_table_is_the_list(
    patterns: list[tuple[str, list[str]]], asked: list[tuple[str, str]]
) -> None:
    """The compiled table gives the same result as trying the rules in order."""
    rules = [
        RouteRule(path=path, methods=methods, name=f"r{number}")
        for number, (path, methods) in enumerate(patterns)
    ]
    table = RouteTable(rules)
    for method, path in asked:
        assert table.match(method.encode(), b"x", path).name == reference(rules, method, path)
