"""Faults of a real Redis: each is classified, meets its deadline, and mixes up no answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.store import RedisStore
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.signed import MAC, NAMES
from tests.sessions.conftest import PATIENT
from tests.sessions.contract import new_login

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sidecar.auth.session import Grant
    from sidecar.telemetry.metrics import Metrics
    from tests.peers.clock import Clock

TIMEOUT = 0.15  # seconds
SLACK = 1.0  # seconds that a busy machine may add; the client alone would take 3.6 or more


@asynccontextmanager
async def open_store(
    port: int, metrics: Metrics, clock: Clock, *, timeout: float = TIMEOUT, **config: Any
) -> AsyncIterator[RedisStore]:
    """A store on the Redis at this port."""
    client = connect(RedisConfig(host="127.0.0.1", port=port, timeout=timeout, **config))
    store = RedisStore(client, metrics, MAC, clock=clock, timeout=timeout)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def fails(fault: Fault, within: float = TIMEOUT) -> Iterator[None]:
    """The block must raise this fault within this time."""
    began = time.monotonic()
    with pytest.raises(RedisUnavailable) as caught:
        yield
    assert caught.value.fault is fault
    assert time.monotonic() - began < within + SLACK


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A proxy in front of the shared server."""
    async with FaultProxy(server.port) as made:
        yield made


@pytest.fixture
async def store(proxy: FaultProxy, metrics: Metrics, clock: Clock) -> AsyncIterator[RedisStore]:
    """A store behind the proxy, with one open connection."""
    async with open_store(proxy.port, metrics, clock) as made:
        await made.ping()
        yield made


@pytest.fixture
def grant(server: RedisServer, clock: Clock) -> Grant:
    """A login that is not written yet."""
    return new_login(clock.now)


async def test_a_closed_port(metrics: Metrics, clock: Clock) -> None:
    """A refused connection is reported at once."""
    async with open_store(free_port(), metrics, clock) as store:
        with fails(Fault.REFUSED, within=0.0):
            await store.get("t")
    assert metrics.lookups["redis", "refused"] == 1


async def test_an_unknown_host(metrics: Metrics, clock: Clock) -> None:
    """A name that does not resolve counts as unreachable."""
    client = connect(RedisConfig(host="redis.invalid", timeout=PATIENT))
    store = RedisStore(client, metrics, MAC, clock=clock, timeout=PATIENT)
    with fails(Fault.UNREACHABLE, within=PATIENT):
        await store.get("t")
    await store.close()


async def test_a_wrong_password(metrics: Metrics, clock: Clock) -> None:
    """A wrong or missing password is reported as such, not as a network fault."""
    with RedisServer(password="right") as server:
        for secret in ("wrong", ""):
            async with open_store(server.port, metrics, clock, password=Secret(secret)) as store:
                with fails(Fault.AUTH):
                    await store.get("t")
        async with open_store(server.port, metrics, clock, password=Secret("right")) as store:
            assert await store.get("t") is None


async def test_commands_that_the_server_refuses(
    metrics: Metrics, clock: Clock, own_server: RedisServer
) -> None:
    """Full memory, missing replicas, a replica, a lost master and ACLs are told apart."""
    admin, grant = own_server.admin, new_login(clock.now)
    async with open_store(own_server.port, metrics, clock) as store:
        await store.write(grant)
        admin.config_set("maxmemory", "1")
        with fails(Fault.OOM):
            await store.write(new_login(clock.now))
        admin.config_set("maxmemory", "0")
        admin.config_set("min-replicas-to-write", "1")
        with fails(Fault.UNSAVED):
            await store.write(new_login(clock.now))
        admin.config_set("min-replicas-to-write", "0")
        admin.replicaof("127.0.0.1", str(free_port()))
        with fails(Fault.READONLY):
            await store.write(new_login(clock.now))
        assert await store.get(grant.session.id) == grant.session
        admin.config_set("replica-serve-stale-data", "no")
        with fails(Fault.MASTER_DOWN):
            await store.get(grant.session.id)
        admin.config_set("replica-serve-stale-data", "yes")
        admin.replicaof("NO", "ONE")
        own_server.command("ACL", "SETUSER", "default", "-set")
        with fails(Fault.PERMISSION):
            await store.write(new_login(clock.now))
        own_server.command("ACL", "SETUSER", "default", "+set")
        assert await store.write(grant)


