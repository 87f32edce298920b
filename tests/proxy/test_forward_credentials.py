"""Which credentials the application gets: never the session cookie, unless a route says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.peers.raw_client import build
from tests.peers.scripted_upstream import reply
from tests.peers.stack import stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream
    from tests.peers.stack import Stack


def rule(path: str, access: str, forwards: str | None = None) -> dict[str, Any]:
    """One route; `forwards` is its forward_credentials."""
    told = {} if forwards is None else {"forward_credentials": forwards}
    return {"path": path, "access": access, **told}


ROUTES: Final = [
    rule("/public", "public"),
    rule("/public-token", "public", "token"),
    rule("/public-all", "public", "all"),
    rule("/optional", "optional"),
    rule("/none", "required", "none"),
    rule("/all", "required", "all"),
]
TOKEN_ON: Final = {"/public-token", "/public-all", "/optional", "/all", "/default"}
COOKIE_ON: Final = {"/public-all", "/all"}
PATHS: Final = (*(each["path"] for each in ROUTES), "/default")


@pytest.fixture
async def running(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar in front of `upstream` with one route of each kind."""
    upstream.scripts = [[reply(b"ok")]]
    async with stack(upstream.url, routes=ROUTES) as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
async def test_the_token(running: Stack, upstream: ScriptedUpstream, path: str) -> None:
    """The bearer token reaches the application where the route lets it, also on later requests."""
    token = (await running.login()).access
    async with running.client() as client:
        for _ in range(3):
            assert (await client.ask(build("GET", path, token=token))).status == 200
    wanted = [f"Bearer {token}".encode()] if path in TOKEN_ON else []
    assert [seen.fields.all("authorization") for seen in upstream.requests] == [wanted] * 3


@pytest.mark.parametrize("path", PATHS)
async def test_the_cookie(running: Stack, upstream: ScriptedUpstream, path: str) -> None:
    """The session cookie reaches the application only where the route says so; others always do."""
    own = await running.cookie()
    async with running.client() as client:
        for _ in range(3):
            sent = build("GET", path, f"Cookie: a=1; {own}; b=2")
            assert (await client.ask(sent)).status == 200
    wanted = f"a=1; {own}; b=2".encode() if path in COOKIE_ON else b"a=1; b=2"
    assert [seen.fields.all("cookie") for seen in upstream.requests] == [[wanted]] * 3


@pytest.mark.parametrize(
    ("value", "left"),
    [
        pytest.param("{0}", None, id="alone"),
        pytest.param("{0}; a=1", "a=1", id="first"),
        pytest.param("a=1; {0}", "a=1", id="last"),
        pytest.param('a="x y";b=%3B;  {0} ;c', 'a="x y";b=%3B;c', id="odd-octets"),
        pytest.param("a__Host-session=1; {0}", "a__Host-session=1", id="a-longer-name"),
        pytest.param("__Host-session2=1; {0}", "__Host-session2=1", id="another-name"),
        pytest.param("__Host-session=; {0}; a=1", "a=1", id="an-empty-one-too"),
        pytest.param("a=1; b=2", "a=1; b=2", id="none"),
    ],
)
async def test_other_cookies_stay(
    running: Stack, upstream: ScriptedUpstream, value: str, left: str | None
) -> None:
    """Removing the session cookie changes no octet of another cookie."""
    own = await running.cookie()
    token = None if "{0}" in value else (await running.login()).access
    answer = await running.get("/default", f"Cookie: {value.format(own)}", token=token)
    assert answer.status == 200
    assert upstream.requests[-1].fields.all("cookie") == ([] if left is None else [left.encode()])


@pytest.mark.parametrize("name", ["Cookie", "cookie", "COOKIE"])
async def test_spellings(running: Stack, upstream: ScriptedUpstream, name: str) -> None:
    """Every spelling and every one of several lines is covered, and white space around the name."""
    own = await running.cookie()
    lines = (f"{name}: x=1", f"{name}: {own}", f"{name}:   __Host-session = {own[15:]}; y=2")
    await running.get("/public", *lines)
    assert upstream.requests[-1].fields.all("cookie") == [b"x=1", b"y=2"]


async def test_other_schemes_stay(running: Stack, upstream: ScriptedUpstream) -> None:
    """Basic credentials pass on a public route; a bearer token in any spelling does not."""
    await running.get("/public", "Authorization: Basic YTpi", "Authorization: bEARER x")
    assert upstream.requests[-1].fields.all("authorization") == [b"Basic YTpi"]


async def test_one_connection_with_many_routes(running: Stack, upstream: ScriptedUpstream) -> None:
    """Equal headers on one connection are judged by the route of each request."""
    token = (await running.login()).access
    paths = ("/none", "/all", "/none", "/public", "/public-all", "/public")
    async with running.client() as client:
        for path in paths:
            sent = build("GET", path, "Cookie: __Host-session=; a=1", token=token)
            assert (await client.ask(sent)).status == 200
    found = [
        (len(seen.fields.all("authorization")), seen.fields.one("cookie"))
        for seen in upstream.requests
    ]
    hidden, shown = (0, b"a=1"), (1, b"__Host-session=; a=1")
    assert found == [hidden, shown, hidden, hidden, shown, hidden]


async def test_options_with_max_forwards(running: Stack, upstream: ScriptedUpstream) -> None:
    """A head that is changed on the way loses the cookie as well."""
    own = await running.cookie()
    sent = build("OPTIONS", "/public", "Max-Forwards: 3", f"Cookie: {own}; a=1")
    async with running.client() as client:
        for _ in range(2):
            assert (await client.ask(sent)).status == 200
    for seen in upstream.requests:
        assert seen.fields.one("max-forwards") == b"2"
        assert seen.fields.one("cookie") == b"a=1"


async def test_a_cookie_of_another_name(upstream: ScriptedUpstream) -> None:
    """SESSION_COOKIE says which cookie is removed."""
    upstream.scripts = [[reply(b"ok")]]
    async with stack(upstream.url, session_cookie="s.d") as running:
        own = await running.cookie()
        assert (await running.get("/", f"Cookie: {own}; sxd=1")).status == 200
    assert upstream.requests[-1].fields.one("cookie") == b"sxd=1"


async def test_the_control_plane_gets_all(running: Stack, upstream: ScriptedUpstream) -> None:
    """The control plane still gets every credential."""
    own = await running.cookie()
    assert (await running.get("/auth/userinfo", f"Cookie: {own}")).status == 200
    assert upstream.requests == []
