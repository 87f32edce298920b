"""What a browser keeps of a session: answers get `no-store`, and a logout clears the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.raw_client import build
from tests.peers.scripted_upstream import CLOSE, reply
from tests.peers.stack import stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.raw_client import Response
    from tests.peers.scripted_upstream import Script, ScriptedUpstream
    from tests.peers.stack import Stack

ROUTES: Final = (
    {"path": "/open", "access": "public"},
    {"path": "/either", "access": "optional"},
    {"path": "/pre", "preflight": "pass"},
)
PREFLIGHT: Final = ("Origin: https://other.example", "Access-Control-Request-Method: GET")
NO_STORE: Final = [b"private, no-store"]
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
UNTIL_CLOSE: Final = b"HTTP/1.0 200 OK\r\n\r\nok"


@pytest.fixture
async def running(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar in front of `upstream`, with the default settings."""
    async with stack(upstream.url, routes=ROUTES) as made:
        yield made


def caching(answer: Response) -> list[bytes]:
    """The values of all Cache-Control lines."""
    return answer.fields.all("cache-control")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([reply(b"ok")], id="plain"),
        pytest.param([reply(b"ok", "200 OK", "Expires: 0", "Pragma: no-cache")], id="old-headers"),
        pytest.param([reply(b"ok", "200 OK", "Cache_Control: max-age=60")], id="another-name"),
        pytest.param([reply(b"no", "404 Not Found")], id="an-error"),
        pytest.param([CHUNKED], id="chunked"),
        pytest.param([UNTIL_CLOSE, CLOSE], id="until-close"),
        pytest.param(
            [reply(b"ok", "200 OK", "Cache-Control: max-age=60", "Connection: cache-control")],
            id="named-by-connection",
        ),
    ],
)
async def test_an_authenticated_answer(
    running: Stack, upstream: ScriptedUpstream, sent: Script
) -> None:
    """An answer to a session without Cache-Control is not stored, by token and by cookie."""
    upstream.scripts = [sent] * 3
    tokens, cookie = await running.login(), await running.cookie()
    by_token = await running.get("/page", token=tokens.access)
    by_cookie = await running.get("/page", f"Cookie: {cookie}")
    either = await running.get("/either", token=tokens.access)
    assert [caching(each) for each in (by_token, by_cookie, either)] == [NO_STORE] * 3
    assert by_token.body in {b"ok", b"no"}


@pytest.mark.parametrize("value", ["max-age=60", "public", "no-cache", ""])
@pytest.mark.parametrize("name", ["Cache-Control", "cache-control"])
async def test_the_application_decides(
    running: Stack, upstream: ScriptedUpstream, name: str, value: str
) -> None:
    """The application's Cache-Control stays as it is, at the first answer and at an equal one."""
    upstream.scripts = [[reply(b"ok", "200 OK", f"{name}: {value}")] * 2]
    tokens = await running.login()
    async with running.client() as client:
        for _ in range(2):
            answer = await client.ask(build("GET", "/page", token=tokens.access))
            assert caching(answer) == [value.encode()]
            assert f"\r\n{name}: {value}\r\n".encode() in answer.head


async def test_other_answers_stay(running: Stack, upstream: ScriptedUpstream) -> None:
    """Public routes, requests without credentials and preflights get what the application sends."""
    upstream.scripts = [[reply(b"ok")]] * 4
    tokens = await running.login()
    public = await running.get("/open", token=tokens.access)
    anonymous = await running.get("/either")
    preflight = await running.ask(build("OPTIONS", "/pre", *PREFLIGHT))
    for answer in (public, anonymous, preflight):
        assert answer.status == 200
        assert caching(answer) == []


async def test_one_connection_serves_both(running: Stack, upstream: ScriptedUpstream) -> None:
    """Equal answers on one upstream connection are judged by their own requests."""
    upstream.scripts = [[reply(b"ok")] * 3]
    tokens = await running.login()
    found = [
        caching(await running.get(path, token=tokens.access)) for path in ("/open", "/", "/open")
    ]
    assert found == [[], NO_STORE, []]


async def test_turned_off(upstream: ScriptedUpstream) -> None:
    """With SESSION_NO_STORE=false no answer is changed."""
    upstream.scripts = [[reply(b"ok")]]
    async with stack(upstream.url, session_no_store=False) as running:
        tokens = await running.login()
        assert caching(await running.get("/page", token=tokens.access)) == []


@pytest.mark.parametrize("credential", ["token", "cookie", "form", "refresh", "own-session"])
async def test_a_logout_clears_the_cache(running: Stack, credential: str) -> None:
    """Every logout makes the browser forget the pages of this origin."""
    tokens, cookie = await running.login(), await running.cookie()
    own = ("Origin: http://sidecar.test", f"Cookie: {cookie}")
    form, json = "application/x-www-form-urlencoded", "application/json"
    body = f'{{"refresh_token": "{tokens.refresh}"}}'.encode()
    if credential == "own-session":
        shown = (await running.get("/auth/sessions", token=tokens.access)).json()["sessions"]
        (sid,) = [each["sid"] for each in shown if each["current"]]
        request = build("DELETE", f"/auth/sessions/{sid}", token=tokens.access)
    else:
        request = {
            "token": build("POST", "/auth/logout", token=tokens.access, body=b""),
            "cookie": build("POST", "/auth/logout", *own, body=b""),
            "form": build("POST", "/auth/logout", *own, f"Content-Type: {form}", body=b"rd=/"),
            "refresh": build("POST", "/auth/logout", f"Content-Type: {json}", body=body),
        }[credential]
    answer = await running.ask(request)
    assert answer.status == (303 if credential == "form" else 204)
    assert answer.fields.all("clear-site-data") == [b'"cache"']


async def test_nobody_else_clears_the_cache(running: Stack) -> None:
    """A logout without a credential, which any page can send, leaves the cache as it is."""
    form = "Content-Type: application/x-www-form-urlencoded"
    answer = await running.ask(build("POST", "/auth/logout", form, body=b"rd=/"))
    assert answer.status == 303
    assert answer.fields.all("clear-site-data") == []