async def test_a_server_that_is_loading(metrics: Metrics, clock: Clock) -> None:
    """A server that is still loading its data set is a fault of its own."""
    slowly = ("--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")
    with RedisServer(*slowly) as server:
        with server.admin.pipeline() as fill:
            for number in range(200):
                fill.set(f"k{number}", b"x" * 1000)
            fill.execute()
        server.admin.save()
        server.kill()
        server.start(wait=False)
        async with open_store(server.port, metrics, clock, timeout=PATIENT) as store:

            async def loading() -> bool:
                try:
                    await store.ping()
                except RedisUnavailable as unavailable:
                    return unavailable.fault is Fault.LOADING
                return False

            await until(loading)
        server.wait()


async def test_a_master_that_moved(
    metrics: Metrics, clock: Clock, server: RedisServer, own_server: RedisServer
) -> None:
    """A write that meets a former master is retried on a new connection, to the new master."""
    async with (
        FaultProxy(own_server.port) as proxy,
        open_store(proxy.port, metrics, clock) as store,
    ):
        await store.ping()
        own_server.admin.replicaof("127.0.0.1", str(server.port))
        proxy.target = server.port
        grant = new_login(clock.now)
        assert await store.write(grant)
        assert server.admin.exists(NAMES.token(grant.session.id))


async def test_a_frozen_server(metrics: Metrics, clock: Clock, own_server: RedisServer) -> None:
    """Every operation ends at its deadline. When the server resumes, so does the store."""
    grant = new_login(clock.now)
    async with open_store(own_server.port, metrics, clock) as store:
        await store.write(grant)
        own_server.freeze()
        with fails(Fault.TIMEOUT):
            await asyncio.gather(*(store.get(f"{number}") for number in range(100)))
        with fails(Fault.TIMEOUT):
            await store.write(new_login(clock.now))
        own_server.thaw()
        assert await store.get(grant.session.id) == grant.session


async def test_a_restarted_server(metrics: Metrics, clock: Clock, own_server: RedisServer) -> None:
    """Connections broken by a restart are replaced without an error."""
    grants = [new_login(clock.now) for _ in range(5)]
    async with open_store(own_server.port, metrics, clock, timeout=PATIENT) as store:
        await asyncio.gather(*(store.write(grant) for grant in grants))
        own_server.restart()
        found = await asyncio.gather(*(store.get(grant.session.id) for grant in grants))
        assert found == [grant.session for grant in grants]
        own_server.restart()
        assert await store.write(new_login(clock.now))
    assert {result for (_, result), number in metrics.lookups.items() if number} == {"hit"}


async def test_a_reset_connection_is_retried(
    store: RedisStore, proxy: FaultProxy, server: RedisServer, grant: Grant
) -> None:
    """One dead pooled connection causes no error."""
    await store.write(grant)
    proxy.reset()
    assert await store.get(grant.session.id) == grant.session
    proxy.reset()
    assert await store.revoke_session(grant.session.sid)


async def test_a_reset_in_the_middle_of_an_answer(
    store: RedisStore, proxy: FaultProxy, server: RedisServer, grant: Grant
) -> None:
    """A partial answer is discarded. After one retry it is a fault."""
    await store.write(grant)
    proxy.cut_after = 40
    with fails(Fault.BROKEN):
        await store.get(grant.session.id)
    assert proxy.accepted == 2
    proxy.cut_after = None
    assert await store.get(grant.session.id) == grant.session


async def test_a_claim_whose_answer_was_lost_is_still_won(
    store: RedisStore, proxy: FaultProxy, server: RedisServer, grant: Grant, clock: Clock
) -> None:
    """The claim is sent twice and takes effect once, so it does not look like theft."""
    await store.write(grant)
    assert grant.refresh is not None
    proxy.cut_after = 10_000
    await store.get("x" * 9_000)
    proxy.stall()
    claim = asyncio.ensure_future(store.claim_refresh(grant.refresh_id or "", grant.refresh))
    await until(lambda: "exec" in server.calls())
    proxy.reset()
    proxy.flow()
    assert await claim == grant.refresh
    assert server.calls()["exec"] == 2


