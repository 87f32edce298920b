"""However a path is spelt, the upstream sees the same path that the decision was made on.

The tests assume the laxest possible upstream: it unescapes, merges slashes, treats a backslash as a
slash, drops `;parameters`, and resolves dots.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.peers.raw_client import build
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream

ROUTES = (
    {"path": "/public/*", "access": "public"},
    {"path": "/admin/*", "roles": ["admin"]},
    {"path": "/own/*"},
    {"path": "/*", "roles": ["nobody"]},
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar with public paths and paths that only an administrator may access."""
    async with stack(upstream.url, routes=ROUTES) as running:
        yield running


@pytest.fixture
async def normalising(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """Like `guarded`, but ambiguous paths are normalised."""
    trusted = ["127.0.0.1"]
    async with stack(
        upstream.url, routes=ROUTES, paths_ambiguous="normalise", trusted_proxies=trusted
    ) as running:
        yield running


@pytest.fixture(params=["guarded", "normalising"])
def either(request: pytest.FixtureRequest) -> Stack:
    """Run the test once with each of the two sidecars."""
    running: Stack = request.getfixturevalue(request.param)
    return running


def as_lax_upstream_reads(target: bytes) -> list[bytes]:
    """Return the path segments that the laxest upstream sees in a request target."""
    path = unquote_to_bytes(target.partition(b"?")[0]).partition(b"\0")[0].replace(b"\\", b"/")
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        plain = segment.partition(b";")[0]
        if plain == b"..":
            kept = kept[:-1]
        elif plain not in {b"", b"."}:
            kept.append(plain.lower())
    return kept


PIECES = (
    *("/", "//", "/./", "/../", "..", ".", "\\", "%5c", "%2f", "%2F", "%2e", "%2E%2e", "..;"),
    *(";", ";x=1", "%3b", "%00", "%20", "%09", "%0a", "%25", "?", "#", "@", ":", "*", "~", "+"),
    *("public", "admin", "own", "Admin", "%61dmin", "pub", "lic", "http:", "x", "%c0%ae", "\t"),
)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=7),
    start=st.sampled_from(["/", "/public/"]),
)
@example(pieces=["..", "/", "admin"], start="/public/")
@example(pieces=["..", "%2f", "admin"], start="/public/")
@example(pieces=["..;", "/", "admin"], start="/public/")
@example(pieces=["%2E%2e", "\\", "admin"], start="/public/")
@example(pieces=["..", "%5c", "admin"], start="/public/")
@example(pieces=["%61dmin", "/"], start="/")
@example(pieces=["/", "admin"], start="/")
@example(pieces=[";x=1", "/", "admin"], start="/")
async def test_no_spelling_opens_a_path(
    upstream: ScriptedUpstream, either: Stack, pieces: list[str], start: str
) -> None:
    """Without a token, only paths that even a lax upstream reads as public get through."""
    upstream.requests.clear()
    target = start + "".join(pieces)
    answer = await either.get(target)
    assert answer.status in {200, 400, 401}
    for request in upstream.requests:
        assert as_lax_upstream_reads(request.target)[:1] == [b"public"], target
        assert b"#" not in request.target


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/",
        "//admin/x",
        "/./admin/x",
        "/own/../admin/x",
        "/own/%2e%2e/admin",
        "/own/..%2fadmin",
        "/own/..;/admin",
        "/own\\..\\admin",
        "/own/%5c../admin",
        "/%61dmin/x",
        "/%61%64%6d%69%6e",
        "/admin%2fx",
        "/admin;x=1/y",
        "/admin%3bx",
        "/admin%00",
        "/admin%20",
        "/admin/..",
        "/own/.%2e/%61dmin",
        "http://sidecar.test/admin",
        "http://sidecar.test//admin",
        "http://sidecar.test/own/../admin",
    ],
)
async def test_no_spelling_reaches_the_administrators_corner(
    upstream: ScriptedUpstream, guarded: Stack, path: str
) -> None:
    """A user without the role cannot reach an admin path by another spelling of it."""
    token = (await guarded.login("alice")).access
    answer = await guarded.get(path, token=token)
    assert answer.status in {400, 403}
    assert upstream.requests == []


@pytest.mark.parametrize(
    "path", ["/auth%2flogin", "/auth/../auth/login", "/%61uth/login", "//auth/login", "/Auth/login"]
)
async def test_own_endpoints_are_not_the_upstreams(
    upstream: ScriptedUpstream, either: Stack, path: str
) -> None:
    """Other spellings of the sidecar's own endpoints do not reach the upstream unguarded."""
    assert (await either.get(path)).status in {200, 400, 401, 404, 405}
    assert upstream.requests == []


