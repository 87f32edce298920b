"""What a fault happens to: a Redis behind a proxy, the sidecar under test, another, and users.

The other sidecar reaches Redis directly. It stands for all other pods: it logs users in whom the
first does not know, logs users out whom the first does, and must hear of the first one's logouts.
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
from tests.peers.stack import Stack, configure, mint, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT: Final = Path(__file__).parents[2]
AGE: Final = 700.0  # seconds that sessions are old where clocks are stepped
PASSWORD: Final = "the-redis-password"


class Clock:
    """The wall clock of a sidecar in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def __repr__(self) -> str:
        return f"<Clock of {self._process.pid}>"

    async def step(self, seconds: float) -> None:
        """Have it be off by so much from now on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        assert await self._process.stdout.readline() == b"stepped\n"


def key_of(line: str) -> str:
    """Where the session of a credential is kept, by the header line that shows it."""
    value = line.partition("__Host-session=")[2] or line.rpartition(" ")[2]
    return f"session:token:{token_id(value.encode())}"


@dataclass(slots=True)
class Scene:
    """All that a fault can be done to, and the sessions beside those of the traffic."""

    redis: RedisServer
    proxy: FaultProxy
    pod: Pod
    other: Pod
    traffic: Traffic
    clock: Clock | None = None
    strangers: list[str] = field(default_factory=list)  # in Redis, and not known to the pod
    elsewhere: list[str] = field(default_factory=list)  # known to the pod, to be ended at the other
    scouts: list[str] = field(default_factory=list)  # one user's, to be ended all at once
    damaged: dict[str, bytes] = field(default_factory=dict)  # what stood at their keys

    async def settle(self) -> None:
        """Have users log in at both, use that, and some of them log out again."""
        traffic, pod, other = self.traffic, self.pod, self.other
        cookies = self.clock is not None  # of no date, so that no clock is too slow for them
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
        """Log in; once more where that did not get into Redis, for a busy machine is no fault."""
        for _ in range(20):
            line = await at.login(name, cookie=cookie)
            if self.redis.admin.exists(key_of(line)):
                return line
        raise AssertionError("no login gets into Redis")

    async def is_in(self, line: str) -> bool:
        """Whether the pod lets this credential in."""
        return await self.pod.status(line) == 200

    async def end_all(self) -> None:
        """The user of several logins ends them all, at the pod."""
        for line in self.scouts:
            self.traffic.known.pop(line)
        request = build("POST", "/auth/logout?all=true", self.scouts[0], ORIGIN, body=b"")
        answer = await self.pod.ask(request)
        assert answer.status == 204, f"logout of all: {answer!r}"
        self.traffic.revoked.extend(self.scouts)
        self.traffic.logouts += len(self.scouts)

    async def answering(self) -> None:
        """Wait until Redis answers whoever asks it directly."""
        await asyncio.to_thread(self.redis.wait)


@asynccontextmanager
async def in_process(upstream_url: str, settings: dict[str, Any]) -> AsyncIterator[Pod]:
    """A sidecar in the test's own loop."""
    async with stack(upstream_url, **settings) as running:
        yield pod_of(running)


def pod_of(running: Stack) -> Pod:
    """A stack by its ports."""
    return Pod(running.port, running.sidecar.admin_port)


@asynccontextmanager
async def stepped(upstream_url: str, settings: dict[str, Any]) -> AsyncIterator[tuple[Pod, Clock]]:
    """A sidecar in a process of its own, and its wall clock."""
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
    """Everything running, users logged in. `keep`: Redis' data outlive it. `clock`: to be stepped.

    All settings but addresses are the defaults, and tokens live long enough for steps of clocks.
    """
    async with AsyncExitStack() as running:
        redis = running.enter_context(RedisServer(password=PASSWORD, keep=keep))
        proxy = await running.enter_async_context(FaultProxy(redis.port))
        upstream = await running.enter_async_context(ScriptedUpstream(keep=False))
        settings = {
            "session_store": "redis",
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