async def test_a_slow_network(
    proxy: FaultProxy, metrics: Metrics, clock: Clock, server: RedisServer
) -> None:
    """A delay of 200 ms within the deadline only costs time."""
    grant = new_login(clock.now)
    async with open_store(proxy.port, metrics, clock, timeout=PATIENT) as store:
        await store.write(grant)
        proxy.delay = 0.2
        began = time.monotonic()
        found = await asyncio.gather(*(store.get(grant.session.id) for _ in range(50)))
        assert found == [grant.session] * 50
        assert time.monotonic() - began < 0.2 + SLACK


async def test_an_answer_byte_by_byte_meets_the_deadline(
    store: RedisStore, proxy: FaultProxy, server: RedisServer, grant: Grant
) -> None:
    """The deadline covers the whole operation, not each read."""
    await store.write(grant)
    proxy.drip = 0.01
    with fails(Fault.TIMEOUT):
        await store.get(grant.session.id)


async def test_a_network_that_loses_everything(store: RedisStore, proxy: FaultProxy) -> None:
    """No answer arrives, on old connections and on new ones."""
    proxy.lose = True
    with fails(Fault.TIMEOUT):
        await store.get("t")
    with fails(Fault.TIMEOUT):
        await store.write(new_login())


async def test_a_late_answer_is_discarded(
    store: RedisStore, proxy: FaultProxy, server: RedisServer, clock: Clock
) -> None:
    """An answer that arrives after the deadline does not answer the next look-up."""
    grants = [new_login(clock.now, f"user{number}") for number in range(8)]
    for grant in grants:
        await store.write(grant)
    for late, asked in zip(grants, [*grants[1:], grants[0]], strict=True):
        proxy.stall()
        with fails(Fault.TIMEOUT):
            await store.get(late.session.id)
        proxy.flow()
        assert await store.get(asked.session.id) == asked.session


async def test_cancelled_callers_disturb_no_others(
    proxy: FaultProxy, metrics: Metrics, clock: Clock, server: RedisServer
) -> None:
    """Callers are cancelled at every step of a look-up. The others get their own sessions.

    This fault showed users the data of others in March 2023 (CVE-2023-28858 and 28859).
    """
    grants = [new_login(clock.now, f"user{number}") for number in range(30)]
    async with open_store(proxy.port, metrics, clock, timeout=PATIENT) as store:
        for grant in grants:
            await store.write(grant)
        proxy.delay = 0.002
        for turn in range(25):
            tasks = [asyncio.ensure_future(store.get(grant.session.id)) for grant in grants]
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in tasks[turn % 3 :: 3]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for task, grant, session in zip(tasks, grants, found, strict=True):
                assert task.cancelled() or session == grant.session


async def test_a_server_that_is_not_redis(metrics: Metrics, clock: Clock) -> None:
    """A web server on Redis' port is a fault of its own, and leaves no open connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    web = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with open_store(web.sockets[0].getsockname()[1], metrics, clock) as store:
        with fails(Fault.PROTOCOL):
            await store.get("t")
    web.close()


async def test_a_busy_pool_is_waited_for(
    proxy: FaultProxy, metrics: Metrics, clock: Clock, server: RedisServer
) -> None:
    """Thirty writes share one connection. They wait for it, and none fails."""
    async with open_store(proxy.port, metrics, clock, timeout=PATIENT, max_connections=1) as store:
        grants = [new_login(clock.now) for _ in range(30)]
        assert all(await asyncio.gather(*(store.write(grant) for grant in grants)))
    assert proxy.accepted == 1


async def test_a_pool_without_a_free_connection(
    metrics: Metrics, clock: Clock, server: RedisServer
) -> None:
    """Pings that occupy every connection delay look-ups, and make none fail."""
    client = connect(RedisConfig(port=server.port, max_connections=1))
    store = RedisStore(client, metrics, MAC, clock=clock, timeout=PATIENT)
    pool = client.connection_pool
    taken = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's gap
    waiting = asyncio.ensure_future(store.get("t"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    await pool.release(taken)
    assert await waiting is None
    assert await store.get("t") is None
    await store.close()


async def test_faults_show_no_key_and_no_password(
    metrics: Metrics, clock: Clock, own_server: RedisServer
) -> None:
    """The library's errors contain commands. RedisUnavailable contains one word."""
    grant = new_login(clock.now)
    own_server.command("ACL", "SETUSER", "default", "-set")
    async with open_store(own_server.port, metrics, clock, password=Secret("")) as store:
        with pytest.raises(RedisUnavailable) as caught:
            await store.write(grant)
    assert str(caught.value) == "redis: permission"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
