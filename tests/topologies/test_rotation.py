"""A password that changes while the sidecar is connected: real servers, of every topology."""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio.cluster import RedisCluster

from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.credential_renewal import REFUSED, RENEWED
from sidecar.sessions.redis.reauthentication import hold, reauthenticate
from sidecar.sessions.redis.tracking_connection import TrackingConnection
from sidecar.tasks import Tasks
from tests.peers.expiring_redis import ExpiringRedis
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer
from tests.topologies.cluster import cluster
from tests.topologies.pod import PATIENT, SOON, Pod
from tests.topologies.rotating import (
    FIRST,
    PASSWORDS,
    SECOND,
    WRONG,
    Rotation,
    busy,
    load,
    works,
)
from tests.topologies.sentinels import ready, running_sentinels
from tests.topologies.test_connections import tls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.topologies.cluster import Node

    OpenClient = Callable[[RedisConfig], Redis]


@pytest.fixture(autouse=True)
def _nothing_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No password is in any log line of any level, ours or the library's."""
    caplog.set_level(logging.DEBUG)
    yield
    text = caplog.text + repr([vars(record) for record in caplog.records])
    assert not any(password in text for password in PASSWORDS)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own."""
    with RedisServer() as running:
        yield running


@pytest.fixture
async def open_client() -> AsyncIterator[OpenClient]:
    """Make clients that are closed after the test, also if it fails."""
    opened: list[Redis] = []

    def make(config: RedisConfig) -> Redis:
        opened.append(connect(config))
        return opened[-1]

    yield make
    for client in opened:
        await client.aclose()


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about credentials."""
    return [text for text in caplog.messages if "credential" in text]


async def test_under_load(
    server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No operation fails, and every connection survives, with the near cache as it was."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    where = {"host": "127.0.0.1", "port": server.port}
    async with Pod(credentials=rotation.credentials, **where) as pod:
        await pod.coherent()
        await busy(pod)
        before, flushes = rotation.ids(), pod.store.near.flushes
        passwords = [FIRST, *(f"password-{number}" for number in range(5))]
        async with load(pod) as done:
            for old, new in itertools.pairwise(passwords):
                reached = list(done)
                await rotation.rotate(old, new)
                await until(lambda: all(a > b for a, b in zip(done, reached, strict=True)))  # noqa: B023
        assert before <= rotation.ids()
        assert pod.store.near.coherent
        assert pod.store.near.flushes == flushes
        assert list(pod.store.transitions) == []
    assert own_messages(caplog) == [RENEWED] * 5
    assert rotation.metrics.redis_credentials == {"renewed": 5, "failed": 0, "refused": 0}
    assert rotation.logins()[1] == 0
    assert not any(password in caplog.text for password in passwords)


async def test_a_server_that_closes_expired_connections(
    server: RedisServer, tmp_path: Path
) -> None:
    """No operation fails: connections have authenticated again before their credential ends."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    async with ExpiringRedis(server.port) as proxy:
        where = {"host": "127.0.0.1", "port": proxy.port}
        async with Pod(credentials=rotation.credentials, **where) as pod:
            await pod.coherent()
            await busy(pod)
            pooled = pod.client.connection_pool.get_connection_count()[0][0]
            own = {each["id"] for each in server.admin.client_list() if each["cmd"] != "ping"}
            async with load(pod):
                await rotation.rotate(FIRST, SECOND)
                proxy.expire(FIRST)
                await rotation.rotate(SECOND, FIRST)
                proxy.expire(SECOND)
            assert proxy.closed == 0
            assert pod.store.near.coherent
            assert pod.store.near.flushes == 0
            assert pooled >= 6
            assert len({each["id"] for each in server.admin.client_list()} & own) >= pooled
            assert list(pod.store.transitions) == []
            await pod.works()


async def test_idle_connections(
    server: RedisServer, tmp_path: Path, open_client: OpenClient
) -> None:
    """They authenticate without being used: one AUTH for each, and no new connection."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    client = open_client(
        RedisConfig(
            host="127.0.0.1", port=server.port, timeout=PATIENT, credentials=rotation.credentials
        )
    )
    await asyncio.gather(*(client.ping() for _ in range(7)))
    before = rotation.ids()
    assert len(before) == 7
    rotation.forget_calls()
    rotation.give(WRONG)
    await rotation.tick()
    assert rotation.logins() == (0, 1), "one finds out for all"
    rotation.forget_calls()
    await rotation.rotate(FIRST, SECOND)
    assert rotation.logins() == (7, 0)
    assert rotation.ids() == before
    await rotation.tick()
    assert rotation.logins() == (7, 0), "nothing more to do"


