"""A session cookie that no longer counts, on a route that is open to requests without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import reply
from tests.peers.stack import ALICE, configure, mint, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.peers.scripted_upstream import ScriptedUpstream
    from tests.peers.stack import Stack

NAME: Final = "__Host-session"
UNKNOWN: Final = f"{NAME}={'A' * 43}"
CLEARED: Final = [b"__Host-session=; HttpOnly; Max-Age=0; Path=/; SameSite=Lax; Secure"]
ROUTES: Final = (
    {"path": "/open", "access": "public"},
    {"path": "/either/*", "access": "optional"},
    {"path": "/all", "access": "optional", "forward_credentials": "all"},
)


@pytest.fixture
async def running(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar in front of `upstream` with an optional route."""
    upstream.scripts = [[reply(b"ok")]]
    async with stack(upstream.url, routes=ROUTES, trusted_proxies=["127.0.0.1/32"]) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("A" * 43, id="unknown"),
        pytest.param("not.one.of.ours", id="malformed"),
        pytest.param("A" * 600, id="too-long"),
    ],
)
async def test_a_cookie_that_never_counted(
    running: Stack, upstream: ScriptedUpstream, value: str, method: str
) -> None:
    """The request goes on as an anonymous one, without the cookie, and the answer deletes it."""
    body = b"abc" if method == "POST" else None
    lines = (f"Cookie: theme=dark; {NAME}={value}", "Origin: http://sidecar.test")
    request = build(method, "/either/x", *lines, body=body)
    async with running.client() as client:
        for _ in range(2):  # the second answer equals the first
            answer = await client.ask(request, method)
            assert (answer.status, answer.fields.all("set-cookie")) == (200, CLEARED)
            assert answer.fields.all("cache-control") == [b"private, no-store"]
    for seen in upstream.requests:
        assert seen.fields.all("cookie") == [b"theme=dark"]
        assert seen.fields.one("x-auth-subject") == b""
        assert seen.body == (body or b"")


async def test_a_session_that_ended(running: Stack, upstream: ScriptedUpstream) -> None:
    """A cookie counts until its logout, and is deleted once, by the first answer after it."""
    cookie = await running.cookie()
    before = await running.get("/either/x", f"Cookie: {cookie}")
    assert (before.status, before.fields.all("set-cookie")) == (200, [])
    origin = "Origin: http://sidecar.test"
    await running.ask(build("POST", "/auth/logout", f"Cookie: {cookie}", origin, body=b""))
    after = await running.get("/either/x", f"Cookie: {cookie}")
    assert (after.status, after.fields.all("set-cookie")) == (200, CLEARED)
    subjects = [seen.fields.one("x-auth-subject") for seen in upstream.requests]
    assert subjects == [b"alice", b""]


