"""Steady traffic at one sidecar, with a record of allowed and denied requests and their latency.

It knows no faults and no store. A credential has one of three roles, and its role alone determines
the right answer, whatever happens behind the sidecar.
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

# Connections of each role, and the seconds on each between an answer and the next request.
CLIENTS: Final = {"known": 4, "unknown": 2, "revoked": 2}
PAUSE: Final = 0.004
CHURN: Final = 0.05  # seconds between two logins and two logouts
WINDOW: Final = 0.4  # seconds over which a p99 is taken
ENOUGH: Final = 100  # requests needed for a p99
MARGIN: Final = 0.020  # seconds by which it may exceed the normal p99
ORIGIN: Final = "Origin: http://sidecar.test"
REFUSALS: Final = frozenset({401, 503})


class Role(StrEnum):
    """The expected answer for a credential."""

    KNOWN = "known"  # logged in, and used here: must be allowed
    UNKNOWN = "unknown"  # forged, or never issued: must be denied
    REVOKED = "revoked"  # logged out: must be denied


def bearer(token: str) -> str:
    """Return the Authorization header line for a token."""
    return f"Authorization: Bearer {token}"


def claims_of(line: str) -> dict[str, Any]:
    """Return the claims of the token in a header line."""
    body = line.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=="))
    return claims


@dataclass(frozen=True, slots=True)
class Pod:
    """A sidecar by its two ports, in this process or another. Credentials are header lines."""

    port: int
    admin_port: int

    async def ask(self, request: bytes) -> Response:
        """Send one request on a new connection."""
        async with connect(self.port) as client:
            return await client.ask(request)

    async def status(self, line: str) -> int:
        """Return the status of a request to a protected path with this credential."""
        return (await self.ask(build("GET", "/x", line))).status

    async def login(self, name: str = "alice", *, cookie: bool = False) -> str:
        """Log in and return the credential. AssertionError if refused."""
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
        """End the login of this credential. AssertionError if refused."""
        answer = await self.ask(build("POST", "/auth/logout", line, ORIGIN, body=b""))
        assert answer.status == 204, f"logout: {answer!r}"

    async def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by its full name with labels."""
        async with connect(self.admin_port) as client:
            text = (await client.ask(build("GET", "/metrics"))).body.decode()
        pairs = (line.rpartition(" ") for line in text.splitlines() if line[:1] not in {"", "#"})
        return {name: float(value) for name, _, value in pairs}

    async def degraded(self) -> bool:
        """Return whether this sidecar is working without Redis."""
        async with connect(self.admin_port) as client:
            return bool((await client.ask(build("GET", "/readyz"))).json()["degraded"])

    async def asked_redis(self) -> float:
        """Return how many session lookups have gone to Redis, with any result."""
        metrics = await self.metrics()
        return sum(
            value
            for name, value in metrics.items()
            if name.startswith("sidecar_session_lookups_total{") and 'source="redis"' in name
        )


@dataclass(slots=True)
class Traffic:
    """The clients, their credentials, and the results.

    `known` maps a credential to the time at which its login began. `spare` are known sessions to be
    logged out next. A request is judged only if its credential kept its role until the answer;
    while a credential is being logged out, it has no role.
    """

    pod: Pod
    cookies: bool = False  # whether users log in by browser
    known: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    spare: deque[str] = field(default_factory=deque)
    statuses: Counter[tuple[Role, int]] = field(default_factory=Counter)
    wrong: Counter[Role] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    logouts: int = 0
    logins: int = 0
    _took: list[tuple[float, float]] = field(default_factory=list)  # when answered, seconds taken
    _late: list[tuple[float, float]] = field(default_factory=list)  # when set, seconds too late

    @property
    def requests(self) -> int:
        """The number of answered requests."""
        return len(self._took)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Run the traffic within this context."""
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
        """Return the 99th percentile in s of requests sent since a `time.monotonic` time."""
        took = sorted(took for at, took in self._took if at - took >= since)
        return took[-(-len(took) * 99 // 100) - 1]

    def late(self, since: float) -> float:
        """Return the 99th percentile in s by which the loop was late for timers since a time."""
        late = sorted(late for at, late in self._late if at >= since)
        return late[-(-len(late) * 99 // 100) - 1]

    async def window(self) -> float:
        """Return the p99 of one window that begins now, without what a busy machine adds.

        A request passes the loop on its way to the upstream and on its way back. A request that
        waits for Redis does not make the loop late for others.
        """
        began = time.monotonic()
        due = began + WINDOW
        await until(lambda: time.monotonic() > due and self._answered(began) >= ENOUGH)
        return max(0.0, self.p99(began) - 2 * self.late(began))

    async def best(self, normal: float, attempts: int = 3) -> float:
        """Return the p99 of the first window close to normal, else the lowest of them all."""
        found = []
        for _ in range(attempts):
            found.append(await self.window())
            if found[-1] <= normal + MARGIN:
                break
        return min(found)

    def right(self) -> None:
        """Raise AssertionError if any credential was wrongly allowed or denied."""
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
        if line not in self._lines(role):  # its role changed while it was asked
            return
        self.statuses[role, status] += 1
        right = {200} if role is Role.KNOWN else REFUSALS
        if status not in right:
            self.wrong[role] += 1
            self.details.append(f"{role} {line[:14]} got {status} at {now:.3f}")

    async def _client(self, role: Role, number: int, stop: asyncio.Event) -> None:
        """Send one request after another on one keep-alive connection."""
        async with connect(self.pod.port) as client:
            client.keep = False
            for turn in count(number):
                if stop.is_set():
                    return
                lines = list(self._lines(role))
                await self._one(client, role, lines[turn % len(lines)])
                paused = time.monotonic()
                await asyncio.sleep(PAUSE)
                self._late.append((paused, time.monotonic() - paused - PAUSE))

    async def _one(self, client: RawClient, role: Role, line: str) -> None:
        began = time.monotonic()
        answer = await client.ask(build("GET", "/x", line))
        self._judge(role, line, answer.status, began)

    async def _churn(self, stop: asyncio.Event) -> None:
        """Repeatedly log one user in and the next in the queue out."""
        while not stop.is_set():
            began = time.monotonic()
            line = await self.pod.login(cookie=self.cookies)
            self.logins += 1
            self.known[line] = began
            assert await self.pod.status(line) == 200, "a new login was denied"
            self.spare.append(line)
            await self.end(self.spare.popleft())
            await asyncio.sleep(CHURN)

    async def end(self, line: str) -> None:
        """Log out a known credential."""
        self.known.pop(line, None)
        await self.pod.logout(line)
        self.revoked.append(line)
        self.logouts += 1
