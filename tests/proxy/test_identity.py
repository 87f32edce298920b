"""The identity headers at the upstream are the sidecar's own, whatever the client sent.

The cases are known attacks on other proxies: aliases, repetitions, `Connection`, and routes without
a check.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from tests.peers.raw_client import TruncatedError, build
from tests.peers.stack import Stack, User, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.http_text import Fields
    from tests.peers.scripted_upstream import ScriptedUpstream

ROUTES = (
    {"path": "/open/*", "access": "public"},
    {"path": "/maybe/*", "access": "optional"},
)
NAMES = (
    *("X-Auth-User", "X-Auth-Subject", "X-Auth-Issuer"),
    *("X-Auth-Roles", "X-Auth-Scopes", "X-Auth-Session"),
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar with a public, an optional and (by default) protected paths."""
    identity = {"X-Auth-Email": "email"}
    async with stack(upstream.url, routes=ROUTES, identity=identity) as running:
        yield running


def identity(fields: Fields) -> dict[str, list[bytes]]:
    """Return every header that a backend could take for an identity header, by folded name."""
    found: dict[str, list[bytes]] = {}
    for name, value in fields.items:
        folded = name.decode("latin-1").lower().replace("_", "-")
        if folded.startswith("x-auth-"):
            found.setdefault(folded, []).append(value)
    return found


def variants(name: str) -> list[str]:
    """Return spellings of a header name that some backend folds to the same name."""
    dashed = [name, name.lower(), name.upper(), name.swapcase()]
    return dashed + [spelt.replace("-", "_") for spelt in dashed] + [name.replace("-", "_", 1)]


