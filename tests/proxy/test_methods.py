"""The method that is decided on is the one that the application acts on, in whatever spelling.

Methods in lower case are refused; headers that override the method are removed, or decided by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.peers.raw_client import build
from tests.peers.scripted_upstream import CLOSE, OK
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream

OVERRIDE: Final = "X-HTTP-Method-Override"
ROUTES: Final = (
    {"path": "/items/*", "methods": ["DELETE"], "roles": ["admin"], "name": "delete"},
    {"path": "/items/*", "methods": ["PUT"], "access": "public", "name": "put"},
    {"path": "/items/*", "name": "items", "method_override": OVERRIDE},
    {"path": "/plain/*", "methods": ["DELETE"], "roles": ["admin"]},
    {"path": "/plain/*", "name": "plain-rest"},
    {"path": "/open/*", "access": "public", "method_override": OVERRIDE, "name": "open"},
)
NAMES: Final = (
    *(OVERRIDE, "x-http-method", "X-Method-Override", "X_HTTP_Method_Override", "X.HTTP.Method"),
    *("X-HTTP-Verb", "X-Verb-Override", "_method", "X-Rest-Method", "HTTP-Method-Override"),
    *("X-Http-MethodOverride", "Method-Override", "X-Method", "X-Tunnelled-Method-Override"),
)
SPELLINGS: Final = ("delete", "Delete", "DELETe", "DELETE_", "DELETE.", "'DELETE'", "-DELETE")


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar that trusts its peers on loopback, in front of the recording upstream."""
    settings: dict[str, Any] = {"trusted_proxies": ["127.0.0.0/8"]}
    async with stack(upstream.url, routes=ROUTES, **settings) as running:
        yield running


@pytest.mark.parametrize("method", SPELLINGS)
@pytest.mark.parametrize("path", ["/plain/1", "/open/1", "/auth/verify", "/auth/sessions/x"])
async def test_only_canonical_methods(
    upstream: ScriptedUpstream, guarded: Stack, method: str, path: str
) -> None:
    """Another spelling of DELETE is not a method that is served here, for an admin neither."""
    token = (await guarded.login("admin")).access
    assert (await guarded.ask(build(method, path, token=token))).status == 501
    assert upstream.requests == []


@pytest.mark.parametrize("method", [*SPELLINGS, "", "DELETE, GET", "\xd0ELETE"])
@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        pytest.param("nginx", ("X-Original-Method", "X-Original-URI"), id="nginx"),
        pytest.param("traefik", ("X-Forwarded-Method", "X-Forwarded-Uri"), id="traefik"),
        pytest.param("caddy", ("X-Forwarded-Method", "X-Forwarded-Uri"), id="caddy"),
        pytest.param("haproxy", ("X-Forwarded-Method", "X-Forwarded-Uri"), id="haproxy"),
    ],
)
async def test_only_canonical_original_methods(
    guarded: Stack, dialect: str, names: tuple[str, str], method: str
) -> None:
    """A subrequest about another spelling of a method is denied, by every dialect."""
    token = (await guarded.login("admin")).access
    lines = (f"{names[1]}: /plain/1", "X-Forwarded-Host: h")
    target = f"/auth/verify/{dialect}"
    right = await guarded.get(target, *lines, f"{names[0]}: DELETE", token=token)
    wrong = await guarded.get(target, *lines, f"{names[0]}: {method}", token=token)
    assert (right.status, wrong.status) == (200, 403)


@pytest.mark.parametrize("name", NAMES)
async def test_overrides_are_removed(upstream: ScriptedUpstream, guarded: Stack, name: str) -> None:
    """The application never sees a header by which it could act on another method."""
    token = (await guarded.login()).access
    request = build("POST", "/plain/1", f"{name}: DELETE", "X-Kept: 1", token=token, body=b"a")
    assert (await guarded.ask(request)).status == 200
    seen = await upstream.arrived()
    assert seen.line == b"POST /plain/1 HTTP/1.1"
    assert seen.fields.one("X-Kept") == b"1"
    assert b"DELETE" not in seen.head


