"""Whatever clients, upstreams, look-ups and time limits do, in any order, everything is given back.

Random steps from a seed, in memory; a failure names its seed.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from random import Random
from time import time
from typing import TYPE_CHECKING, Final, cast

import jwt
import pytest

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.errors import StoreUnavailable
from sidecar.issuers.key_waiters import KeyWaiters
from sidecar.proxy.context import Limits
from sidecar.proxy.fair_share import FairShare
from sidecar.proxy.held import HeldOctets
from sidecar.proxy.upstream_pool import UpstreamPoolLimits
from sidecar.sessions.memory.local import LocalStore
from tests.proxy.memory_plane import SECRET, Plane, rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.session import Session
    from sidecar.sessions.store import SessionStore
    from tests.peers.memory_transport import MemoryTransport
    from tests.proxy.crank import Crank

RULES: Final = (
    RouteRule(path="/auth/verify/*", target="verify", access=Access.PUBLIC, name="verify"),
    RouteRule(path="/auth/*", access=Access.PUBLIC, target="api"),
    RouteRule(path="/closed/*"),
    RouteRule(path="/either/*", access=Access.OPTIONAL),
    RouteRule(path="/*", access=Access.PUBLIC),
)
CLAIMS: Final = {"iss": "t", "sub": "alice", "sid": "s1", "exp": 4_000_000_000}
TOKEN: Final = jwt.encode(CLAIMS, SECRET, algorithm="HS256", headers={"typ": "at+jwt"})
STRANGE: Final = jwt.encode(
    CLAIMS, SECRET, algorithm="HS256", headers={"typ": "at+jwt", "kid": "k"}
)
LINES: Final = (
    "",
    f"Authorization: Bearer {TOKEN}\r\n",
    f"Authorization: Bearer {STRANGE}\r\n",
    f"Cookie: __Host-session={'A' * 43}\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "X-Forwarded-For: 198.51.100.7\r\n",
    "Accept: text/html\r\n",
)
TARGETS: Final = ("/", "/closed/x", "/either/x", "/auth/login", "/auth/verify/nginx", "/a%2f", "*")
SIZES: Final = (0, 1, 900, 3000, 9000)
ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
    b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\npart",
    b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 20",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 150_000,
)


class _SlowStore:
    """A store without sessions, whose look-ups wait, and sometimes fail.

    It has a `LocalStore` and is none, because a compiled class has no subclasses in tests.
    """

    def __init__(self, chance: Random) -> None:
        self._kept = LocalStore(time)
        self.chance = chance
        self.waiting: list[asyncio.Future[None]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._kept, name)

    def peek(self, token_id: str) -> Session | None:
        """Know nothing at once."""
        del token_id
        return None

    async def get(self, token_id: str) -> Session | None:
        """Know nothing later."""
        del token_id
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future
        if self.chance.random() < 0.2:
            raise StoreUnavailable("away")
        return None


class Storm:
    """One plane with little of everything, and the steps that clients and others take."""

    def __init__(self, seed: int, crank: Crank) -> None:
        self.chance = Random(seed)
        self.crank = crank
        self.plane = plane = Plane(
            RULES,
            limits=Limits(body_buffer=2000, backlog=4000, requests=40, per_address=6),
            pool_limits=UpstreamPoolLimits(connections=6, waiting=8),
            trusted=[ip_network("192.0.2.5")],
        )
        context = plane.context
        context.staged = HeldOctets(12_000)
        context.unfinished = HeldOctets(12_000)
        context.clear_cookie = b"Set-Cookie: gone\r\n"
        self.fetches: list[asyncio.Event] = []
        self.places = FairShare(6)
        context.keys = KeyWaiters(self._fetch, self.places)
        self.store = _SlowStore(self.chance)
        context.store = cast("SessionStore", self.store)
        self.wires: list[MemoryTransport] = []
        self.steps: tuple[Callable[[], None], ...] = (
            *(self.connect,) * 4,
            *(self.request,) * 8,
            *(self.feed_body,) * 8,
            *(self.answer,) * 8,
            self.leave,
            self.end,
            self.stall,
            *(self.drain,) * 2,
            self.lose_upstream,
            self.end_upstream,
            self.refuse_connection,
            *(self.look_up,) * 2,
            self.fetch,
            self.wait,
        )

    def _fetch(self, issuer: str) -> asyncio.Event | None:
        del issuer
        if self.chance.random() < 0.2:
            return None
        self.fetches.append(asyncio.Event())
        return self.fetches[-1]

    def _one(self) -> MemoryTransport | None:
        self.wires = [each for each in self.wires if not each.lost]
        return self.chance.choice(self.wires) if self.wires else None

    def connect(self) -> None:
        """A client comes."""
        address = f"192.0.2.{self.chance.randrange(1, 7)}"
        self.wires.append(self.plane.connect(hold=self.chance.random() < 0.3, address=address))

    def request(self) -> None:
        """A client asks, perhaps not for long."""
        wire, chance = self._one(), self.chance
        if wire is None or not wire.is_reading():
            return
        size = chance.choice(SIZES)
        method = chance.choice(("GET", "GET", "HEAD", "OPTIONS", "PUT", "POST", "POST"))
        lines = "".join(chance.sample(LINES, 2))
        body = b""
        if method in {"POST", "PUT"}:
            if chance.random() < 0.3:
                lines += "Transfer-Encoding: chunked\r\n"
                body = b"5\r\nabcde\r\n" + chance.choice((b"", b"0\r\n\r\n", b"zz\r\n"))
            else:
                lines += f"Content-Length: {size}\r\n"
                body = b"x" * chance.choice((0, size // 2, size))
        minor = chance.choice((1, 1, 1, 0))
        head = f"{method} {chance.choice(TARGETS)} HTTP/1.{minor}\r\nHost: h\r\n{lines}\r\n"
        data = head.encode() + body
        if chance.random() < 0.1:
            data = data[: chance.randrange(1, len(data))]
        if chance.random() < 0.15:
            data += b"GET /two HTTP/1.1\r\nHost: h\r\n\r\n" * chance.choice((1, 3, 200))
        wire.feed(data)

    def feed_body(self) -> None:
        """A client sends more of something."""
        wire = self._one()
        if wire is not None and wire.is_reading():
            wire.feed(self.chance.choice((b"x" * 700, b"x" * 5000, b"3\r\nabc\r\n", b"0\r\n\r\n")))

    def leave(self) -> None:
        """A client is gone."""
        wire = self._one()
        if wire is not None:
            wire.lose(self.chance.choice((None, ConnectionResetError())))

    def end(self) -> None:
        """A client closes its side."""
        wire = self._one()
        if wire is not None and wire.is_reading():
            wire.feed_eof()
            wire.reading = False

    def stall(self) -> None:
        """A client reads nothing more for a while."""
        wire = self._one()
        if wire is not None:
            wire.hold = True

    def drain(self) -> None:
        """A client reads something."""
        wire = self._one()
        if wire is not None:
            wire.drain(self.chance.choice((100, None)))

    def _upstream(self) -> MemoryTransport | None:
        wires = [each for each in self.plane.connector.wires if not each.lost]
        return self.chance.choice(wires) if wires else None

    def answer(self) -> None:
        """The upstream sends something, mostly only if it was asked."""
        wire = self._upstream()
        if wire is None or not wire.is_reading():
            return
        if wire.take() or self.chance.random() < 0.3:
            wire.feed(self.chance.choice(ANSWERS))

    def lose_upstream(self) -> None:
        """An upstream's connection breaks."""
        wire = self._upstream()
        if wire is not None:
            wire.lose(self.chance.choice((None, ConnectionResetError())))

    def end_upstream(self) -> None:
        """An upstream closes its side."""
        wire = self._upstream()
        if wire is not None:
            wire.feed_eof()

    def refuse_connection(self) -> None:
        """The next connection is refused, or hangs for a while."""
        connector, chance = self.plane.connector, self.chance.random()
        if chance < 0.2:
            connector.faults[:] = [ConnectionRefusedError("refused")]
        elif chance < 0.3:
            connector.open.clear()
        else:
            connector.open.set()

    def look_up(self) -> None:
        """The store answers."""
        if self.store.waiting:
            future = self.store.waiting.pop(self.chance.randrange(len(self.store.waiting)))
            if not future.done():
                future.set_result(None)

    def fetch(self) -> None:
        """Keys have been fetched."""
        if self.fetches:
            self.fetches.pop(0).set()

    def wait(self) -> None:
        """Time passes."""
        self.crank.turn(self.plane, self.chance.choice((0.5, 1.0, 1.0, 1.0, 3.0, 30.0)))

    async def finish(self) -> None:
        """Everyone leaves, and what was waited for arrives."""
        self.plane.connector.open.set()
        for future in self.store.waiting:
            if not future.done():
                future.set_result(None)
        for wire in self.wires:
            wire.lose(None)
        await rest()
        for fetched in self.fetches:
            fetched.set()
        for wire in self.plane.connector.wires:
            wire.lose(None)
        for _ in range(3):
            self.crank.turn(self.plane, 1.0)
            await rest()

    def left(self) -> dict[str, object]:
        """What is not at zero."""
        plane = self.plane
        context, pool = plane.context, plane.pool.pool
        counts: dict[str, object] = {
            "in_flight": context.metrics.in_flight,
            "staged": context.staged.total,
            "unfinished": context.unfinished.total,
            "remembered": context.remembered.total,
            "admission": _unless_zero(context.admission, " 0 open by 0 "),
            "leased": pool.leased,
            "idle": pool.idle,
            "opening": pool.opening,
            "waiting": len(pool.waiting),
            "uploads": plane.pool.uploads.admitted,
            "waiting uploads": len(plane.pool.uploads.waiting),
            "connections": sum(context.metrics.connections.values()),
            "open": _unless_zero(plane.listener, "connections=0>"),
            "uncounted": sum(each.codes[0] for each in context.metrics.routes.values()),
            "tasks": len(context.tasks),
            "places": self.places.used,
        }
        return {name: each for name, each in counts.items() if each}


def _unless_zero(owner: object, zero: str) -> str:
    """Return what its owner says of a count that is not at zero."""
    text = repr(owner)
    return "" if zero in text else text


@pytest.mark.parametrize("seed", range(40))
async def test_everything_is_given_back(seed: int, crank: Crank) -> None:
    """After random steps, and when all have left, nothing is held, counted, leased or running."""
    faults: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, found: faults.append(found))
    storm = Storm(seed, crank)
    for _ in range(600):
        storm.chance.choice(storm.steps)()
        if storm.chance.random() < 0.6:
            await asyncio.sleep(0)
        if storm.chance.random() < 0.2:
            await rest()
        context = storm.plane.context
        assert context.staged.total <= 12_000
        assert context.unfinished.total <= 12_000
    await storm.finish()
    assert not faults
    assert storm.left() == {}