async def test_identity_reaches_the_upstream(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """After a login the identity headers, with a configured claim, describe the user."""
    tokens = await guarded.login("alice")
    assert (await guarded.get("/", token=tokens.access)).status == 200
    seen = identity((await upstream.arrived()).fields)
    assert seen["x-auth-user"] == seen["x-auth-subject"] == [b"alice"]
    assert seen["x-auth-issuer"] == [b"auth-sidecar"]
    assert seen["x-auth-roles"] == [b"user"]
    assert seen["x-auth-scopes"] == [b""]
    assert seen["x-auth-email"] == [b"alice@example.org"]
    assert len(seen["x-auth-session"][0]) >= 16
    assert len(seen) == 7


async def test_several_roles_and_scopes(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """Several roles share a single header, and so do several scopes."""
    for at, (user, name, values) in enumerate(
        [
            ("admin", "x-auth-roles", {"user", "admin"}),
            ("scout", "x-auth-scopes", {"read", "write"}),
        ]
    ):
        tokens = await guarded.login(user)
        await guarded.get("/", token=tokens.access)
        (value,) = identity((await upstream.arrived(at + 1)).fields)[name]
        assert set(value.decode().replace(",", " ").split()) == values


@pytest.mark.parametrize("path", ["/open/x", "/maybe/x"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
async def test_anonymous_identity_is_empty_and_complete(
    upstream: ScriptedUpstream, guarded: Stack, path: str, method: str
) -> None:
    """Where no login is needed, every identity header is present and empty."""
    lines = [f"{spelt}: root" for name in NAMES for spelt in variants(name)][:80]
    answer = await guarded.ask(build(method, path, *lines, body=b"" if method == "POST" else None))
    assert answer.status == 200
    seen = identity((await upstream.arrived()).fields)
    assert seen == {name.lower(): [b""] for name in (*NAMES, "X-Auth-Email")}


@pytest.mark.parametrize("name", [*NAMES, "X-Auth-Email", "X-Auth-Whatever"])
async def test_forged_identity_is_gone(
    upstream: ScriptedUpstream, guarded: Stack, name: str
) -> None:
    """No spelling of a client's identity header survives, alone or repeated."""
    tokens = await guarded.login()
    lines = [f"{spelt}: root" for spelt in variants(name) for _ in range(2)]
    assert (await guarded.get("/", *lines, token=tokens.access)).status == 200
    request = await upstream.arrived()
    assert b"root" not in request.head
    assert all(len(values) == 1 for values in identity(request.fields).values())


@pytest.mark.parametrize("name", NAMES)
async def test_connection_cannot_remove_identity(
    upstream: ScriptedUpstream, guarded: Stack, name: str
) -> None:
    """Naming an identity header in Connection removes the client's, never the sidecar's."""
    tokens = await guarded.login()
    lines = [f"Connection: close, {name}", f"Connection: {name.lower()}", f"{name}: root"]
    assert (await guarded.get("/", *lines, token=tokens.access)).status == 200
    request = await upstream.arrived()
    assert len(identity(request.fields)[name.lower()]) == 1
    assert b"root" not in request.head


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("X-Auth-User : root", id="space-before-colon"),
        pytest.param("X-Auth-User\t: root", id="tab-before-colon"),
        pytest.param("X-Auth-User\x0b: root", id="vt-before-colon"),
        pytest.param("X-Auth-User\x00: root", id="nul-before-colon"),
        pytest.param("\x00X-Auth-User: root", id="nul-first"),
        pytest.param(" X-Auth-User: root", id="space-first"),
        pytest.param("X: y\n X-Auth-User: root", id="folded-after-lf"),
        pytest.param("X: y\nX-Auth-User: root", id="after-bare-lf"),
        pytest.param("X: y\rX-Auth-User: root", id="after-bare-cr"),
        pytest.param("X\xc2\xadAuth-User: root", id="soft-hyphen"),
    ],
)
async def test_odd_spellings_are_refused(
    upstream: ScriptedUpstream, guarded: Stack, line: str
) -> None:
    """A header line that only some parsers take for an identity header gets a 400."""
    answer = await guarded.get("/open/x", line)
    assert answer.status == 400
    assert upstream.requests == []


async def test_forged_identity_in_trailers_is_gone(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """Identity headers in trailers are dropped, as a backend may merge trailers (6.5.1)."""
    head = build("POST", "/open/x", "Transfer-Encoding: chunked", "Trailer: X-Auth-User")
    body = b"2\r\nhi\r\n0\r\nX-Auth-User: root\r\nx_auth_roles: admin\r\n\r\n"
    answer = await guarded.ask(head + body)
    if answer.status == 400:
        return
    request = await upstream.arrived()
    assert request.body == b"hi"
    assert b"root" not in request.trailers
    assert b"admin" not in request.trailers


async def test_identity_is_that_of_the_token_under_load(upstream: ScriptedUpstream) -> None:
    """With 200 concurrent users, some hanging up, no request carries another user's identity."""
    users = [User(f"user{n}", roles=(f"role{n}",)) for n in range(200)]
    async with stack(upstream.url, users=users, upstream_max_connections=16) as running:
        tokens = {user.name: (await running.login(user.name)).access for user in users}
        await asyncio.gather(
            *(_visit(running, n, token) for n, token in enumerate(tokens.values()))
        )
    owners = {token: name for name, token in tokens.items()}
    assert len(upstream.requests) >= 200 * 3
    for request in upstream.requests:
        owner = owners[request.fields.one("authorization").decode().removeprefix("Bearer ")]
        seen = identity(request.fields)
        assert seen["x-auth-user"] == seen["x-auth-subject"] == [owner.encode()]
        assert seen["x-auth-roles"] == [owner.replace("user", "role").encode()]
        assert request.target.startswith(f"/{owner}/".encode())
    sessions = {
        (identity(request.fields)["x-auth-session"][0], request.fields.one("x-auth-user"))
        for request in upstream.requests
    }
    assert len(sessions) == 200


async def _visit(running: Stack, number: int, token: str) -> None:
    """Send three requests on one connection, two of them pipelined; every fifth client resets."""
    async with running.client() as client:
        requests = [build("GET", f"/user{number}/{n}", token=token) for n in range(3)]
        await client.send(requests[0] + requests[1])
        for _ in range(2):
            assert (await client.response()).status == 200
        assert (await client.ask(requests[2])).status == 200
        if number % 5 == 0:
            await client.send(requests[0])
            client.reset()


async def test_interleaved_users_on_one_connection(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """Each request on a shared connection has the identity of its own token, or none."""
    tokens = {name: (await guarded.login(name)).access for name in ("alice", "admin", "scout")}
    draw = random.Random(7)
    order = [draw.choice([*tokens, ""]) for _ in range(40)]
    async with guarded.client() as client:
        for name in order:
            answer = await client.ask(build("GET", "/maybe/x", token=tokens.get(name)))
            assert answer.status == 200
    seen = [identity(request.fields)["x-auth-user"] for request in upstream.requests]
    assert seen == [[name.encode()] for name in order]


async def test_answers_belong_to_their_questions(upstream: ScriptedUpstream) -> None:
    """With few upstream connections and vanishing clients, each client gets its own answers."""
    upstream.scripts = lambda request: [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.target),
        request.target,
    ]
    routes = ({"path": "/*", "access": "public"},)
    async with stack(upstream.url, routes=routes, upstream_max_connections=4) as running:

        async def ask(number: int) -> None:
            async with running.client() as client:
                for at in itertools.count():
                    target = f"/{number}/{at}/{'x' * (number % 90)}"
                    await client.send(build("GET", target))
                    if number % 4 == 0 and at == 3:
                        client.reset()
                        return
                    assert (await client.response()).body == target.encode()
                    if at == 6:
                        return

        outcomes = await asyncio.gather(*map(ask, range(80)), return_exceptions=True)
    faults = [fault for fault in outcomes if fault and not isinstance(fault, TruncatedError)]
    assert faults == []
