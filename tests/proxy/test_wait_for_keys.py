"""Requests that are held while the key of their token is fetched."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import jwt
import pytest

from sidecar.auth.keys import KeyRing
from sidecar.auth.password_logins import PasswordLogins
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.session import Grant, Session, token_id
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
from sidecar.auth.verified import SessionMode
from sidecar.issuers.key_waiters import KeyWaiters
from sidecar.proxy.fair_share import FairShare
from tests.proxy.memory_plane import SECRET, Plane, rest

if TYPE_CHECKING:
    from tests.peers.memory_transport import MemoryTransport

RULES: Final = (
    RouteRule(path="/auth/verify/*", target="verify", access=Access.PUBLIC, name="verify"),
    RouteRule(path="/*"),
)
CLAIMS: Final = {"iss": "t", "sub": "alice", "sid": "s1", "exp": 4_000_000_000}
TOKEN: Final = jwt.encode(CLAIMS, SECRET, algorithm="HS256", headers={"typ": "at+jwt"})
BEARER: Final = f"Authorization: Bearer {TOKEN}\r\n"


class Held:
    """A data plane that knows no key of its only issuer until `fetch`."""

    def __init__(self, mode: SessionMode = SessionMode.NONE, places: int = 8) -> None:
        self.plane = Plane(RULES)
        self._config = IssuerConfig(issuer="t", session_mode=mode)
        self.fetched: asyncio.Event | None = asyncio.Event()
        self.asked: list[str] = []
        self.places = FairShare(places)
        self.plane.context.keys = KeyWaiters(self._request, self.places)
        self._use(KeyRing())
        self.wire = self.plane.connect()

    def _request(self, issuer: str) -> asyncio.Event | None:
        self.asked.append(issuer)
        return self.fetched

    def _use(self, keys: KeyRing) -> None:
        self.plane.context.gate.replace(Verifier([self._config], keys), PasswordLogins())

    async def feed(self, request: str, wire: MemoryTransport | None = None) -> None:
        """Send a request."""
        (wire or self.wire).feed(request.encode())
        await rest()

    async def fetch(self, *, found: bool = True) -> bytes:
        """End the fetch and return what the client was sent."""
        if found:
            self._use(KeyRing([secret_key("t", SECRET)]))
        assert self.fetched is not None
        self.fetched.set()
        await rest()
        return self.wire.take()

    def sent(self) -> bytes:
        """Return what reached the upstream."""
        return b"".join(each.take() for each in self.plane.connector.wires)

    @property
    def tasks(self) -> int:
        """How many tasks of requests run."""
        return len(self.plane.context.tasks)


async def test_held_until_the_key_is_known() -> None:
    """The request is decided on again after the fetch, and forwarded."""
    held = Held()
    await held.feed(f"GET /x HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n")
    assert (held.wire.take(), held.sent(), held.places.used) == (b"", b"", 1)
    assert await held.fetch() == b""
    assert b"X-Auth-Subject: alice" in held.sent()
    assert held.asked == ["t"]
    assert held.places.used == 0


async def test_still_unknown() -> None:
    """A key that the issuer does not publish is refused after one fetch."""
    held = Held()
    await held.feed(f"GET /x HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n")
    answer = await held.fetch(found=False)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b'error="invalid_token"' in answer
    assert held.asked == ["t"]
    assert held.plane.context.metrics.denied["key_unknown"] == 1


@pytest.mark.parametrize(
    ("fetched", "places"),
    [
        pytest.param(False, 8, id="no-fetch-may-begin"),
        pytest.param(True, 0, id="no-place-to-wait"),
    ],
)
async def test_refused_at_once(places: int, *, fetched: bool) -> None:
    """A request that cannot wait is refused at once."""
    held = Held(places=places)
    if not fetched:
        held.fetched = None
    await held.feed(f"GET /x HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n")
    assert held.wire.take().startswith(b"HTTP/1.1 401 ")
    assert held.tasks == 0


async def test_without_any_fetcher() -> None:
    """Where no keys are fetched, an unknown key is refused."""
    held = Held()
    held.plane.context.keys = None
    await held.feed(f"GET /x HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n")
    assert held.wire.take().startswith(b"HTTP/1.1 401 ")


async def test_a_body() -> None:
    """What came of a body with its head is kept, and its rest is not read until the fetch."""
    held = Held()
    head = f"POST /x HTTP/1.1\r\nHost: h\r\n{BEARER}Content-Length: 6\r\n\r\n"
    await held.feed(head + "abc")
    assert not held.wire.is_reading()
    assert (held.sent(), held.plane.context.staged.total) == (b"", 3)
    await held.fetch()
    await held.feed("def")
    assert held.sent().endswith(b"abcdef")
    assert held.plane.context.staged.total == 0


async def test_a_subrequest() -> None:
    """A subrequest is held as well; the decision is about the original request."""
    held = Held()
    await held.feed(f"GET /auth/verify/envoy HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n")
    assert held.wire.take() == b""
    answer = await held.fetch()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"X-Auth-Subject: alice" in answer


@pytest.mark.parametrize(("live", "status"), [(True, b""), (False, b"HTTP/1.1 401 ")])
async def test_a_session_is_still_needed(status: bytes, *, live: bool) -> None:
    """After the fetch, the token's session is looked up as for any other request."""
    held = Held(SessionMode.REQUIRED)
    if live:
        now = time.time()
        identifier = token_id(TOKEN.encode())
        session = Session(
            id=identifier, sid="s1", sub="alice", claims={}, created=now, exp=now + 60
        )
        await held.plane.context.store.write(Grant(session=session))
    await held.feed(f"GET /x HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n")
    assert (await held.fetch())[:13] == status
    assert (held.sent() != b"") is live


async def test_the_client_leaves() -> None:
    """A client that disconnects leaves nothing behind, and nothing is forwarded."""
    held = Held()
    head = f"POST /x HTTP/1.1\r\nHost: h\r\n{BEARER}Content-Length: 6\r\n\r\n"
    await held.feed(head + "abc")
    assert held.tasks == 1
    held.wire.lose(None)
    await rest()
    context = held.plane.context
    assert (held.tasks, held.places.used, context.staged.total) == (0, 0, 0)
    assert context.metrics.in_flight == 0
    await held.fetch()
    assert held.sent() == b""


async def test_pipelined() -> None:
    """Requests behind a held one on the same connection keep their order."""
    held = Held()
    request = f"GET /{{}} HTTP/1.1\r\nHost: h\r\n{BEARER}\r\n"
    await held.feed(request.format("first") + request.format("second"))
    assert held.asked == ["t"]
    await held.fetch()
    assert b"GET /first " in held.sent()