async def test_a_busy_connection(
    server: RedisServer, tmp_path: Path, open_client: OpenClient
) -> None:
    """A connection in use is not disturbed, and authenticates with its next command."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    client = open_client(
        RedisConfig(
            host="127.0.0.1", port=server.port, timeout=PATIENT, credentials=rotation.credentials
        )
    )
    work = client.execute_command("BLPOP", "list", "20")  # type: ignore[no-untyped-call]  # redis-py's gap
    waiting = asyncio.ensure_future(work)
    await until(lambda: any(each["cmd"] == "blpop" for each in server.admin.client_list()))
    before = rotation.ids()
    rotation.allow(SECOND)
    rotation.give(SECOND)
    await rotation.tick()
    assert rotation.described["stale_connections"] == 1
    server.admin.rpush("list", "value")
    assert list(await waiting) == [b"list", b"value"]
    await rotation.tick()
    assert rotation.described["stale_connections"] == 0
    assert rotation.ids() == before


async def test_a_wrong_credential(
    server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Open connections keep the previous one. When it is corrected, all use the new one."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    where = {"host": "127.0.0.1", "port": server.port}
    async with Pod(credentials=rotation.credentials, **where) as pod:
        await pod.coherent()
        await busy(pod)
        before = rotation.ids()
        rotation.forget_calls()
        rotation.give(WRONG)
        for _ in range(5):
            await rotation.tick()
            await busy(pod, 20)
        assert rotation.described["state"] == "refused"
        assert rotation.logins()[1] <= len(before), "each connection tries it once at most"
        assert rotation.metrics.redis_credentials["refused"] == 1
        assert before <= rotation.ids(), "new ones got in with the previous one"
        await rotation.rotate(FIRST, SECOND)
        assert rotation.described["state"] == "accepted"
        assert before <= rotation.ids()
        assert list(pod.store.transitions) == []
        await pod.works()
    assert own_messages(caplog) == [REFUSED, RENEWED]


async def test_a_credential_that_redis_learns_later(
    server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again every ten seconds."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    where = {"host": "127.0.0.1", "port": server.port}
    async with Pod(credentials=rotation.credentials, **where) as pod:
        await busy(pod)
        before = rotation.ids()
        rotation.give(SECOND)
        await rotation.tick()
        rotation.allow(SECOND)
        await rotation.tick()
        assert rotation.described["state"] == "refused"
        await rotation.tick(10.0)
        assert rotation.described["state"] == "accepted"
        await until(rotation.reached)
        assert before <= rotation.ids()
    assert own_messages(caplog) == [REFUSED, RENEWED]


async def test_a_file_that_vanishes(server: RedisServer, tmp_path: Path) -> None:
    """The previous password stays in use, also for new connections."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    where = {"host": "127.0.0.1", "port": server.port}
    async with Pod(credentials=rotation.credentials, **where) as pod:
        await pod.coherent()
        before = rotation.ids()
        rotation.file.unlink()
        await rotation.tick()
        assert rotation.described["problem"] == "cannot be read: No such file or directory"
        await works(pod)
        assert before <= rotation.ids()
        server.admin.client_kill_filter(_type="normal", skipme=True)
        await works(pod)
        rotation.give(FIRST)
        await rotation.tick(60.0)
        assert rotation.described["problem"] == ""


async def test_new_connections(server: RedisServer, tmp_path: Path) -> None:
    """A new connection reads the file, so it need not wait for the next look at it."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    where = {"host": "127.0.0.1", "port": server.port}
    async with Pod(credentials=rotation.credentials, **where) as pod:
        await works(pod)
        rotation.allow(SECOND)
        rotation.give(SECOND)
        rotation.forbid(FIRST)
        server.admin.client_kill_filter(_type="normal", skipme=True)
        await works(pod)


async def test_an_interrupted_authentication(
    server: RedisServer, tmp_path: Path, open_client: OpenClient
) -> None:
    """A command that is cancelled while AUTH is unanswered leaves no answer for the next one."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    async with FaultProxy(server.port) as proxy:
        config = RedisConfig(
            host="127.0.0.1", port=proxy.port, timeout=PATIENT, credentials=rotation.credentials
        )
        client = open_client(config)
        await client.set("key", "value")
        rotation.allow(SECOND)
        rotation.give(SECOND)
        rotation.clock.advance(1.0)
        await rotation.credentials.renew()
        proxy.delay = 0.2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.get("key")
        proxy.delay = 0.0
        assert await client.get("key") == b"value"
        assert proxy.accepted == 2, "the connection was closed"


