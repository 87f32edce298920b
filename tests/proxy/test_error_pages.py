"""The error pages that people see in a browser, and the links on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.api.pages import CONTENT_SECURITY_POLICY
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import CLOSE, ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.raw_client import Response

BROWSER: Final = ("Accept: text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode: navigate")
SIGN_IN: Final = 'href="/auth/login">Go to the sign-in page</a>'
TRY_AGAIN: Final = 'href="">Try again</a>'
ROUTES: Final = (
    {"path": "/open", "access": "public"},
    {"path": "/admin/*", "roles": ["admin"]},
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar with users, a public route and a route that is forbidden to alice."""
    async with stack(upstream.url, routes=ROUTES) as running:
        yield running


def check_page(answer: Response, status: int, heading: str) -> str:
    """Return the page's text; fail unless it is a complete page with this heading and policy."""
    assert answer.status == status
    assert answer.fields.one("content-type") == b"text/html; charset=utf-8"
    assert answer.fields.one("content-security-policy") == CONTENT_SECURITY_POLICY.encode()
    assert answer.fields.one("cache-control") == b"no-store"
    assert answer.fields.one("x-content-type-options") == b"nosniff"
    text = answer.body.decode()
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>")
    assert f"<h1>{heading}</h1>" in text
    assert f"<code>{answer.fields.one('x-request-id').decode()}</code>" in text
    return text


async def ask_as_alice(running: Stack, *lines: str, path: str = "/admin/") -> Response:
    """Return the answer to alice for a path that she may not access."""
    return await running.get(path, *lines, token=(await running.login()).access)


async def test_forbidden(guarded: Stack) -> None:
    """A 403 page offers to sign in as another user and does not repeat the requested path."""
    lines = (*BROWSER, "X-Request-Id: abc-123")
    answer = await ask_as_alice(guarded, *lines, path="/admin/plans")
    text = check_page(answer, 403, "Forbidden")
    assert SIGN_IN in text
    assert "abc-123" in text
    assert "plans" not in text
    assert answer.fields.one("www-authenticate").startswith(b"Bearer ")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_broken_application(guarded: Stack, upstream: ScriptedUpstream, method: str) -> None:
    """A 502 page offers another try, in answer to a submitted form as well."""
    upstream.scripts = [[CLOSE]]
    body = b"a=1" if method == "POST" else None
    answer = await guarded.ask(build(method, "/open", *BROWSER, body=body))
    text = check_page(answer, 502, "Bad Gateway")
    assert TRY_AGAIN in text
    assert SIGN_IN not in text


async def test_absent_application() -> None:
    """GET and HEAD get the same 503 head, with Retry-After."""
    async with stack("unix:///nowhere/app.sock", routes=ROUTES) as running:
        answer = await running.ask(build("GET", "/open", *BROWSER))
        head = await running.ask(build("HEAD", "/open", *BROWSER))
    assert TRY_AGAIN in check_page(answer, 503, "Service Unavailable")
    assert answer.fields.one("retry-after") == b"1"
    assert (head.status, head.body) == (503, b"")
    assert head.fields.one("content-length") == answer.fields.one("content-length")


async def test_sign_in_elsewhere(upstream: ScriptedUpstream) -> None:
    """The sign-in link on the page leads to the configured `login_url`."""
    login_url = "https://sso.example/?a=1&b=2"
    async with stack(upstream.url, routes=ROUTES, login_url=login_url) as running:
        text = check_page(await ask_as_alice(running, *BROWSER), 403, "Forbidden")
    assert 'href="https://sso.example/?a=1&amp;b=2">Go to the sign-in page</a>' in text


async def test_sign_in_nowhere(upstream: ScriptedUpstream) -> None:
    """Without users and without a login page, the 401 page has no link."""
    async with stack(upstream.url, users_file="") as running:
        answer = await running.get("/", *BROWSER)
    assert "<a " not in check_page(answer, 401, "Unauthorized")
    assert answer.fields.one("www-authenticate").startswith(b"Bearer ")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="curl"),
        pytest.param(("Accept: application/json",), id="program"),
        pytest.param(("Accept: text/html", "Sec-Fetch-Mode: cors"), id="script"),
    ],
)
async def test_programs_get_a_document(guarded: Stack, lines: tuple[str, ...]) -> None:
    """Clients other than browser navigation get a problem document, not a page."""
    answer = await ask_as_alice(guarded, *lines)
    assert answer.fields.one("content-type") == b"application/problem+json"
    assert json.loads(answer.body)["status"] == 403


async def test_a_subrequest_for_a_person(guarded: Stack) -> None:
    """A denied Envoy subrequest gets a page, because Envoy forwards it to the browser."""
    answer = await ask_as_alice(guarded, *BROWSER, path="/auth/verify/envoy/admin/")
    check_page(answer, 403, "Forbidden")


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [
        pytest.param("/x", b"", 401, id="denied"),
        pytest.param("/a%2Fb", b"", 400, id="malformed-path"),
        pytest.param("/open", b"zz\r\n", 400, id="malformed-body"),
    ],
)
async def test_links_behind_a_prefix(
    upstream: ScriptedUpstream, path: str, more: bytes, status: int
) -> None:
    """Each page links to the sign-in page below what a trusted proxy has removed."""
    lines = ["Accept: text/html", "X-Forwarded-Prefix: /shop", "Transfer-Encoding: chunked"]
    async with stack(upstream.url, routes=ROUTES, trusted_proxies=["127.0.0.1/32"]) as running:
        answer = await running.ask(build("POST", path, *lines) + more)
    assert answer.status == status
    assert b'href="/shop/auth/login"' in answer.body
    assert b'href="/auth/' not in answer.body
