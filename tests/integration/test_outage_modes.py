"""The answer to a request during a Redis outage, in each mode: two sidecars and a real Redis."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.peers.patience import until
from tests.peers.raw_client import build, fetch
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOON: Final = 10.0
MODES: Final = ("local", "stale", "strict", "signature")
# By mode, three sessions: one seen here, one not seen here, and one ended here during the outage.
TABLE: Final = {
    "local": (200, 401, 401),
    "stale": (200, 503, 503),
    "strict": (503, 503, 503),
    "signature": (200, 200, 401),
}


class Outage:
    """A Redis, an application, and the sidecars in front of it."""

    def __init__(self, redis: RedisServer, upstream: ScriptedUpstream) -> None:
        self.redis = redis
        self.upstream = upstream
        self.pods: list[Stack] = []

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the settings of a sidecar on this Redis."""
        return {
            "session_store": "redis",
            "redis_host": "127.0.0.1",
            "redis_port": self.redis.port,
            "redis_timeout": 1.0,
            **more,
        }

    async def begin(self) -> None:
        """Kill Redis and wait until each sidecar has noticed."""
        self.redis.kill()
        for pod in self.pods:
            await pod.get("/", token="x.y.z")
            token = (await pod.login("alice")).access
            await pod.get("/", token=token)
        await until(lambda: all(pod.sidecar.degraded for pod in self.pods), SOON)

    async def end(self) -> None:
        """Start Redis again and wait until each sidecar has noticed."""
        self.redis.start()
        await until(lambda: not any(pod.sidecar.degraded for pod in self.pods), SOON)


@pytest.fixture
async def outage() -> AsyncIterator[Outage]:
    """A Redis whose data survive a restart, and an application."""
    with RedisServer(keep=True) as redis:
        async with ScriptedUpstream() as upstream:
            yield Outage(redis, upstream)


@pytest.mark.parametrize("mode", MODES)
async def test_the_table(outage: Outage, mode: str) -> None:
    """Each mode answers as in the table, and normal answers return with Redis."""
    async with (
        stack(outage.upstream.url, **outage.settings(session_outage=mode)) as pod,
        stack(outage.upstream.url, **outage.settings()) as other,
    ):
        outage.pods = [pod]
        seen, unseen, ended = [(await other.login("alice")).access for _ in range(3)]
        assert (await pod.get("/", token=seen)).status == 200
        await outage.begin()
        assert (await pod.ask(build("POST", "/auth/logout", token=ended, body=b""))).status == 204
        statuses = [(await pod.get("/", token=one)).status for one in (seen, unseen, ended)]
        assert tuple(statuses) == TABLE[mode]
        await outage.end()
        statuses = [(await pod.get("/", token=one)).status for one in (seen, unseen, ended)]
        assert statuses == [200, 200, 401]


async def test_what_is_let_in_says_so(outage: Outage) -> None:
    """During an outage the application sees X-Auth-Degraded, and a client cannot forge it."""
    async with stack(outage.upstream.url, **outage.settings()) as pod:
        outage.pods = [pod]
        token = (await pod.login("alice")).access
        forged = "X-Auth-Degraded: never"
        assert (await pod.ask(build("GET", "/", forged, token=token))).status == 200
        assert b"degraded" not in outage.upstream.requests[-1].head.lower()
        await outage.begin()
        assert (await pod.ask(build("GET", "/", forged, token=token))).status == 200
        head = outage.upstream.requests[-1].head
        assert head.lower().count(b"x-auth-degraded") == 1
        assert b"X-Auth-Degraded: local\r\n" in head
        await outage.end()
        assert (await pod.get("/", token=token)).status == 200
        assert b"degraded" not in outage.upstream.requests[-1].head.lower()


async def test_a_stricter_route(outage: Outage) -> None:
    """A route with a stricter mode uses it; other routes keep the global mode."""
    routes = ({"path": "/admin/*", "session_outage": "strict"},)
    async with stack(outage.upstream.url, **outage.settings(), routes=routes) as pod:
        outage.pods = [pod]
        token = (await pod.login("alice")).access
        await outage.begin()
        assert (await pod.get("/", token=token)).status == 200
        answer = await pod.get("/admin/x", token=token)
        assert answer.status == 503
        assert int(answer.fields.all("retry-after")[0]) > 0


async def test_each_change_is_told_once(outage: Outage) -> None:
    """Each transition counts once in the metric and appears on the status page."""
    async with AsyncExitStack() as running:
        pod = await running.enter_async_context(stack(outage.upstream.url, **outage.settings()))
        outage.pods = [pod]
        await outage.begin()
        await outage.end()
        status = (await fetch(pod.sidecar.admin_port, build("GET", "/status"))).json()
        assert [one["to"] for one in status["store_transitions"]] == ["degraded", "shared"]
        assert (status["store"]["kind"], status["store"]["breaker"]) == ("tiered", "closed")
        for state in ("degraded", "shared"):
            name = f'sidecar_degraded_transitions_total{{to="{state}"}}'
            assert await pod.metric(name) == 1


async def test_a_logout_outlives_the_pod(outage: Outage, tmp_path: Path) -> None:
    """A logout during an outage holds even if its pod is gone before Redis is back."""
    mine = outage.settings(state_dir=str(tmp_path / "state"))
    async with stack(outage.upstream.url, **mine) as pod:
        outage.pods = [pod]
        token = (await pod.login("alice")).access
        await outage.begin()
        assert (await pod.ask(build("POST", "/auth/logout", token=token, body=b""))).status == 204
        assert await pod.metric("sidecar_journal_pending") > 0
    outage.redis.start()
    async with (
        stack(outage.upstream.url, **mine) as again,
        stack(outage.upstream.url, **outage.settings()) as other,
    ):
        assert (await again.get("/", token=token)).status == 401
        assert (await other.get("/", token=token)).status == 401
        assert await again.metric("sidecar_journal_pending") == 0