async def test_a_silent_server(
    server: RedisServer, tmp_path: Path, open_client: OpenClient
) -> None:
    """A Redis that does not answer AUTH holds up neither the renewals nor the next command."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    config = RedisConfig(
        host="127.0.0.1", port=server.port, timeout=PATIENT, credentials=rotation.credentials
    )
    client = open_client(config)
    await asyncio.gather(*(client.ping() for _ in range(3)))
    rotation.allow(SECOND)
    rotation.give(SECOND)
    server.freeze()
    await rotation.tick()
    server.thaw()
    await rotation.tick()
    assert rotation.described["stale_connections"] == 0
    await client.set("key", "value")
    assert await client.get("key") == b"value"
    assert rotation.logins()[1] == 0


async def test_a_transaction(server: RedisServer, tmp_path: Path, open_client: OpenClient) -> None:
    """AUTH comes before MULTI, not into it."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    config = RedisConfig(host="127.0.0.1", port=server.port, credentials=rotation.credentials)
    client = open_client(config)
    await client.ping()
    rotation.allow(SECOND)
    rotation.give(SECOND)
    rotation.clock.advance(1.0)
    await rotation.credentials.renew()
    async with client.pipeline(transaction=True) as pipe:
        pipe.set("key", "value")
        pipe.get("key")
        assert await pipe.execute() == [True, b"value"]
    assert rotation.described["stale_connections"] == 0


async def test_a_tracking_connection(
    server: RedisServer, tmp_path: Path, open_client: OpenClient
) -> None:
    """If Redis refuses AUTH there, it keeps its previous credential, and what it tracks."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    config = RedisConfig(host="127.0.0.1", port=server.port, credentials=rotation.credentials)
    client = open_client(config)
    raw = tracked(config)()
    changed: list[object] = []
    tasks = Tasks()
    connection = TrackingConnection(
        raw.connection_pool.make_connection(),  # type: ignore[no-untyped-call]  # redis-py's gap
        tasks,
        changed.append,
        lambda: changed.append("lost"),
    )
    await connection.open()
    server.admin.set("key", "one")
    before = await connection.ask(("CLIENT", "ID"), ("GET", "key"))
    rotation.forget_calls()
    rotation.allow(SECOND)
    rotation.give(SECOND)
    rotation.clock.advance(1.0)
    await rotation.credentials.renew()
    await connection.check()
    assert rotation.logins() == (0, 0), "Redis may refuse the password"
    await client.ping()  # on a new connection, which authenticates
    assert rotation.described["state"] == "accepted"
    rotation.forbid(SECOND)
    await asyncio.gather(connection.check(), *(connection.ask(("PING",)) for _ in range(5)))
    assert rotation.logins() == (1, 1)
    assert rotation.described["state"] == "refused"
    assert await connection.ask(("CLIENT", "ID"), ("GET", "key")) == before
    server.admin.set("key", "two")
    await until(lambda: changed == [[b"key"]])
    rotation.allow(SECOND)
    await rotation.tick(10.0)
    await asyncio.gather(connection.check(), *(connection.ask(("PING",)) for _ in range(5)))
    assert rotation.described["stale_connections"] == 0
    assert await connection.ask(("CLIENT", "ID"), ("GET", "key")) == [before[0], b"two"]
    server.admin.set("key", "three")
    await until(lambda: changed == [[b"key"]] * 2)
    await connection.close()
    await tasks.close()
    await raw.aclose()


async def test_a_held_connection(
    server: RedisServer, tmp_path: Path, open_client: OpenClient
) -> None:
    """No AUTH comes between commands that are under way; its holder authenticates it."""
    rotation = Rotation(tmp_path, server)
    await rotation.credentials.renew()
    config = RedisConfig(host="127.0.0.1", port=server.port, credentials=rotation.credentials)
    client = open_client(config)
    pool = client.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's gap
    hold(connection)
    before = rotation.ids()

    async def ask(*words: str) -> Any:
        await connection.send_command(*words)
        return await connection.read_response()

    rotation.forget_calls()
    rotation.allow(SECOND)
    rotation.give(SECOND)
    await connection.send_command("ECHO", "one")
    await rotation.tick()
    await connection.send_command("ECHO", "two")
    assert [await connection.read_response() for _ in range(2)] == [b"one", b"two"]
    await reauthenticate(connection, ask)
    assert rotation.described["stale_connections"] == 1, "Redis may refuse the password"
    await client.ping()
    await reauthenticate(connection, ask)
    assert rotation.described["stale_connections"] == 0
    assert before <= rotation.ids()
    assert rotation.logins() == (2, 0), "of this one, and of the new connection"
    await pool.release(connection)


async def test_unix_socket(tmp_path: Path) -> None:
    """Connections by a Unix socket survive as well."""
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)) as server:
        await survives(Rotation(tmp_path, server), url=Secret(f"unix://{path}"))


@pytest.mark.needs("redis-server")
async def test_tls(tmp_path: Path) -> None:
    """Connections with TLS survive as well, here with the user in the URL."""
    port, options = tls(tmp_path, "no")
    with RedisServer(*options) as server:
        url = Secret(f"rediss://alice@localhost:{port}")
        await survives(Rotation(tmp_path, server), url=url, ca_file=str(tmp_path / "localhost.pem"))


async def survives(rotation: Rotation, **where: Any) -> None:
    """Every connection survives a rotation, and a wrong credential before it."""
    await rotation.credentials.renew()
    async with Pod(credentials=rotation.credentials, **where) as pod:
        await busy(pod)
        if isinstance(pod.client, RedisCluster):
            await use_all(pod.client)
        before = rotation.ids()
        assert before
        rotation.give(WRONG)
        await rotation.tick()
        await busy(pod)
        assert rotation.described["state"] == "refused"
        assert before <= rotation.ids()
        rotation.forget_calls()
        async with load(pod):
            await rotation.rotate(FIRST, SECOND)
        assert rotation.described["state"] == "accepted"
        assert before <= rotation.ids()
        assert list(pod.store.transitions) == []


async def use_all(client: RedisCluster) -> None:
    """Use every connection: once it knows a cluster, the library renews those that it had."""
    manager = client.nodes_manager
    for node in (*manager.nodes_cache.values(), *manager.startup_nodes.values()):
        await asyncio.gather(*(node.execute_command("PING") for _ in range(node.max_connections)))


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Three primaries, each with a third of the slots."""
    with cluster() as made:
        yield made


