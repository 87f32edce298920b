"""Well-behaved clients: wrk's requests, and clients that log in, work, refresh and log out.

Owns the expected responses. A WebSocket is open at each logout and must be closed by it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from bench.children import PATIENCE
from bench.scenarios import KIB, SMALL_BODY
from bench.sidecar import PASSWORD, USER

if TYPE_CHECKING:
    from bench.restarts import Count

PAUSE: Final = 0.05  # seconds between two logins of a client
REQUESTS: Final = 10  # of each kind per access token
BODY: Final = b"x" * 10_000
MESSAGE: Final = b"m" * 100_000
POLICY_VIOLATION: Final = 1008
LIVES: Final = 4  # concurrent clients
LAST: Final = "after the logout"


@dataclass(frozen=True, slots=True)
class Work:
    """A request that wrk repeats."""

    path: str
    connections: int
    method: str = "GET"
    body_size: int = 0
    cookie: bool = False


LOADS: Final = {
    "small GET": Work("/", 32),
    "GET with a cookie": Work("/", 8, cookie=True),
    "10 KiB download": Work("/files/10k", 4),
    "1 MiB download": Work("/files/1m", 2),
    "POST 64 KiB": Work("/sink", 4, "POST", 64 * KIB),
    "verify subrequest": Work("/auth/verify", 4),
}
KINDS: Final = {*LOADS, LAST}


class UnexpectedError(Exception):
    """A response differs from the expected one; the message describes it."""


class Pair(msgspec.Struct, frozen=True):
    """The tokens from a login or a refresh."""

    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that authenticate a request."""
        return {"Authorization": f"Bearer {self.access_token}"}


async def behave(port: int, count: Count, over: asyncio.Event) -> None:
    """Log in, work and log out repeatedly until `over` is set; every response is counted."""
    while not over.is_set():
        try:
            async with aiohttp.ClientSession(
                f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(total=PATIENCE)
            ) as session:
                await Life(session, count).run()
        except (aiohttp.ClientError, OSError, TimeoutError, UnexpectedError) as error:
            count.failures[f"a client: {error!r}"] += 1
        await asyncio.sleep(PAUSE)


class Life:
    """A client from a login to its logout."""

    def __init__(self, session: aiohttp.ClientSession, count: Count) -> None:
        self._session = session
        self._count = count

    def __repr__(self) -> str:
        return f"<Life, {self._count.answered.total()} answers>"

    async def run(self) -> None:
        """Run the client. Raises UnexpectedError and the exceptions of aiohttp."""
        credentials = {"username": USER, "password": PASSWORD}
        pair = await self._pair("/auth/login", credentials)
        await self._work(pair)
        pair = await self._pair("/auth/refresh", {"refresh_token": pair.refresh_token})
        await self._work(pair)
        async with self._session.ws_connect("/app/echo", headers=pair.headers) as socket:
            for _ in range(REQUESTS):
                await socket.send_bytes(MESSAGE)
                if await socket.receive_bytes(timeout=PATIENCE) != MESSAGE:
                    raise UnexpectedError("an echo differs from the message")
                self._count.answered["echo"] += 1
            await self._ask("POST", "/auth/logout", pair.headers, 204)
            last = await socket.receive(timeout=PATIENCE)
            if last.data != POLICY_VIOLATION:
                raise UnexpectedError(f"a WebSocket outlived its session: {last!r}")
            self._count.answered["close"] += 1
        await self._ask("GET", "/", pair.headers, 401)
        self._count.answered[LAST] += 1

    async def _pair(self, path: str, body: dict[str, str]) -> Pair:
        async with self._session.post(path, json=body) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise UnexpectedError(f"{path}: {answer.status} {text[:200]!r}")
            self._count.answered[path] += 1
            return msgspec.json.decode(text, type=Pair)

    async def _work(self, pair: Pair) -> None:
        for _ in range(REQUESTS):
            if await self._ask("GET", "/", pair.headers, 200) != SMALL_BODY:
                raise UnexpectedError("GET /: unexpected body")
            answer = await self._ask("POST", "/sink", pair.headers, 200, BODY)
            if answer != b"read %d\n" % len(BODY):
                raise UnexpectedError(f"POST /sink: {answer[:200]!r}")

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], status: int, body: bytes = b""
    ) -> bytes:
        async with self._session.request(
            method, path, headers=headers, data=body or None
        ) as answer:
            text = await answer.read()
            if answer.status != status:
                raise UnexpectedError(f"{method} {path}: {answer.status} {text[:200]!r}")
            self._count.answered[f"{method} {path}"] += 1
            return text
