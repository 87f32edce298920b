"""Security headers: on every answer of the sidecar itself, and not added to the application's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.raw_client import build, fetch
from tests.peers.scripted_upstream import ScriptedUpstream, reply
from tests.peers.stack import stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.stack import Stack

OURS: Final = {
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
}
ORIGIN: Final = ("Origin: https://evil.example", "Access-Control-Request-Method: POST")
ROUTES: Final = (
    ("GET", "/auth/login", 200),
    ("POST", "/auth/login", 415),
    ("DELETE", "/auth/login", 405),
    ("OPTIONS", "/auth/login", 405),
    ("POST", "/auth/refresh", 415),
    ("OPTIONS", "/auth/refresh", 405),
    ("POST", "/auth/logout", 401),
    ("GET", "/auth/userinfo", 401),
    ("OPTIONS", "/auth/userinfo", 405),
    ("GET", "/auth/sessions", 401),
    ("DELETE", "/auth/sessions/x", 401),
    ("GET", "/auth/nothing", 404),
    ("GET", "/.well-known/jwks.json", 404),
)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application whose answers have a security header of their own."""
    async with ScriptedUpstream() as server:
        server.scripts = [[reply(b"ok", "200 OK", "X-Frame-Options: ALLOWALL")]]
        yield server


@pytest.fixture
async def running(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar in front of that application, with one public page."""
    async with stack(upstream.url, routes=[{"path": "/open", "access": "public"}]) as made:
        yield made


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
async def test_the_control_plane(
    running: Stack, method: str, path: str, status: int, accept: str
) -> None:
    """Each control plane answer has every security header once, and no CORS header."""
    lines = (*ORIGIN, f"Accept: {accept}")
    answer = await running.ask(build(method, path, *lines, body=b"" if method == "POST" else None))
    assert answer.status == status
    for name in OURS:
        assert len(answer.fields.all(name)) == 1, name
    assert answer.fields.one("X-Frame-Options") == b"DENY"
    assert b"frame-ancestors 'none'" in answer.fields.one("Content-Security-Policy")
    assert b"\r\naccess-control-" not in answer.head.lower()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(build("GET", "/closed", *ORIGIN), 401, id="no-token"),
        pytest.param(build("OPTIONS", "/closed", *ORIGIN), 401, id="preflight"),
        pytest.param(build("GET", "/a/../b", *ORIGIN), 400, id="malformed"),
        pytest.param(build("GET", "/auth/verify/traefik", *ORIGIN), 401, id="verify"),
        pytest.param(build("GET", "/auth/verify/unknown", *ORIGIN), 404, id="dialect"),
    ],
)
async def test_refusals_of_the_data_plane(running: Stack, request_: bytes, status: int) -> None:
    """The data plane's refusals forbid sniffing and caching and have no CORS header."""
    answer = await running.ask(request_)
    assert answer.status == status
    assert answer.fields.one("X-Content-Type-Options") == b"nosniff"
    assert answer.fields.one("Cache-Control") == b"no-store"
    assert answer.fields.one("Content-Type") == b"application/problem+json"
    assert b"\r\naccess-control-" not in answer.head.lower()


async def test_a_refusal_without_a_body(running: Stack) -> None:
    """nginx' dialect refuses without a body: nothing to sniff, and still nothing to cache."""
    answer = await running.ask(build("GET", "/auth/verify", *ORIGIN))
    assert (answer.status, answer.body) == (401, b"")
    assert answer.fields.one("Content-Length") == b"0"
    assert answer.fields.one("Cache-Control") == b"no-store"
    assert not answer.fields.all("Content-Type")
    assert b"\r\naccess-control-" not in answer.head.lower()


async def test_the_admin_port(running: Stack) -> None:
    """Answers of the admin port have the same security headers."""
    for path in ("/metrics", "/livez", "/readyz", "/status", "/nothing"):
        answer = await fetch(running.sidecar.admin_port, build("GET", path))
        assert {name for name in OURS if answer.fields.all(name)} == OURS


async def test_the_application_says_for_itself(running: Stack) -> None:
    """The application's answers keep their own headers and get no others."""
    answer = await running.get("/open")
    assert answer.fields.one("X-Frame-Options") == b"ALLOWALL"
    assert not [name for name in OURS - {"X-Frame-Options"} if answer.fields.all(name)]
