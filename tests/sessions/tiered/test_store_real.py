"""Two pods on a real Redis that is killed, frozen, disconnected and restarted."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.credential_renewal import RedisCredentials
from sidecar.sessions.redis.credentials import CredentialFile
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.signed import MAC, NAMES
from tests.sessions.conftest import PATIENT
from tests.sessions.contract import Subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.redis_server import RedisServer

TIMEOUT = 0.15  # seconds; close to production, for tests about deadlines


@asynccontextmanager
async def pod(port: int, *, timeout: float = PATIENT, **config: Any) -> AsyncIterator[Subject]:
    """A pod's store, with more frequent probes than in production."""
    clock = Clock(time.time())
    metrics = Metrics()
    client = connect(RedisConfig(host="127.0.0.1", port=port, timeout=timeout, **config))
    remote = RedisStore(client, metrics, MAC, timeout=timeout)
    store = TieredStore(remote, Breaker(interval=0.05, longest=0.2), metrics)
    await store.start()
    try:
        yield Subject(store, clock, clock.turn)
    finally:
        await store.close()


def degraded(subject: Subject) -> bool:
    """Whether this pod's store is degraded."""
    assert isinstance(subject.store, TieredStore)
    return subject.store.degraded


async def test_two_pods_share_their_sessions(server: RedisServer) -> None:
    """A login at one pod is live at the other, until a logout at either."""
    async with pod(server.port) as one, pod(server.port) as other:
        grant = await one.login()
        assert await other.found(grant.session.id) == grant.session
        assert await other.store.revoke_session(grant.session.sid)
        assert await one.found(grant.session.id) is None
        assert await one.refresh(grant) is None


async def test_a_refresh_token_is_claimed_at_one_pod(server: RedisServer) -> None:
    """Twenty attempts at two pods make one successor."""
    async with pod(server.port) as one, pod(server.port) as other:
        grant = await one.login()
        found = await asyncio.gather(*(each.refresh(grant) for each in (one, other) * 10))
        (successor,) = [each for each in found if each is not None]
        assert await one.found(successor.session.id) == successor.session
        assert await other.found(successor.session.id) == successor.session


async def test_sessions_outlive_a_restart_of_the_pod(server: RedisServer) -> None:
    """Sessions are in Redis, not in the process."""
    async with pod(server.port) as before:
        grant = await before.login()
    async with pod(server.port) as after:
        assert await after.found(grant.session.id) == grant.session


async def test_redis_dies_and_comes_back_under_load(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """No look-up fails or waits, known sessions are live, and logins of the outage stay live."""
    caplog.set_level(logging.INFO, "sidecar.sessions")
    async with pod(own_server.port) as here:
        known = [await here.login() for _ in range(5)]
        for grant in known:
            await here.found(grant.session.id)
        slowest, asked, ended = 0.0, 0, asyncio.Event()

        async def ask() -> None:
            nonlocal slowest, asked
            while not ended.is_set():
                grant = known[asked % len(known)]
                began = time.monotonic()
                assert await here.found(grant.session.id) == grant.session
                slowest = max(slowest, time.monotonic() - began)
                asked += 1
                await asyncio.sleep(0.001)

        askers = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0.05)
        own_server.kill()
        await until(lambda: degraded(here))
        during = await here.login()
        await asyncio.get_running_loop().run_in_executor(None, own_server.start)
        await until(lambda: not degraded(here))
        assert await here.found(during.session.id) == during.session
        later = await here.login()
        await asyncio.sleep(0.05)
        ended.set()
        await asyncio.gather(*askers)
        assert own_server.admin.exists(NAMES.token(later.session.id))
        assert not own_server.admin.exists(NAMES.token(during.session.id))
    assert asked > 100
    # A killed server refuses at once, so no look-up waits for its deadline.
    assert slowest < PATIENT / 2
    assert caplog.messages == [
        "Redis not available, using in-memory session cache",
        "Redis available again, using the shared session cache",
    ]


async def test_redis_comes_back_empty(own_server: RedisServer) -> None:
    """A session that Redis lost is not live."""
    async with pod(own_server.port) as here:
        grant = await here.login()
        own_server.admin.flushall()
        assert await here.found(grant.session.id) is None


async def test_a_frozen_redis(own_server: RedisServer) -> None:
    """Only a few look-ups wait for the deadline, and a late write does no harm."""
    async with (
        pod(own_server.port, timeout=TIMEOUT) as here,
        pod(own_server.port, timeout=TIMEOUT) as other,
    ):
        grant = await here.login()
        own_server.freeze()
        during = await here.login()
        while not degraded(here):
            assert await here.found("unknown") is None
        began = time.monotonic()
        for number in range(1000):
            assert await here.found(f"unknown{number}") is None
            assert await here.found(grant.session.id) == grant.session
        assert time.monotonic() - began < 20 * TIMEOUT  # of 2,000 look-ups, hardly any waits for it
        assert await here.store.revoke_session(grant.session.sid)
        own_server.thaw()
        await until(lambda: not degraded(here) and not degraded(other))
        assert await here.found(grant.session.id) is None
        # This login was sent to Redis and so is there now: a logout elsewhere ends it here.
        assert await other.found(during.session.id) == during.session
        await other.store.revoke_session(during.session.sid)
        assert await here.found(during.session.id) is None