async def test_overrides_in_trailers_are_removed(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """Nor does it see one among the trailers, which some servers merge into the headers."""
    token = (await guarded.login()).access
    body = b"1\r\na\r\n0\r\nX-HTTP-Method-Override: DELETE\r\nX-Kept: 1\r\n\r\n"
    request = build("POST", "/plain/1", "Transfer-Encoding: chunked", token=token) + body
    assert (await guarded.ask(request)).status == 200
    seen = await upstream.arrived()
    assert seen.trailers == b"X-Kept: 1\r\n"


async def test_names_that_only_look_alike_pass(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """Headers that no application takes for an override are passed on."""
    names = ("Access-Control-Request-Method", "X-Methodology", "X-Payment-Method", "X-Override")
    token = (await guarded.login()).access
    lines = [f"{name}: DELETE" for name in names]
    assert (await guarded.get("/plain/1", *lines, token=token)).status == 200
    seen = await upstream.arrived()
    assert [seen.fields.one(name) for name in names] == [b"DELETE"] * len(names)


@pytest.mark.parametrize(
    ("user", "method", "status"),
    [
        pytest.param("alice", "DELETE", 403, id="needs-the-role"),
        pytest.param("admin", "DELETE", 200, id="has-the-role"),
        pytest.param(None, "DELETE", 401, id="needs-a-token"),
        pytest.param(None, "PUT", 200, id="rule-of-put-is-public"),
        pytest.param(None, "POST", 401, id="repeats-the-method"),
        pytest.param("alice", "PATCH", 200, id="rule-of-the-rest"),
    ],
)
async def test_a_route_that_accepts_an_override(
    upstream: ScriptedUpstream, guarded: Stack, user: str | None, method: str, status: int
) -> None:
    """The rule of the overridden method decides, and the application gets the header."""
    token = None if user is None else (await guarded.login(user)).access
    request = build("POST", "/items/1", f"{OVERRIDE}: {method}", token=token, body=b"abc")
    async with guarded.client() as client:
        for number in range(2):  # the second is parsed by comparison with the first
            answer = await client.ask(request)
            assert answer.status == status
            assert len(upstream.requests) == (number + 1 if status == 200 else 0)
    if status == 200:
        seen = await upstream.arrived()
        assert seen.line == b"POST /items/1 HTTP/1.1"
        assert seen.fields.all(OVERRIDE) == [method.encode()]


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        pytest.param("POST", (f"{OVERRIDE}: PUT", f"{OVERRIDE}: PUT"), id="twice"),
        pytest.param("POST", (f"{OVERRIDE}: PUT", "X-HTTP-Method: PUT"), id="two-names"),
        pytest.param("POST", (f"{OVERRIDE}: PUT", "X_HTTP_Method_Override: PUT"), id="spellings"),
        pytest.param("POST", ("X-HTTP-Method: PUT",), id="another-name"),
        pytest.param("POST", (f"{OVERRIDE}: put",), id="lower-case"),
        pytest.param("POST", (f"{OVERRIDE}: PUT, GET",), id="list"),
        pytest.param("POST", (f"{OVERRIDE}:",), id="empty"),
        pytest.param("POST", (f"{OVERRIDE}: GET",), id="to-a-safe-method"),
        pytest.param("POST", (f"{OVERRIDE}: CONNECT",), id="to-connect"),
        pytest.param("GET", (f"{OVERRIDE}: DELETE",), id="of-get"),
        pytest.param("POST", (f"{OVERRIDE}: PUT", f"Connection: {OVERRIDE}"), id="hop-by-hop"),
    ],
)
async def test_unclear_overrides(
    upstream: ScriptedUpstream, guarded: Stack, method: str, lines: tuple[str, ...]
) -> None:
    """Where applications would disagree about the method, the answer is 400, even for an admin."""
    token = (await guarded.login("admin")).access
    assert (await guarded.ask(build(method, "/items/1", *lines, token=token))).status == 400
    assert (await guarded.ask(build(method, "/open/1", *lines))).status == 400
    assert upstream.requests == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