async def test_cluster(nodes: list[Node], tmp_path: Path) -> None:
    """The connections to every node survive, those of nodes found later as well."""
    rotation = Rotation(tmp_path, *nodes)
    await survives(rotation, url=Secret(f"redis+cluster://127.0.0.1:{nodes[0].port}"))


async def test_idle_connections_to_a_cluster(
    nodes: list[Node], tmp_path: Path, open_client: OpenClient
) -> None:
    """Each authenticates once, that of the node asked at first as well."""
    rotation = Rotation(tmp_path, *nodes)
    await rotation.credentials.renew()
    url = Secret(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    client = open_client(RedisConfig(url=url, timeout=PATIENT, credentials=rotation.credentials))
    assert isinstance(client, RedisCluster)
    await client.ping()
    await use_all(client)
    before = rotation.ids()
    assert {port for port, _ in before} == {node.port for node in nodes}
    rotation.forget_calls()
    await rotation.rotate(FIRST, SECOND)
    assert rotation.logins() == (len(before), 0)
    assert rotation.ids() == before


async def test_the_near_cache(server: RedisServer, tmp_path: Path) -> None:
    """On a single server, it is not disturbed."""
    rotation = Rotation(tmp_path, server)
    await keeps_the_near_cache(rotation, host="127.0.0.1", port=server.port)


async def test_the_near_cache_with_sentinel(server: RedisServer, tmp_path: Path) -> None:
    """On the master that sentinels name, it is not disturbed."""
    rotation = Rotation(tmp_path, server)
    with running_sentinels(server, tmp_path) as ports:
        for port in ports:
            await until(partial(ready, port), SOON)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        await keeps_the_near_cache(rotation, url=Secret(f"redis+sentinel://{hosts}/mymaster"))


async def test_the_near_cache_with_a_cluster(nodes: list[Node], tmp_path: Path) -> None:
    """On each primary of a cluster, it is not disturbed."""
    rotation = Rotation(tmp_path, *nodes)
    url = Secret(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    await keeps_the_near_cache(rotation, url=url)


async def keeps_the_near_cache(rotation: Rotation, **where: Any) -> None:
    """Under load, rotations interrupt no tracking, and what is known stays known.

    A logout at another pod right after a rotation is reported. At last, what is known still costs
    no command.
    """
    await rotation.credentials.renew()
    where["credentials"] = rotation.credentials
    async with Pod(**where) as pod, Pod(**where) as other:
        await pod.coherent()
        await other.coherent()
        grants = [await other.login() for _ in range(40)]
        await pod.warm(*grants)
        tracking = await pod.tracking_ids()
        assert len(tracking) == len(rotation.servers)
        flushes = pod.store.near.flushes
        passwords = [FIRST, *(f"password-{number}" for number in range(4)), SECOND]
        async with load(pod, 4):
            for old, new in itertools.pairwise(passwords):
                await rotation.rotate(old, new)
                ended = grants.pop()
                assert await other.store.revoke_session(ended.session.sid)
                await pod.heard()
                assert pod.store.peek(ended.session.id) is None
                known = [pod.store.peek(grant.session.id) for grant in grants]
                assert known == [grant.session for grant in grants]
                assert await pod.tracking_ids() == tracking
        assert pod.store.near.coherent
        assert pod.store.near.flushes == flushes
        assert list(pod.store.transitions) == []
        assert rotation.ids(resp="3") == rotation.ids(resp="3", redir="0"), "only tracking ones"
        rotation.forget_calls()
        for _ in range(20):
            await pod.warm(*grants)
        assert rotation.commands() <= {"ping", "cluster|slots", "info", "config|resetstat"}
