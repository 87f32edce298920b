"""CORS preflights through the whole proxy: which ones pass, and what the application sees of them.

The route rule of the announced method decides. A request that is no preflight is decided as usual.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.proxy.context import Limits
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.logs import Redactor
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream, reply
from tests.peers.stack import Stack, mint, stack
from tests.proxy.memory_plane import OK, Plane, rest
from tests.proxy.test_identity import NAMES, identity, variants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROUTES: Final = (
    {"path": "/api/open/*", "access": "public", "preflight": "pass"},
    {"path": "/api/*", "methods": ["PUT"]},
    {"path": "/api/*", "methods": ["GET", "POST"], "preflight": "pass", "name": "api"},
    {"path": "/api/*", "roles": ["admin"], "preflight": "pass", "name": "api-admin"},
    {"path": "/by-hand/*", "methods": ["OPTIONS"], "access": "public"},
)
ORIGIN: Final = "Origin: https://app.example"
SAID: Final = (
    *("Access-Control-Allow-Origin: https://app.example", "Access-Control-Allow-Methods: DELETE"),
    *("Access-Control-Allow-Headers: authorization", "Access-Control-Allow-Credentials: true"),
    *("Access-Control-Max-Age: 600", "Vary: Origin"),
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar whose rules allow some preflights, in front of an application with CORS."""
    upstream.scripts = [
        [reply(b"", "204 No Content", *SAID).replace(b"Content-Length: 0\r\n", b"")]
    ]
    identity_headers = {"X-Auth-Email": "email", "Account": "email"}
    async with stack(upstream.url, routes=ROUTES, identity=identity_headers) as running:
        yield running


def preflight(path: str, *lines: str, method: str = "DELETE") -> bytes:
    """Build the preflight that a browser sends before a request, with extra header lines."""
    asks = f"Access-Control-Request-Method: {method}"
    return build("OPTIONS", path, ORIGIN, asks, *lines)


async def decisions(running: Stack, decision: str, reason: str) -> float:
    """Return how often this decision was made for this reason."""
    labels = f'decision="{decision}",reason="{reason}"'
    return await running.metric(f"sidecar_decisions_total{{{labels}}}")


@pytest.mark.parametrize(
    ("path", "method", "route"),
    [
        pytest.param("/api/x", "DELETE", "api-admin", id="role"),
        pytest.param("/api/x", "GET", "api", id="its-own-rule"),
        pytest.param("/api/x", "HEAD", "api", id="get-covers-head"),
        pytest.param("/api/open/x", "PUT", "api-open", id="public"),
    ],
)
async def test_passes_and_the_answer_is_the_applications(
    upstream: ScriptedUpstream, guarded: Stack, path: str, method: str, route: str
) -> None:
    """A preflight needs no token to reach the application, whose headers come back unchanged."""
    asked = "Access-Control-Request-Headers: authorization, x-a"
    answer = await guarded.ask(preflight(path + "?q=%20", asked, method=method))
    assert answer.status == 204
    for line in SAID:
        name, _, value = line.partition(": ")
        assert answer.fields.one(name) == value.encode()
    seen = await upstream.arrived()
    assert seen.line == f"OPTIONS {path}?q=%20 HTTP/1.1".encode()
    assert seen.fields.one("Origin") == b"https://app.example"
    assert seen.fields.one("Access-Control-Request-Method") == method.encode()
    assert seen.fields.one("Access-Control-Request-Headers") == b"authorization, x-a"
    assert identity(seen.fields) == {name.lower(): [b""] for name in (*NAMES, "X-Auth-Email")}
    assert await decisions(guarded, "allow", "preflight") == 1
    assert await decisions(guarded, "allow", "none") == 0
    assert await guarded.metric(f'sidecar_requests_total{{code="204",route="{route}"}}') == 1