async def test_a_user_who_is_gone(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """The cookie of a removed user is deleted."""
    async with stack(upstream.url, routes=ROUTES) as running:
        cookie = await running.cookie("admin")
        fewer = configure(tmp_path, upstream.url, routes=ROUTES, users=[ALICE])
        await running.sidecar.reload(fewer)
        answer = await running.get("/either/x", f"Cookie: {cookie}")
        assert (answer.status, answer.fields.all("set-cookie")) == (200, CLEARED)


async def test_what_stays_denied(running: Stack, upstream: ScriptedUpstream) -> None:
    """A stale token, a cookie on a protected route and two credentials are denied as before."""
    unknown = f"Cookie: {UNKNOWN}"
    answers = [
        await running.get("/either/x", token=mint()),
        await running.get("/either/x", "Authorization: Bearer rubbish!"),
        await running.get("/either/x", unknown, token=mint()),
        await running.get("/required", unknown),
        await running.get("/either/x", f"Cookie: {UNKNOWN}; {NAME}=B"),
        await running.ask(build("POST", "/either/x", unknown, "Origin: https://evil.example")),
    ]
    assert [answer.status for answer in answers] == [401, 400, 400, 401, 401, 403]
    assert [answer.fields.all("set-cookie") for answer in answers] == [[]] * 6
    assert upstream.requests == []


async def test_who_has_no_stale_cookie(running: Stack) -> None:
    """Nothing is deleted where no session cookie was sent, or where none counts."""
    answers = [
        await running.get("/either/x"),
        await running.get("/either/x", "Cookie: theme=dark"),
        await running.get("/either/x", f"Cookie: {NAME}="),
        await running.get("/open", f"Cookie: {UNKNOWN}"),
    ]
    assert [answer.status for answer in answers] == [200] * 4
    assert [answer.fields.all("set-cookie") for answer in answers] == [[]] * 4


async def test_an_answer_that_others_may_keep(running: Stack, upstream: ScriptedUpstream) -> None:
    """No cache keeps the line that deletes a cookie, whatever the application allows."""
    fields = ("Cache-Control: public, max-age=60", "Expires: Thu, 01 Jan 2099 00:00:00 GMT")
    upstream.scripts = [[reply(b"ok", "200 OK", *fields, "Set-Cookie: theme=light")]] * 2
    stale = await running.get("/either/x", f"Cookie: {UNKNOWN}")
    assert stale.fields.all("cache-control") == [b"private, no-store"]
    assert stale.fields.all("expires") == []
    assert stale.fields.all("set-cookie") == [b"theme=light", *CLEARED]
    fresh = await running.get("/either/x")
    assert fresh.fields.all("cache-control") == [b"public, max-age=60"]
    assert fresh.fields.all("set-cookie") == [b"theme=light"]


async def test_forwarded_credentials(running: Stack, upstream: ScriptedUpstream) -> None:
    """A route that forwards every credential forwards this one, too."""
    answer = await running.get("/all", f"Cookie: {UNKNOWN}")
    assert answer.fields.all("set-cookie") == CLEARED
    assert upstream.requests[0].fields.all("cookie") == [UNKNOWN.encode()]


async def test_an_upgrade(running: Stack, upstream: ScriptedUpstream) -> None:
    """A WebSocket is opened anonymously, and its 101 deletes the cookie."""
    upstream.scripts = [
        [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"]
    ]
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Origin: http://sidecar.test")
    async with running.client() as client:
        client.writer.write(build("GET", "/either/x", f"Cookie: {UNKNOWN}", *lines))
        answer = await client.head()
    assert (answer.status, answer.fields.all("set-cookie")) == (101, CLEARED)


@pytest.mark.parametrize("dialect", ["nginx", "traefik", "caddy", "envoy", "haproxy"])
async def test_subrequests(running: Stack, dialect: str) -> None:
    """The answer to a subrequest allows it as anonymous and has the line for the client."""
    original = {
        "nginx": ("X-Original-URI: /either/x", "X-Original-Method: GET"),
        "envoy": (),
    }.get(dialect, ("X-Forwarded-Uri: /either/x", "X-Forwarded-Method: GET"))
    target = f"/auth/verify/{dialect}" + ("/either/x" if dialect == "envoy" else "")
    host = "X-Forwarded-Host: sidecar.test"
    answer = await running.get(target, f"Cookie: {UNKNOWN}", host, *original)
    assert (answer.status, answer.fields.all("set-cookie")) == (200, CLEARED)
    assert answer.fields.one("x-auth-subject") == b""
    anonymous = await running.get(target, host, *original)
    assert (anonymous.status, anonymous.fields.all("set-cookie")) == (200, [])
    protected = await running.get("/auth/verify", f"Cookie: {UNKNOWN}")
    assert (protected.status, protected.fields.all("set-cookie")) == (401, [])


async def test_what_a_session_had_opened(running: Stack, upstream: ScriptedUpstream) -> None:
    """A long answer that began with a session ends with it; it does not go on anonymously."""
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"]]
    cookie = await running.cookie()
    async with running.client() as client:
        client.writer.write(build("GET", "/either/x", f"Cookie: {cookie}"))
        assert (await client.head()).status == 200
        origin = "Origin: http://sidecar.test"
        await running.ask(build("POST", "/auth/logout", f"Cookie: {cookie}", origin, body=b""))
        assert b"0\r\n\r\n" not in await client.rest()
    context = running.sidecar.context
    assert context is not None
    assert context.session_watcher is not None
    assert context.session_watcher.ended == 1


@pytest.mark.parametrize("mode", ["local", "stale", "strict", "signature"])
async def test_an_outage(upstream: ScriptedUpstream, mode: str) -> None:
    """While Redis is away no cookie is known to be stale, so none is deleted."""
    with RedisServer() as redis:
        async with stack(
            upstream.url,
            routes=ROUTES,
            session_outage=mode,
            session_store="redis",
            redis_host="127.0.0.1",
            redis_port=redis.port,
        ) as running:
            seen, unseen = await running.cookie(), await running.cookie()
            assert (await running.get("/either/x", f"Cookie: {seen}")).status == 200
            gone = await running.get("/either/x", f"Cookie: {UNKNOWN}")
            assert (gone.status, gone.fields.all("set-cookie")) == (200, CLEARED)
            redis.kill()
            for cookie in (UNKNOWN, unseen, seen) * 3:
                answer = await running.get("/either/x", f"Cookie: {cookie}")
                assert answer.fields.all("set-cookie") == []
            known = await running.get("/either/x", f"Cookie: {seen}")
            assert known.status == (503 if mode == "strict" else 200)
            made_up = await running.get("/either/x", f"Cookie: {UNKNOWN}")
            assert made_up.status in {401, 503}