async def test_decision_and_upstream_see_one_target(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """The path that was decided on is forwarded, and the query is forwarded unchanged."""
    for path in ("/public/a%20b", "/public/a+b", "/public/%C3%A9", "/public/a:b@c"):
        assert (await guarded.ask(build("GET", f"{path}?%2e%2e/%61#".rstrip("#")))).status == 200
        seen = upstream.requests[-1].target
        assert re.sub(rb"\?.*", b"", seen).lower() == path.lower().encode()
        assert seen.endswith(b"?%2e%2e/%61")


@pytest.mark.parametrize(
    ("target", "status", "seen"),
    [
        ("/own/../public/x?/../%61", 200, b"/public/x?/../%61"),
        ("/public/%61//b/.", 200, b"/public/a/b/"),
        ("http://sidecar.test/own/../public/x", 200, b"/public/x"),
        ("/public/../own/x", 401, None),
        ("/public/..//%6fwn/x", 401, None),
        ("/public/../../x", 400, None),
        ("/public/..%2fown", 400, None),
        ("/public/..;/own", 400, None),
    ],
)
async def test_normalised_paths_are_decided_on(
    upstream: ScriptedUpstream, normalising: Stack, target: str, status: int, seen: bytes | None
) -> None:
    """Routes and application see the normalised path, with the query unchanged."""
    assert (await normalising.get(target)).status == status
    assert [request.target for request in upstream.requests] == ([seen] if seen else [])


@pytest.mark.parametrize(
    ("path", "lines", "status"),
    [
        ("/auth/verify", ("X-Original-URI: /public/x", "X-Original-Method: GET"), 200),
        ("/auth/verify", ("X-Original-URI: /own/../public/x", "X-Original-Method: GET"), 403),
        ("/auth/verify/envoy/public/x", (), 200),
        ("/auth/verify/envoy/own/../public/x", (), 400),
        ("/auth/verify/envoy/../../../public/x", (), 400),
        ("/public/../auth/verify/envoy/public/x", (), 400),
    ],
)
async def test_a_subrequest_is_never_normalised(
    upstream: ScriptedUpstream, normalising: Stack, path: str, lines: tuple[str, ...], status: int
) -> None:
    """Ambiguous subrequest targets are denied: the asking proxy forwards them unnormalised."""
    assert (await normalising.get(path, *lines)).status == status
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("target", "goes_on", "logged"),
    [
        pytest.param("/own/x?a=/../b", "/own/x?a=/../b", ("/own/x", "mine"), id="plain"),
        pytest.param("/public/../own/x", "/own/x", ("/own/x", "mine"), id="dots"),
        pytest.param(
            "//own//%78%3f?b=%2e%2e", "/own/x%3F?b=%2e%2e", ("/own/x?", "mine"), id="escapes"
        ),
        pytest.param("/own/..", "/", ("/", "rest"), id="to-the-root"),
        pytest.param(
            "http://sidecar.test/own/./caf%c3%a9",
            "/own/caf%C3%A9",
            ("/own/café", "mine"),
            id="absolute",
        ),
    ],
)
async def test_a_login_leads_back_to_the_normalised_target(
    upstream: ScriptedUpstream,
    capfd: pytest.CaptureFixture[str],
    target: str,
    goes_on: str,
    logged: tuple[str, str],
) -> None:
    """Redirect, log, route and upstream agree on one target, before the login and after it."""
    routes = ({"path": "/own/*", "name": "mine"}, {"path": "/*", "name": "rest"})
    async with stack(
        upstream.url, routes=routes, paths_ambiguous="normalise", access_log="all"
    ) as running:
        sent_away = await running.get(target, "Sec-Fetch-Mode: navigate")
        assert sent_away.status == 302
        location = sent_away.fields.one("location").decode()
        assert parse_qs(location.partition("?")[2]) == {"rd": [goes_on]}
        form = "Content-Type: application/x-www-form-urlencoded"
        body = f"username=alice&password=pw-alice&{location.partition('?')[2]}".encode()
        origin = "Origin: http://sidecar.test"
        entered = await running.ask(build("POST", "/auth/login", origin, form, body=body))
        back = entered.fields.one("location").decode()
        assert (entered.status, back) == (303, goes_on)
        cookie = entered.fields.one("set-cookie").decode().partition(";")[0]
        for again in (back, target):
            assert (await running.get(again, f"Cookie: {cookie}")).status == 200
    assert [request.target.decode() for request in upstream.requests] == [goes_on, goes_on]
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    seen = [(line["path"], line["route"], line["status"]) for line in lines]
    assert seen == [
        (*logged, 302),
        ("/auth/login", "auth", 303),
        (*logged, 200),
        (*logged, 200),
    ]


FOLDED: Final = (
    {"path": "/admin/*", "roles": ["admin"], "paths_case": "insensitive"},
    {
        "path": "/report",
        "roles": ["admin"],
        "paths_case": "insensitive",
        "trailing_slash": "ignore",
    },
    {"path": "/*"},
)
ALIKE: Final = ("/admin", "/ADMIN", "/Admin/x", "/aDMIN/", "/%41dmin/x", "/report", "/Report/")


@pytest.mark.parametrize("path", ALIKE)
async def test_a_rule_covers_what_the_application_folds(
    upstream: ScriptedUpstream, path: str
) -> None:
    """An application like Express serves these paths alike, and so does the rule decide on them.

    The last rule shows what passed without `paths_case` and `trailing_slash`.
    """
    async with stack(upstream.url, routes=FOLDED) as running:
        token = (await running.login()).access
        assert (await running.get(path, token=token)).status == 403
        assert (await running.get("/reports", token=token)).status == 200
        token = (await running.login("admin")).access
        assert (await running.get(path, token=token)).status == 200
        assert (await upstream.arrived(2)).target == path.encode()


@pytest.mark.parametrize("path", ["/ADMIN", "/report/", "/%41dmin/x"])
async def test_by_default_a_rule_is_for_the_path_as_written(
    upstream: ScriptedUpstream, path: str
) -> None:
    """Without these options, a neighbouring spelling gets the next rule."""
    rules = ({"path": "/admin/*", "roles": ["admin"]}, {"path": "/report", "roles": ["admin"]})
    async with stack(upstream.url, routes=rules) as running:
        token = (await running.login()).access
        assert (await running.get(path, token=token)).status == 200
