"""CORS of the data plane: which answers pages of other origins can read, and what they may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec import structs

from sidecar.settings import CorsSettings
from tests.peers.raw_client import Response, build
from tests.peers.scripted_upstream import CLOSE, reply
from tests.peers.stack import Stack, stack
from tests.proxy.handshake import ASK, SWITCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream

APP: Final = "https://app.example.com"
READABLE: Final = {"origins": [APP]}
TRUSTED: Final = {"origins": [APP], "credentials": True}
EXPOSED: Final = b"X-Request-Id, WWW-Authenticate, Retry-After"
ROUTES: Final = (
    {"path": "/open", "access": "public"},
    {"path": "/admin/*", "roles": ["admin"]},
    {"path": "/pass", "preflight": "pass"},
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar whose own answers pages of one other origin can read."""
    async with stack(upstream.url, routes=ROUTES, cors=READABLE, max_head_size=4096) as running:
        yield running


def check(answer: Response, status: int, origin: str | None, *, credentials: bool = False) -> None:
    """Fail unless the answer can be read by pages of this origin, or by none (None)."""
    assert answer.status == status
    assert answer.fields.all("Access-Control-Allow-Origin") == ([origin.encode()] if origin else [])
    assert answer.fields.all("Access-Control-Expose-Headers") == ([EXPOSED] if origin else [])
    allowed = answer.fields.all("Access-Control-Allow-Credentials")
    assert allowed == ([b"true"] if origin and credentials else [])
    assert answer.fields.all("Vary") == [b"Origin"]


@pytest.mark.parametrize(
    ("origins", "readable"),
    [
        pytest.param((APP,), True, id="listed"),
        pytest.param(("https://evil.example",), False, id="other"),
        pytest.param(("null",), False, id="null"),
        pytest.param((APP, APP), False, id="twice"),
        pytest.param((APP + "/",), False, id="path"),
        pytest.param((), False, id="none"),
    ],
)
@pytest.mark.parametrize(
    ("method", "target", "lines", "status"),
    [
        pytest.param("GET", "/x", (), 401, id="no-token"),
        pytest.param("HEAD", "/x", (), 401, id="head"),
        pytest.param("POST", "/x", ("Authorization: Bearer e30.e30.AAAA",), 401, id="bad-token"),
        pytest.param("GET", "/x", ("Authorization: Bearer",), 400, id="malformed-token"),
        pytest.param("GET", "/x", ("Accept: text/html", "Sec-Fetch-Mode: cors"), 401, id="script"),
        pytest.param("POST", "/x", ("Accept: text/html",), 401, id="page"),
        pytest.param("GET", "/x", ("Accept: text/html",), 302, id="redirect"),
        pytest.param("OPTIONS", "/x", ("Access-Control-Request-Method: PUT",), 401, id="preflight"),
        pytest.param("POST", "/x", ("X-HTTP-Method-Override: DELETE",), 401, id="override"),
        pytest.param("GET", "/auth/verify", (), 401, id="verify"),
        pytest.param("GET", "/auth/verify/caddy", ("X-Forwarded-Uri: /x",), 403, id="untrusted"),
        pytest.param("GET", "/auth/verify/other", (), 404, id="no-dialect"),
        pytest.param("GET", "/auth/userinfo", (), 401, id="control-plane"),
    ],
)
async def test_denials(
    guarded: Stack,
    origins: tuple[str, ...],
    *,
    readable: bool,
    method: str,
    target: str,
    lines: tuple[str, ...],
    status: int,
) -> None:
    """Pages of a listed origin can read every denial, and no other page can."""
    sent = (*lines, *(f"Origin: {each}" for each in origins))
    check(await guarded.ask(build(method, target, *sent)), status, APP if readable else None)


async def test_forbidden(guarded: Stack) -> None:
    """A 403 of a user without the role can be read."""
    token = (await guarded.login("alice")).access
    check(await guarded.get("/admin/x", f"Origin: {APP}", token=token), 403, APP)