@pytest.mark.parametrize(
    ("path", "method"),
    [
        pytest.param("/api/x", "PUT", id="rule-without-preflight"),
        pytest.param("/other", "DELETE", id="no-rule"),
        pytest.param("/apix", "DELETE", id="not-below-prefix"),
        pytest.param("/", "GET", id="root"),
    ],
)
async def test_a_rule_that_does_not_say_so(
    upstream: ScriptedUpstream, guarded: Stack, path: str, method: str
) -> None:
    """If the announced method's rule does not allow preflights, they need a token."""
    answer = await guarded.ask(preflight(path, method=method))
    assert answer.status == 401
    assert b"\r\naccess-control-" not in answer.head.lower()
    assert await decisions(guarded, "deny", "no_credentials") == 1
    assert await decisions(guarded, "allow", "preflight") == 0
    token = f"Authorization: Bearer {(await guarded.login('admin')).access}"
    assert (await guarded.ask(preflight(path, token, method=method))).status == 204
    assert (await upstream.arrived()).fields.one("X-Auth-User") == b"admin"


async def test_a_rule_by_hand_stays_what_it_was(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """A public rule for OPTIONS allows every OPTIONS request, with all its headers."""
    cookie = "Cookie: a=b"
    assert (await guarded.ask(preflight("/by-hand/x", cookie))).status == 204
    assert (await guarded.ask(build("OPTIONS", "/by-hand/x", cookie))).status == 204
    assert [got.fields.one("Cookie") for got in upstream.requests] == [b"a=b"] * 2
    assert await decisions(guarded, "allow", "none") == 2


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="nothing"),
        pytest.param((ORIGIN,), id="no-method"),
        pytest.param(("Access-Control-Request-Method: GET",), id="no-origin"),
        pytest.param(
            (ORIGIN, "Origin: null", "Access-Control-Request-Method: GET"), id="two-origins"
        ),
        pytest.param((ORIGIN, *["Access-Control-Request-Method: GET"] * 2), id="two-methods"),
        pytest.param(
            (ORIGIN, "Access-Control-Request-Method: GET", "Connection: Origin"),
            id="named-in-connection",
        ),
        pytest.param(
            (ORIGIN, "Access-Control-Request-Method: GET", "X-HTTP-Method-Override: DELETE"),
            id="override",
        ),
        pytest.param(
            (
                *(ORIGIN, "Access-Control-Request-Method: GET", "Connection: Upgrade"),
                "Upgrade: websocket",
            ),
            id="upgrade",
        ),
    ],
)
async def test_what_only_looks_like_one(
    upstream: ScriptedUpstream, guarded: Stack, lines: tuple[str, ...]
) -> None:
    """A request that only resembles a preflight is decided as usual: it needs a token."""
    assert (await guarded.ask(build("OPTIONS", "/api/x", *lines))).status == 401
    assert upstream.requests == []
    token = (await guarded.login("admin")).access
    assert (await guarded.ask(build("OPTIONS", "/api/x", *lines, token=token))).status == 204
    assert (await upstream.arrived()).fields.one("X-Auth-User") == b"admin"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PROPFIND"])
async def test_another_method_is_none(
    upstream: ScriptedUpstream, guarded: Stack, method: str
) -> None:
    """The headers of a preflight open nothing for methods other than OPTIONS."""
    lines = (ORIGIN, "Access-Control-Request-Method: GET")
    assert (await guarded.ask(build(method, "/api/x", *lines))).status == 401
    assert upstream.requests == []


