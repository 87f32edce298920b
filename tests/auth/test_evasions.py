"""Configurations in which a path with escapes could evade a rule."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.auth.evasions import find_evasions
from sidecar.auth.route_rule import Access, Outage, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.auth.strictness import allows_no_more
from sidecar.wire.escaped_path import read_escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

API: Final = RouteRule(path="/api/*", name="api", passes_escapes=True)
ALL: Final = RouteRule(path="/*", name="all", passes_escapes=True)
OWN: Final = RouteRule(path="/auth/*", access=Access.PUBLIC, target="api", upgrades=())


def problems(*rules: RouteRule) -> list[str]:
    """The problems of these rules, which follow one of the sidecar's own."""
    return [str(each) for each in find_evasions(rules, RouteTable((OWN, *rules)))]


def test_both_routes_and_a_path_are_named() -> None:
    """The message says which routes do not fit together, and shows a path."""
    assert problems(RouteRule(path="/api/admin/*", name="admin", roles=["admin"]), API) == [
        (
            'route /api/*: expected path_escapes = "reject" on route api, or no stricter route '
            'below it: an application that decodes "/api/admin%2Fx" serves what route admin '
            "protects"
        )
    ]


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        pytest.param(
            [RouteRule(path="/api/a/b", roles=["r"]), API], "/api/a%2Fb", id="exact-and-deep"
        ),
        pytest.param([RouteRule(path="/api/x", scopes=["s"]), API], "/api/x;xx", id="fresh-name"),
        pytest.param([RouteRule(path="/a", claims={"t": [1]}), ALL], "/a;x", id="claim"),
        pytest.param([RouteRule(path="/", roles=["r"]), ALL], "/;x", id="root"),
        pytest.param(
            [RouteRule(path="/api/", roles=["r"]), API], "/api/;x", id="the-prefix-with-a-slash"
        ),
        pytest.param(
            [RouteRule(path="/api", roles=["r"], trailing_slash="ignore"), API],
            "/api/;x",
            id="the-prefix-with-or-without-a-slash",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a", access=Access.PUBLIC),
                RouteRule(path="/api/a/*", roles=["r"]),
                API,
            ],
            "/api/a%2Fx",
            id="below-a-looser-exact-rule",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a", access=Access.PUBLIC, trailing_slash="ignore"),
                RouteRule(path="/api/a/*", roles=["r"]),
                API,
            ],
            "/api/a%2Fx",
            id="further-below-a-looser-exact-rule",
        ),
        pytest.param(
            [
                RouteRule(path="/API/Admin/*", roles=["r"], paths_case="insensitive"),
                API,
            ],
            "/api/Admin%2Fx",
            id="the-stricter-rule-ignores-case",
        ),
        pytest.param(
            [
                RouteRule(path="/strasse/a", roles=["r"]),
                RouteRule(path="/straße/*", paths_case="insensitive", passes_escapes=True),
            ],
            "/strasse/a;x",
            id="the-passing-rule-ignores-case",
        ),
        pytest.param(
            [RouteRule(path="/api/a", methods=["DELETE"], roles=["r"]), API],
            "/api/a;x",
            id="one-method",
        ),
        pytest.param(
            [RouteRule(path="/api/a", hosts=["h"], roles=["r"]), API], "/api/a;x", id="one-host"
        ),
        pytest.param(
            [
                RouteRule(path="/api/a", hosts=["H"], methods=["get"], roles=["r"]),
                RouteRule(path="/api/*", hosts=["h."], methods=["GET"], passes_escapes=True),
            ],
            "/api/a;x",
            id="one-host-in-two-spellings",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a"),
                RouteRule(path="/api/*", access=Access.PUBLIC, passes_escapes=True),
            ],
            "/api/a;x",
            id="public",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a", access=Access.OPTIONAL),
                RouteRule(path="/api/*", access=Access.PUBLIC, passes_escapes=True),
            ],
            "/api/a;x",
            id="optional",
        ),
        pytest.param(
            [RouteRule(path="/api/a", outage=Outage.STRICT), API], "/api/a;x", id="outage"
        ),
        pytest.param([RouteRule(path="/api/a", upgrades=[]), API], "/api/a;x", id="upgrades"),
        pytest.param(
            [
                RouteRule(path="/api/a"),
                RouteRule(path="/api/*", preflight=True, passes_escapes=True),
            ],
            "/api/a;x",
            id="preflight",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a"),
                RouteRule(path="/api/*", ends_live=False, passes_escapes=True),
            ],
            "/api/a;x",
            id="streams-that-outlive-their-session",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a/*", roles=["r"], passes_escapes=True),
                RouteRule(path="/api/*", name="api", passes_escapes=True),
            ],
            "/api/a%2Fx",
            id="both-pass",
        ),
    ],
)
def test_evasion(rules: list[RouteRule], path: str) -> None:
    """A stricter rule that some reading of the path belongs to is a problem, whatever is read."""
    assert any(f'"{path}"' in each for each in problems(*rules)), problems(*rules)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([API], id="alone"),
        pytest.param([ALL, API], id="both-pass-alike"),
        pytest.param([API, RouteRule(path="/api/a/*", roles=["r"])], id="never-reached"),
        pytest.param([RouteRule(path="/admin/*", roles=["r"]), API], id="elsewhere"),
        pytest.param([RouteRule(path="/apis/*", roles=["r"]), API], id="longer-name"),
        pytest.param([API, RouteRule(path="/*", roles=["r"])], id="stricter-above"),
        pytest.param([RouteRule(path="/health", access=Access.PUBLIC), ALL], id="looser-below"),
        pytest.param(
            [
                RouteRule(path="/api/a", roles=["r", "s"]),
                RouteRule(path="/api/*", roles=["r"], passes_escapes=True),
            ],
            id="as-strict",
        ),
        pytest.param(
            [
                RouteRule(path="/api/a", methods=["DELETE"], roles=["r"]),
                RouteRule(path="/api/*", methods=["GET"], passes_escapes=True),
            ],
            id="other-method",
        ),
        pytest.param(
            [
                RouteRule(path="/a", hosts=["one"], roles=["r"]),
                RouteRule(path="/*", hosts=["two"], passes_escapes=True),
            ],
            id="other-host",
        ),
        pytest.param(
            [RouteRule(path="/API/a", roles=["r"], paths_case="sensitive"), API], id="other-case"
        ),
        pytest.param([RouteRule(path="/api/a", roles=["r"]), RouteRule(path="/api/*")], id="none"),
    ],
)
def test_no_evasion(rules: list[RouteRule]) -> None:
    """Rules elsewhere, and rules that are not stricter, may stand beside a passing one."""
    assert problems(*rules) == []


def test_many_rules_take_little_time() -> None:
    """Rules elsewhere, with methods and hosts of their own, cost next to nothing."""
    rules = [
        RouteRule(path=f"/{n}/*", methods=[f"M{n % 9}"], hosts=[f"h{n % 50}"], passes_escapes=True)
        for n in range(300)
    ]
    table = RouteTable(rules)
    began = time.process_time()
    assert not list(find_evasions(rules, table))
    assert time.process_time() - began < 5


SEGMENTS: Final = st.sampled_from(["a", "b"])
RULES: Final = st.builds(
    lambda segments, below, passes, slash, **options: RouteRule(
        path="/" + "/".join(segments) + ("/*" if below and segments else "*" if below else ""),
        passes_escapes=below and passes,
        trailing_slash="" if below else slash,
        **options,
    ),
    st.lists(SEGMENTS, max_size=2),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "ignore"]),
    access=st.sampled_from([Access.PUBLIC, Access.REQUIRED]),
    methods=st.sampled_from([(), ("GET",)]),
    paths_case=st.sampled_from(["", "insensitive"]),
)
PATHS: Final = st.lists(
    st.tuples(st.sampled_from(["/", "%2F", "%252f", ";p/", "%3Bp%2F"]), st.sampled_from("abA")),
    max_size=2,
).map(lambda parts: "/a" + "".join(part for pair in parts for part in pair))
ENDS: Final = st.sampled_from(["", "/", ";p", "%2F"])


def resolutions(path: str) -> Iterator[str]:
    """What servers make of a path: decoded up to twice, without parameters, slashes merged."""
    for depth in range(3):
        read = path
        for _ in range(depth):
            read = unquote(read)
        for stripped in (read, re.sub(r";[^/]*", "", read), unquote(re.sub(r";[^/]*", "", path))):
            yield re.sub(r"/+", "/", stripped)
            yield re.sub(r"/+", "/", re.sub(r";[^/]*", "", unquote(stripped)))


@settings(max_examples=500, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=4), st.tuples(PATHS, ENDS).map("".join))
def test_what_is_accepted_evades_nothing(rules: list[RouteRule], path: str) -> None:
    """With accepted rules, no reading of an accepted path belongs to a stricter route."""
    table = RouteTable(rules)
    seen = read_escaped(path.encode())
    if seen is None or list(find_evasions(rules, table)):
        return
    for method in (b"GET", b"PUT"):
        route = table.match(method, b"h", seen)
        if route.passes_escapes:
            for resolved in resolutions(path):
                evaded = table.match(method, b"h", resolved)
                assert allows_no_more(route, evaded), (route, evaded, resolved)
