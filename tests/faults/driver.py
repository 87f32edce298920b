"""Steady traffic at one sidecar, and the account of who was let in, who was not, and how fast.

Knows no fault and no store: credentials are of three roles, and each answer is right or wrong by
its role alone, whatever happens behind the sidecar.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from tests.peers.patience import until
from tests.peers.raw_client import Response, build, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from tests.peers.raw_client import RawClient

# How many connections of each role, and the seconds between an answer and the next request on one.
CLIENTS: Final = {"known": 4, "unknown": 2, "revoked": 2}
PAUSE: Final = 0.004
CHURN: Final = 0.05  # seconds between two logins, and as many logouts
WINDOW: Final = 0.4  # seconds in which a p99 is taken
ENOUGH: Final = 100  # requests to take it of
MARGIN: Final = 0.020  # seconds by which it may be above normal
ORIGIN: Final = "Origin: http://sidecar.test"
REFUSALS: Final = frozenset({401, 503})


class Role(StrEnum):
    """What is due to a credential."""

    KNOWN = "known"  # logged in, and used here: to be let in
    UNKNOWN = "unknown"  # forged, or never issued: to be refused
    REVOKED = "revoked"  # logged out: to be refused


def bearer(token: str) -> str:
    """A token as the header line that shows it."""
    return f"Authorization: Bearer {token}"


def claims_of(line: str) -> dict[str, Any]:
    """What the token in a header line says."""
    body = line.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=="))
    return claims


@dataclass(frozen=True, slots=True)
class Pod:
    """A sidecar by its two ports, in this process or another. Credentials are header lines."""

    port: int
    admin_port: int

    async def ask(self, request: bytes) -> Response:
        """One request on a connection of its own."""
        async with connect(self.port) as client:
            return await client.ask(request)

    async def status(self, line: str) -> int:
        """What a protected path answers to this credential."""
        return (await self.ask(build("GET", "/x", line))).status

    async def login(self, name: str = "alice", *, cookie: bool = False) -> str:
        """Log in; the credential. Raises AssertionError if that was refused."""
        body = f'{{"username": "{name}", "password": "pw-{name}"}}'.encode()
        lines = ["Content-Type: application/json"]
        if cookie:
            body = f"username={name}&password=pw-{name}".encode()
            lines = ["Content-Type: application/x-www-form-urlencoded", ORIGIN]
        answer = await self.ask(build("POST", "/auth/login", *lines, body=body))
        assert answer.status == (303 if cookie else 200), f"login: {answer!r}"
        if cookie:
            return f"Cookie: {answer.fields.one('set-cookie').decode().partition(';')[0]}"
        return bearer(answer.json()["access_token"])

    async def logout(self, line: str) -> None:
        """End the login of this credential. Raises AssertionError if that was refused."""
        answer = await self.ask(build("POST", "/auth/logout", line, ORIGIN, body=b""))
        assert answer.status == 204, f"logout: {answer!r}"

    async def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its full name with labels."""
        async with connect(self.admin_port) as client:
            text = (await client.ask(build("GET", "/metrics"))).body.decode()
        pairs = (line.rpartition(" ") for line in text.splitlines() if line[:1] not in {"", "#"})
        return {name: float(value) for name, _, value in pairs}

    async def degraded(self) -> bool:
        """Whether this sidecar does without Redis."""
        async with connect(self.admin_port) as client:
            return bool((await client.ask(build("GET", "/readyz"))).json()["degraded"])

    async def asked_redis(self) -> float:
        """How many session look-ups have gone to Redis, with any result."""
        metrics = await self.metrics()
        return sum(
            value
            for name, value in metrics.items()
            if name.startswith("sidecar_session_lookups_total{") and 'source="redis"' in name
        )


@dataclass(slots=True)
class Traffic:
    """Who asks, and what came of it. `known` maps a credential to when its login was begun.

    `spare` are known sessions that are to be logged out next. A request is judged by the role its
    credential had all the while: one that is being logged out is nobody's until that is answered.
    """

    pod: Pod
    cookies: bool = False  # whether logins are a browser's
    known: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    spare: deque[str] = field(default_factory=deque)
    statuses: Counter[tuple[Role, int]] = field(default_factory=Counter)
    wrong: Counter[Role] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    logouts: int = 0
    logins: int = 0
    _took: list[tuple[float, float]] = field(default_factory=list)  # when answered, seconds

    @property
    def requests(self) -> int:
        """How many have been answered."""
        return len(self._took)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Have the traffic run meanwhile."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name, clients in CLIENTS.items():
                for number in range(clients):
                    group.create_task(self._client(Role(name), number, stop))
            group.create_task(self._churn(stop))
            try:
                yield
            finally:
                stop.set()

    def p99(self, since: float) -> float:
        """Of requests answered since a moment of time.monotonic: the 99th percentile, in s."""
        took = sorted(took for at, took in self._took if at - took >= since)
        return took[-(-len(took) * 99 // 100) - 1]

    async def window(self) -> float:
        """The p99 of one window from now on."""
        began = time.monotonic()
        due = began + WINDOW
        await until(lambda: time.monotonic() > due and self._answered(began) >= ENOUGH)
        return self.p99(began)

    async def best(self, normal: float, attempts: int = 3) -> float:
        """The p99 of the first of a few windows that is hardly above this, else the least."""
        found = []
        for _ in range(attempts):
            found.append(await self.window())
            if found[-1] <= normal + MARGIN:
                break
        return min(found)

    def right(self) -> None:
        """Raise AssertionError if anybody was let in, or refused, that should not have been."""
        assert not self.wrong, f"{dict(self.wrong)}: {self.details[:10]}"

    def _answered(self, since: float) -> int:
        return sum(at - took >= since for at, took in reversed(self._took[-2000:]))

    def _lines(self, role: Role) -> Collection[str]:
        if role is Role.KNOWN:
            return self.known
        return self.unknown if role is Role.UNKNOWN else self.revoked

    def _judge(self, role: Role, line: str, status: int, began: float) -> None:
        now = time.monotonic()
        self._took.append((now, now - began))
        self.statuses[role, status] += 1
        right = {200} if role is Role.KNOWN else REFUSALS
        if status not in right and line in self._lines(role):
            self.wrong[role] += 1
            self.details.append(f"{role} {line[:14]} got {status} at {now:.3f}")

    async def _client(self, role: Role, number: int, stop: asyncio.Event) -> None:
        """One keep-alive connection on which one request follows the other."""
        async with connect(self.pod.port) as client:
            client.keep = False
            for turn in count(number):
                if stop.is_set():
                    return
                lines = list(self._lines(role))
                await self._one(client, role, lines[turn % len(lines)])
                await asyncio.sleep(PAUSE)

    async def _one(self, client: RawClient, role: Role, line: str) -> None:
        began = time.monotonic()
        answer = await client.ask(build("GET", "/x", line))
        self._judge(role, line, answer.status, began)

    async def _churn(self, stop: asyncio.Event) -> None:
        """Users come and go: one logs in, and the one that is next logs out."""
        while not stop.is_set():
            began = time.monotonic()
            line = await self.pod.login(cookie=self.cookies)
            self.logins += 1
            self.known[line] = began
            assert await self.pod.status(line) == 200, "a login was not let in"
            self.spare.append(line)
            await self.end(self.spare.popleft())
            await asyncio.sleep(CHURN)

    async def end(self, line: str) -> None:
        """Log one out that is known."""
        self.known.pop(line, None)
        await self.pod.logout(line)
        self.revoked.append(line)
        self.logouts += 1
