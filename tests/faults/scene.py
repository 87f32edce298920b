"""The setting of a fault: a Redis behind a proxy, the sidecar under test, another, and users.

The other sidecar reaches Redis directly and represents all other pods. It logs in users that the
first does not know, logs out users that the first does, and must learn of the first's logouts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.session import token_id
from tests.faults.driver import ORIGIN, Pod, Traffic, bearer, claims_of
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.signed import NAMES
from tests.peers.stack import Stack, configure, mint, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT: Final = Path(__file__).parents[2]
AGE: Final = 700.0  # age of the sessions, in seconds, where clocks are stepped
PASSWORD: Final = "the-redis-password"


class Clock:
    """The wall clock of a sidecar that runs in its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def __repr__(self) -> str:
        return f"<Clock of {self._process.pid}>"

    async def step(self, seconds: float) -> None:
        """Set the clock's offset from the true time, in seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        assert await self._process.stdout.readline() == b"stepped\n"


def key_of(line: str) -> str:
    """Return the Redis key of the session of this header line's credential."""
    value = line.partition("__Host-session=")[2] or line.rpartition(" ")[2]
    return NAMES.token(token_id(value.encode())).decode()


@dataclass(slots=True)
class Scene:
    """Everything that a fault can affect, and the sessions other than those of the traffic."""

    redis: RedisServer
    proxy: FaultProxy
    pod: Pod
    other: Pod
    traffic: Traffic
    clock: Clock | None = None
    strangers: list[str] = field(default_factory=list)  # in Redis, but unknown to the pod
    elsewhere: list[str] = field(default_factory=list)  # known to the pod, to be ended at the other
    scouts: list[str] = field(default_factory=list)  # all of one user, to be ended together
    damaged: dict[str, bytes] = field(default_factory=dict)  # previous values of the keys

    async def settle(self) -> None:
        """Log users in at both sidecars, use the logins, and log some of them out."""
        traffic, pod, other = self.traffic, self.pod, self.other
        cookies = self.clock is not None  # they carry no date, so a slow clock does not matter
        if self.clock is not None:
            await self.clock.step(-AGE)
        here = [await self._login(pod) for _ in range(10)]
        here += [await self._login(pod, cookie=True) for _ in range(2)]
        self.scouts = [await self._login(pod, "scout")]
        if self.clock is not None:
            await self.clock.step(0.0)
        there = [await self._login(other, cookie=cookies) for _ in range(12)]
        self.scouts += [await self._login(other, "scout", cookie=cookies) for _ in range(2)]
        self.strangers = [await self._login(other, cookie=cookies) for _ in range(2)]
        for line in (*here, *there, *self.scouts):
            await until(partial(self.is_in, line))
        traffic.known = dict.fromkeys([*here[:4], *here[-2:], *there[:4], *self.scouts], 0.0)
        self.elsewhere = there[4:6]
        for gone, at in ((here[4], pod), (here[5], pod), (there[6], pod), (there[7], other)):
            await at.logout(gone)
            traffic.revoked.append(gone)
        for each in (*here[6:10], *there[8:]):
            traffic.known[each] = 0.0
            traffic.spare.append(each)
        sid = claims_of(here[0])["sid"]
        traffic.unknown = [
            *map(bearer, (mint(secret="x" * 40), mint(), mint(sid=sid), mint(algorithm="none"))),
            "Cookie: __Host-session=" + "A" * 43,
        ]

    async def _login(self, at: Pod, name: str = "alice", *, cookie: bool = False) -> str:
        """Log in; retry if that did not reach Redis, as a busy machine is no fault."""
        for _ in range(20):
            line = await at.login(name, cookie=cookie)
            if self.redis.admin.exists(key_of(line)):
                return line
        raise AssertionError("no login reaches Redis")

    async def is_in(self, line: str) -> bool:
        """Return whether the pod allows this credential."""
        return await self.pod.status(line) == 200

    async def end_all(self) -> None:
        """End all logins of the user that has several, at the pod."""
        for line in self.scouts:
            self.traffic.known.pop(line)
        request = build("POST", "/auth/logout?all=true", self.scouts[0], ORIGIN, body=b"")
        answer = await self.pod.ask(request)
        assert answer.status == 204, f"logout of all: {answer!r}"
        self.traffic.revoked.extend(self.scouts)
        self.traffic.logouts += len(self.scouts)

    async def answering(self) -> None:
        """Wait until Redis answers a direct request."""
        await asyncio.to_thread(self.redis.wait)


@asynccontextmanager
async def in_process(upstream_url: str, settings: dict[str, Any]) -> AsyncIterator[Pod]:
    """Run a sidecar in the test's event loop."""
    async with stack(upstream_url, **settings) as running:
        yield pod_of(running)


def pod_of(running: Stack) -> Pod:
    """Return the stack's ports as a pod."""
    return Pod(running.port, running.sidecar.admin_port)


@asynccontextmanager
async def stepped(upstream_url: str, settings: dict[str, Any]) -> AsyncIterator[tuple[Pod, Clock]]:
    """Run a sidecar in its own process and control its wall clock."""
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder), upstream_url, **settings)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.stepped", f"{folder}/sidecar.toml"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        try:
            ports = json.loads(await process.stdout.readline())
            yield Pod(**ports), Clock(process)
        finally:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def scene(*, keep: bool = True, clock: bool = False) -> AsyncIterator[Scene]:
    """Start everything and log users in; `keep`: Redis keeps its data; `clock`: can be stepped.

    All settings except addresses are the defaults, but tokens live long enough for clock steps.
    """
    async with AsyncExitStack() as running:
        redis = running.enter_context(RedisServer(password=PASSWORD, keep=keep))
        proxy = await running.enter_async_context(FaultProxy(redis.port))
        upstream = await running.enter_async_context(ScriptedUpstream(keep=False))
        settings = {
            "session_store": "redis",
            "max_sessions": 0,  # the traffic logs in all the time, as one user
            "redis_host": "127.0.0.1",
            "redis_password": PASSWORD,
            "access_token_expiry": "1h",
            "access_log": "off",
        }
        through, direct = ({**settings, "redis_port": port} for port in (proxy.port, redis.port))
        turned = None
        if clock:
            pod, turned = await running.enter_async_context(stepped(upstream.url, through))
        else:
            pod = await running.enter_async_context(in_process(upstream.url, through))
        other = await running.enter_async_context(in_process(upstream.url, direct))
        traffic = Traffic(pod, cookies=clock)
        made = Scene(redis, proxy, pod, other, traffic, turned)
        await made.settle()
        yield made