async def test_faults_of_the_application(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """The sidecar's answer in place of the application's can be read."""
    upstream.scripts = [[CLOSE]]
    check(await guarded.get("/open", f"Origin: {APP}"), 502, APP)


async def test_an_outage(upstream: ScriptedUpstream) -> None:
    """A 503 can be read, and with it Retry-After."""
    away: dict[str, Any] = {
        "session_store": "redis",
        "redis_url": "redis://127.0.0.1:1/0",
        "session_outage": "strict",
    }
    async with stack(upstream.url, cors=READABLE, **away) as running:
        token = (await running.login()).access
        answer = await running.get("/x", f"Origin: {APP}", token=token)
        check(answer, 503, APP)
        assert answer.fields.one("Retry-After") == b"1"


async def test_the_application_answers_for_itself(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """The application's answers keep their own CORS headers, and get none."""
    own = ("Access-Control-Allow-Origin: https://other.example", "Vary: Accept")
    token = (await guarded.login()).access
    for said in (own, ()):
        upstream.scripts = [[reply(b"ok", "403 Forbidden", *said)]]
        for target, credentials in (("/open", None), ("/x", token)):
            answer = await guarded.get(target, f"Origin: {APP}", token=credentials)
            assert answer.status == 403
            given = answer.fields.all("Access-Control-Allow-Origin") + answer.fields.all("Vary")
            assert given == ([b"https://other.example", b"Accept"] if said else [])
            assert "Access-Control-Expose-Headers" not in answer.fields
    asks = (f"Origin: {APP}", "Access-Control-Request-Method: PUT")
    upstream.scripts = [[reply(b"", "200 OK", *own)]]
    answer = await guarded.ask(build("OPTIONS", "/pass", *asks))
    assert answer.fields.all("Access-Control-Allow-Origin") == [b"https://other.example"]


async def test_a_permission_of_the_verify_endpoint(guarded: Stack) -> None:
    """200 is for a proxy, which must not pass CORS headers of it on."""
    token = (await guarded.login()).access
    answer = await guarded.get("/auth/verify", f"Origin: {APP}", token=token)
    assert answer.status == 200
    assert b"\r\naccess-control-" not in answer.head.lower()
    assert "Vary" not in answer.fields


async def test_without_a_table_nothing_changes(upstream: ScriptedUpstream) -> None:
    """Without a `[cors]` table no denial has a CORS header or depends on Origin."""
    async with stack(upstream.url) as running:
        answer = await running.get("/x", f"Origin: {APP}")
        assert answer.status == 401
        assert b"\r\naccess-control-" not in answer.head.lower()
        assert "Vary" not in answer.fields


# Credentials


@pytest.mark.parametrize(
    ("cors", "origin", "trusted"),
    [
        pytest.param(TRUSTED, APP, True, id="trusted"),
        pytest.param(TRUSTED, "https://evil.example", False, id="other"),
        pytest.param(TRUSTED, "null", False, id="null"),
        pytest.param(READABLE, APP, False, id="without-credentials"),
        pytest.param({"origins": ["*"]}, APP, False, id="every-origin"),
    ],
)
async def test_requests_with_the_cookie(
    upstream: ScriptedUpstream, cors: dict[str, Any], origin: str, *, trusted: bool
) -> None:
    """Only pages of a listed origin with credentials change anything with the cookie."""
    async with stack(upstream.url, cors=cors) as running:
        lines = (f"Cookie: {await running.cookie()}", f"Origin: {origin}")
        for site in ((), ("Sec-Fetch-Site: same-site",), ("Sec-Fetch-Site: cross-site",)):
            for method in ("POST", "DELETE"):
                answer = await running.ask(build(method, "/x", *lines, *site))
                assert answer.status == (200 if trusted else 403)
                if not trusted:
                    readable = origin == APP
                    check(answer, 403, APP if readable else None)
        assert (await running.ask(build("POST", "/x", *lines[:1]))).status == 403
        upstream.scripts = [[SWITCH]]
        upgraded = await running.ask(build("GET", "/x", *ASK, *lines))
        assert upgraded.status == (101 if trusted else 403)
        denied = await running.get("/x", lines[1])
        check(denied, 401, APP if origin == APP else None, credentials="credentials" in cors)


async def test_a_reload(guarded: Stack) -> None:
    """A reload applies the table to the data plane and to the gate, and takes it back."""
    sidecar = guarded.sidecar
    cookie, origin = f"Cookie: {await guarded.cookie()}", f"Origin: {APP}"
    post = build("POST", "/x", cookie, origin)
    assert (await guarded.ask(post)).status == 403
    trusting = CorsSettings(origins=(APP,), credentials=True)
    await sidecar.reload(structs.replace(sidecar.settings, cors=trusting))
    assert (await guarded.ask(post)).status == 200
    await sidecar.reload(structs.replace(sidecar.settings, cors=None))
    answer = await guarded.ask(post)
    assert (answer.status, "Vary" in answer.fields) == (403, False)