async def test_a_redis_that_refuses_writes(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads continue. A login is kept in memory and written once Redis accepts writes."""
    caplog.set_level(logging.INFO, "sidecar.sessions")
    async with pod(own_server.port) as here, pod(own_server.port) as other:
        known = await other.login()
        own_server.admin.config_set("min-replicas-to-write", "1")
        kept = [await here.login() for _ in range(2)]
        assert not degraded(here)
        assert await here.found(known.session.id) == known.session
        for grant in kept:
            assert await here.found(grant.session.id) == grant.session
        assert await here.store.revoke_session(known.session.sid)
        assert await here.found(known.session.id) is None
        own_server.admin.config_set("min-replicas-to-write", "0")

        async def shared() -> bool:
            return all([await other.found(grant.session.id) for grant in kept])

        await until(shared)
        await here.login()
    assert caplog.messages == [
        "Redis refuses writes, keeping new sessions in memory",
        "Redis accepts writes again",
    ]


async def test_an_unstable_network(server: RedisServer) -> None:
    """Repeated resets, refusals and recoveries cause no error."""
    async with FaultProxy(server.port) as proxy, pod(proxy.port) as here:
        grant = await here.login()
        for _ in range(5):
            await proxy.refuse()
            assert await here.found(grant.session.id) == grant.session
            await until(lambda: degraded(here))
            await proxy.listen()
            await until(lambda: not degraded(here))
            assert await here.found(grant.session.id) == grant.session
            proxy.reset()
            assert await here.found(grant.session.id) == grant.session


@pytest.mark.parametrize(
    ("config", "fault", "user"),
    [
        pytest.param({}, "auth", "default", id="no-password"),
        pytest.param({"password": Secret("wr0ng-one")}, "auth", "default", id="wrong-password"),
        pytest.param(
            {"username": "app", "password": Secret("wr0ng-one")}, "auth", "app", id="wrong-user"
        ),
        pytest.param(
            {"url": Secret("redis://app:wr0ng-one@127.0.0.1:{port}/0")}, "auth", "app", id="url"
        ),
        pytest.param(
            {"url": Secret("redis://wr0ng-one@127.0.0.1:{port}/0")},
            "auth",
            "(as in REDIS_URL)",
            id="password-as-user",
        ),
        pytest.param(
            {
                "credentials": RedisCredentials(
                    CredentialFile(lambda: Secret("wr0ng-one"), "file"), "app", Metrics()
                )
            },
            *("auth", "app"),
            id="file",
        ),
        pytest.param(
            {"username": "few", "password": Secret("right")}, "permission", "few", id="no-rights"
        ),
    ],
)
async def test_refused_credentials_are_a_warning(
    own_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    config: dict[str, Any],
    fault: str,
    user: str,
) -> None:
    """One warning names the server, the user and what to check, and never the password."""
    caplog.set_level(logging.DEBUG)
    own_server.admin.acl_setuser("few", enabled=True, passwords=["+right"], commands=["+auth"])
    own_server.admin.config_set("requirepass", "other")
    if "url" in config:
        url = config["url"].reveal().format(port=own_server.port)
        config = {**config, "url": Secret(url)}
    async with pod(own_server.port, **config) as here:
        for _ in range(3):
            assert degraded(here)
            await asyncio.sleep(0)
        described = here.store.describe()["redis"]
    address = f"127.0.0.1:{own_server.port}"
    (line,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    found = vars(line)
    assert line.getMessage() == "Redis not available, using in-memory session cache"
    assert (found["fault"], found["server"], found["user"]) == (fault, address, user)
    assert found["check"]
    assert described == {
        "server": address,
        "user": user,
        "fault": fault,
        "check": found["check"],
    }
    written = f"{[vars(each) for each in caplog.records]} {described}"
    assert "wr0ng-one" not in written


async def test_a_password_that_becomes_wrong(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """If an outage ends in a refusal, the log says so once, and says when it is over."""
    caplog.set_level(logging.INFO, "sidecar.sessions")
    async with FaultProxy(own_server.port) as proxy, pod(proxy.port) as here:
        assert not degraded(here)
        assert "fault" not in here.store.describe()["redis"]
        await proxy.refuse()
        await here.found("anything")
        await until(lambda: degraded(here))
        own_server.admin.config_set("requirepass", "other")
        await proxy.listen()
        await until(lambda: here.store.describe()["redis"].get("fault") == "auth")
        await until(lambda: len(caplog.records) > 1)
        own_server.admin.config_set("requirepass", "")
        await until(lambda: not degraded(here))
        assert "fault" not in here.store.describe()["redis"]
    said = [(each.levelname, each.getMessage()) for each in caplog.records]
    assert said == [
        ("INFO", "Redis not available, using in-memory session cache"),
        ("WARNING", "Redis refuses the sidecar's user or password"),
        ("INFO", "Redis available again, using the shared session cache"),
    ]


async def test_writes_that_the_acl_forbids(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who may read and not write is named in the warning about refused writes."""
    caplog.set_level(logging.INFO, "sidecar.sessions")
    own_server.admin.acl_setuser(
        "reader",
        enabled=True,
        passwords=["+right"],
        keys=["session:*"],
        categories=["+@read", "+@connection"],
    )
    async with pod(own_server.port, username="reader", password=Secret("right")) as here:
        await here.login()
        found = vars(caplog.records[0])
        assert found["message"] == "Redis refuses writes, keeping new sessions in memory"
        assert (found["levelname"], found["fault"]) == ("WARNING", "permission")
        assert (found["user"], found["server"]) == ("reader", f"127.0.0.1:{own_server.port}")
        assert "ACL LOG" in found["check"]