async def test_one_with_a_body_is_none(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """A preflight with a body is decided as usual, however the body is framed."""
    head = preflight("/api/x")[:-2]
    for body in (
        b"Content-Length: 4\r\n\r\nbody",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        assert (await guarded.ask(head + body)).status == 401
    assert upstream.requests == []
    assert (await guarded.ask(head + b"Content-Length: 0\r\n\r\n")).status == 204


@pytest.mark.parametrize("path", ["/api/x", "/api/open/x"])
@pytest.mark.parametrize(
    "name", [*NAMES, "X-Auth-Email", "X-Auth-Whatever", "X-Auth-Degraded", "Account"]
)
async def test_forged_identity_is_gone(
    upstream: ScriptedUpstream, guarded: Stack, path: str, name: str
) -> None:
    """No spelling of a client's identity header survives on a preflight."""
    lines = [f"{spelt}: root" for spelt in variants(name) for _ in range(2)]
    assert (await guarded.ask(preflight(path, *lines, f"Connection: {name}"))).status == 204
    seen = await upstream.arrived()
    assert b"root" not in seen.head
    assert identity(seen.fields) == {each.lower(): [b""] for each in (*NAMES, "X-Auth-Email")}
    assert seen.fields.one("Account") == b""


async def test_credentials_are_gone(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """Credentials on a preflight, valid or not, are neither checked nor forwarded."""
    good, cookie = (await guarded.login("admin")).access, await guarded.cookie()
    for lines in (
        (f"Authorization: Bearer {good}",),
        (f"authorization: bearer {mint()}", "AUTHORIZATION: Basic eDp5"),
        ("Authorization: Bearer",),
        (f"Cookie: {cookie}", "Cookie: theme=dark", "cookie: a=b"),
        (f"Cookie: {cookie}; {cookie}", f"Authorization: Bearer {good}"),
        (f"Proxy-Authorization: Bearer {good}",),
    ):
        upstream.requests.clear()
        assert (await guarded.ask(preflight("/api/x", *lines))).status == 204
        head = (await upstream.arrived()).head
        assert b"authorization" not in head.lower()
        assert b"cookie" not in head.lower()
        assert identity((await upstream.arrived()).fields)["x-auth-user"] == [b""]


async def test_on_one_connection_with_others(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """Preflights and other requests on one connection do not affect each other."""
    token = (await guarded.login("admin")).access
    lines = (ORIGIN, "Access-Control-Request-Method: DELETE", f"Authorization: Bearer {token}")
    asked = [build("DELETE", "/api/x", *lines), build("OPTIONS", "/api/x", *lines)]
    async with guarded.client() as client:
        await client.send(b"".join(asked * 3))
        for _ in range(6):
            assert (await client.response()).status == 204
    for got in upstream.requests:
        known = got.method == b"DELETE"
        assert got.fields.one("X-Auth-User") == (b"admin" if known else b"")
        assert ("Authorization" in got.fields) == known


async def test_our_own_paths_are_not_the_applications(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """The control plane answers preflights itself and allows no other origin."""
    for path in ("/auth/login", "/auth/userinfo", "/.well-known/jwks.json"):
        answer = await guarded.ask(preflight(path, method="POST"))
        assert answer.status == 405
        assert b"\r\naccess-control-" not in answer.head.lower()
    assert (await guarded.ask(preflight("/auth/verify"))).status == 401
    assert upstream.requests == []


RULES: Final = (
    RouteRule(path="/auth/verify/*", access=Access.PUBLIC, target="verify", name="verify"),
    RouteRule(path="/*", name="all", preflight=True),
)
RAW: Final = (
    b"OPTIONS /x HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n"
    b"Access-Control-Request-Method: PUT\r\nCookie: __Host-session=abc\r\n\r\n"
)


async def test_the_access_log_says_why_it_passed(tmp_path: Path) -> None:
    """The access log line of a preflight has its rule and `preflight`, and no user."""
    file = tmp_path / "log"
    plane = Plane(RULES)
    with file.open("wb") as output:
        fd = os.dup(output.fileno())
        log = AccessLog(plane.context.metrics, Redactor(()), lambda *_: None, form="text", fd=fd)
        plane.context.access_log = log
        plane.context.log_all = True
        await plane.ask(plane.connect(), RAW)
        log.close()
        os.close(fd)
    (line,) = file.read_text().splitlines()
    assert " access: OPTIONS /x 200 (preflight) " in line
    assert line.endswith(" ms -")


async def test_beyond_the_bound_it_is_turned_away() -> None:
    """A preflight over the request limit gets 503 like any other request."""
    plane = Plane(RULES, limits=Limits(requests=1))
    plane.connect().feed(RAW)
    await rest()
    other = plane.connect()
    other.feed(RAW)
    assert other.take().startswith(b"HTTP/1.1 503 ")
    assert plane.context.metrics.denied[Reason.OVERLOADED.label] == 1
    assert plane.context.metrics.preflights == 1
    plane.connector.wires[0].feed(OK)
    await rest()
    assert plane.context.metrics.in_flight == 0