async def test_an_override_of_another_site(
    upstream: ScriptedUpstream, guarded: Stack, origin: str | None
) -> None:
    """With a cookie, an overridden method needs the application's own origin."""
    lines = [f"Cookie: {await guarded.cookie()}", f"{OVERRIDE}: PATCH"]
    if origin is not None:
        lines.append(f"Origin: {origin}")
    answer = await guarded.ask(build("POST", "/items/1", *lines, body=b"a"))
    assert answer.status == 403
    assert upstream.requests == []


async def test_an_override_does_not_make_a_request_repeatable(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """A POST is sent once, although PUT, which it asks for, could be sent twice."""
    upstream.scripts = [[OK], [CLOSE]]
    async with guarded.client() as client:
        assert (await client.ask(build("PUT", "/items/1"))).status == 200
        request = build("POST", "/items/1", f"{OVERRIDE}: PUT")
        assert (await client.ask(request)).status == 502
    assert [each.method for each in upstream.requests] == [b"PUT", b"POST"]


ASKED: Final = ("X-Original-URI: /items/1", "X-Original-Method: POST", "X-Forwarded-Host: h")


@pytest.mark.parametrize(
    ("user", "lines", "status"),
    [
        pytest.param("alice", (f"{OVERRIDE}: DELETE",), 403, id="needs-the-role"),
        pytest.param("admin", (f"{OVERRIDE}: DELETE",), 200, id="has-the-role"),
        pytest.param("alice", (f"{OVERRIDE}: PATCH",), 200, id="rule-of-the-rest"),
        pytest.param(None, (f"{OVERRIDE}: PUT",), 200, id="rule-of-put-is-public"),
        pytest.param("admin", ("X_HTTP_Method_Override: PUT",), 401, id="another-spelling"),
        pytest.param("admin", ("X-Method-Override: PUT",), 401, id="another-name"),
        pytest.param("admin", (f"{OVERRIDE}: put",), 401, id="lower-case"),
        pytest.param("admin", (f"{OVERRIDE}: PUT", f"{OVERRIDE}: PUT"), 401, id="twice"),
        pytest.param("alice", ("X-HTTP-Method: POST",), 200, id="repeats-the-method"),
    ],
)
async def test_overrides_of_subrequests(
    guarded: Stack, user: str | None, lines: tuple[str, ...], status: int
) -> None:
    """Behind nginx, the overridden method decides where the route accepts it; else nobody passes.

    The sidecar cannot remove the header there. nginx does not understand 400, so it gets 401.
    """
    token = None if user is None else (await guarded.login(user)).access
    assert (await guarded.get("/auth/verify", *ASKED, *lines, token=token)).status == status


@pytest.mark.parametrize("path", ["/auth/verify/traefik", "/auth/verify/caddy"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_route_that_accepts_none_behind_a_proxy(
    guarded: Stack, path: str, name: str
) -> None:
    """A subrequest with an override is denied, also on a public route and for an admin."""
    token = (await guarded.login("admin")).access
    lines = ("X-Forwarded-Method: PUT", "X-Forwarded-Host: h", f"{name}: DELETE")
    for uri in ("/plain/1", "/items/1"):
        answer = await guarded.get(path, f"X-Forwarded-Uri: {uri}", *lines, token=token)
        assert answer.status == 400
    answer = await guarded.get(path, "X-Forwarded-Uri: /plain/1", *lines)
    assert answer.status == 401


async def test_an_override_behind_envoy(guarded: Stack) -> None:
    """Envoy's subrequest has the original method in its request line."""
    token = (await guarded.login()).access
    for method, status in (("DELETE", 403), ("PATCH", 200), ("GET", 400)):
        request = build("POST", "/auth/verify/envoy/items/1", f"{OVERRIDE}: {method}", token=token)
        assert (await guarded.ask(request)).status == status
