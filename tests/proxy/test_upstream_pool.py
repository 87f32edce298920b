"""The upstream pool opens, lends, keeps and drops connections, and always notifies its waiters."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.errors import UpstreamBusy, UpstreamRefused
from sidecar.proxy.connectors import InProcessConnector, TcpConnector, UnixConnector
from sidecar.proxy.upstream_pool import UpstreamPool, UpstreamPoolLimits
from sidecar.tasks import Tasks
from tests.peers.patience import until
from tests.proxy.asker import REQUEST, Asker
from tests.proxy.memory_plane import OK, MemoryConnector, make_metrics, make_pool, rest


async def served(pool: UpstreamPool, count: int) -> list[Asker]:
    """Return this many waiters, each with its connection."""
    askers = [Asker().ask(pool) for _ in range(count)]
    await rest()
    assert all(asker.connection is not None for asker in askers)
    return askers


async def test_a_connection_is_opened_used_and_used_again() -> None:
    """One connection serves consecutive requests."""
    connector, metrics = MemoryConnector(), make_metrics()
    pool = make_pool(connector, metrics=metrics)
    for _ in range(3):
        asker = Asker().ask(pool)
        await rest()
        assert connector.wires[0].take() == REQUEST
        connector.wires[0].feed(OK)
        assert (asker.status, asker.body, asker.complete) == (200, b"ok", True)
        asker.release(pool)
        assert repr(pool) == (
            "<UpstreamPool app <Pool idle=1 leased=0 opening=0 waiting=0 limit=256>>"
        )
    assert connector.asked == 1
    assert metrics.connections["upstream"] == 1


async def test_who_waits_is_served_in_order() -> None:
    """Each released connection goes to the first waiter in the queue."""
    connector = MemoryConnector()
    pool = make_pool(connector, UpstreamPoolLimits(connections=2))
    order: list[str] = []
    first = await served(pool, 2)
    waiting = [Asker(name, order).ask(pool) for name in "abcd"]
    pool.forget(waiting[1])
    pool.forget(first[0])  # not queued: no effect
    for holder in (*first, waiting[0]):
        holder.release(pool)
    assert order == ["a", "c", "d"]
    assert connector.asked == 2
    assert waiting[0].connection is None


async def test_the_line_is_bounded() -> None:
    """A request over the queue's limit is refused at once."""
    connector = MemoryConnector()
    pool = make_pool(connector, UpstreamPoolLimits(connections=1, waiting=2))
    await served(pool, 1)
    askers = [Asker().ask(pool) for _ in range(3)]
    assert [type(asker.refused) for asker in askers] == [type(None), type(None), UpstreamBusy]


async def test_a_lost_connection_makes_room() -> None:
    """The slot of a lost connection serves the next waiter."""
    connector = MemoryConnector()
    pool = make_pool(connector, UpstreamPoolLimits(connections=1))
    holder = (await served(pool, 1))[0]
    waiting = Asker().ask(pool)
    connector.wires[0].lose(ConnectionResetError())
    await rest()
    assert holder.lost is not None
    assert waiting.connection is not None
    assert connector.asked == 2
    assert pool.pool.leased == {waiting.connection}


async def test_an_idle_connection_that_is_lost_is_forgotten() -> None:
    """A lost idle connection is never lent, and its slot is free."""
    connector, metrics = MemoryConnector(), make_metrics()
    pool = make_pool(connector, UpstreamPoolLimits(connections=1), metrics=metrics)
    (await served(pool, 1))[0].release(pool)
    connector.wires[0].feed_eof()
    await rest()
    assert pool.pool.idle == []
    assert metrics.connections["upstream"] == 0
    assert (await served(pool, 1))[0].connection is not None
    assert connector.asked == 2


async def test_what_nobody_asked_for_is_not_kept() -> None:
    """Bytes on an idle connection end it, so they cannot become the next answer."""
    connector = MemoryConnector()
    pool = make_pool(connector)
    (await served(pool, 1))[0].release(pool)
    connector.wires[0].feed(OK)
    await rest()
    assert connector.wires[0].aborted
    assert pool.pool.idle == []


async def test_a_connection_that_cannot_serve_again_is_dropped() -> None:
    """A connection that cannot be reused is dropped, and the waiter gets a new one."""
    connector = MemoryConnector()
    pool = make_pool(connector, UpstreamPoolLimits(connections=1))
    holder = (await served(pool, 1))[0]
    waiting = Asker().ask(pool)
    connector.wires[0].feed(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    holder.release(pool)
    await rest()
    assert connector.wires[0].aborted
    assert connector.wires[1].take() == REQUEST
    assert waiting.connection is not None


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(ConnectionRefusedError(111, "refused"), id="refused"),
        pytest.param(FileNotFoundError(2, "no such file"), id="unix-socket-missing"),
        pytest.param(socket.gaierror(-2, "name unknown"), id="name-unknown"),
        pytest.param(TimeoutError(), id="timed-out"),
    ],
)
async def test_connecting_fails(fault: OSError) -> None:
    """The waiter is notified of a failed attempt, whose slot serves the next attempt."""
    connector, metrics = MemoryConnector(), make_metrics()
    pool = make_pool(connector, UpstreamPoolLimits(connections=1), metrics=metrics)
    connector.faults.append(fault)
    asker = Asker().ask(pool)
    await rest()
    assert isinstance(asker.refused, UpstreamRefused)
    assert str(asker.refused).startswith("app: ")
    await served(pool, 1)
    assert metrics.connections["upstream"] == 1


async def test_connecting_takes_too_long() -> None:
    """The time limit for connecting applies whatever the connector does."""
    connector = MemoryConnector()
    connector.open.clear()
    pool = make_pool(connector, UpstreamPoolLimits(connect_timeout=0.0))
    asker = Asker().ask(pool)
    await rest()
    assert isinstance(asker.refused, UpstreamRefused)
    assert pool.pool.opening == 0


async def test_a_new_connection_is_lost_at_once() -> None:
    """A waiter is notified if its new connection is lost before it was handed over."""
    connector, metrics = MemoryConnector(), make_metrics()
    connector.loses = True
    pool = make_pool(connector, metrics=metrics)
    asker = Asker().ask(pool)
    await asyncio.sleep(0)
    await rest()
    await rest()
    assert isinstance(asker.refused, UpstreamRefused)
    assert repr(pool.pool) == "<Pool idle=0 leased=0 opening=0 waiting=0 limit=256>"
    assert metrics.connections["upstream"] == 0


async def test_a_failure_is_everybodys_when_nobody_has_a_connection() -> None:
    """If attempts fail and no connection is left to be released, all waiters fail."""
    connector = MemoryConnector()
    connector.open.clear()
    connector.faults += [ConnectionRefusedError() for _ in range(5)]
    pool = make_pool(connector, UpstreamPoolLimits(connections=2))
    askers = [Asker().ask(pool) for _ in range(5)]
    assert len(pool.pool.waiting) == 3
    connector.open.set()
    await rest()
    assert all(isinstance(asker.refused, UpstreamRefused) for asker in askers)
    assert repr(pool.pool) == "<Pool idle=0 leased=0 opening=0 waiting=0 limit=2>"


async def test_a_cancelled_attempt_frees_its_slot() -> None:
    """A cancelled connection attempt frees its slot, for example at shutdown."""
    connector, tasks = MemoryConnector(), Tasks()
    connector.open.clear()
    pool = make_pool(connector, tasks=tasks)
    Asker().ask(pool)
    await rest()
    assert pool.pool.opening == 1
    await tasks.close()
    assert pool.pool.opening == 0


async def test_idle_connections_age_out() -> None:
    """The sweep drops connections that have been unused for the idle time, oldest first."""
    connector = MemoryConnector()
    pool = make_pool(connector, UpstreamPoolLimits(idle_timeout=60.0))
    for now, asker in zip((100.0, 110.0, 120.0), await served(pool, 3), strict=True):
        asker.release(pool, now)
    for now, left in ((159.9, 3), (160.0, 2), (175.0, 1), (500.0, 0)):
        pool.sweep(now)
        await rest()
        assert len(pool.pool.idle) == left
    assert [wire.aborted for wire in connector.wires] == [True] * 3


async def test_closing() -> None:
    """On close, idle connections end at once and leased ones when they are released."""
    connector = MemoryConnector()
    pool = make_pool(connector)
    idle, busy = await served(pool, 2)
    idle.release(pool)
    pool.close()
    await rest()
    assert [wire.aborted for wire in connector.wires] == [True, False]
    busy.release(pool)
    await rest()
    assert connector.wires[1].aborted
    assert pool.pool.leased == set()


class Echo(asyncio.Protocol):
    """A server that answers `OK` to any data."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer `OK`."""
        self.transport.write(OK)


async def answered(asker: Asker) -> bool:
    """Wait for the outcome and return whether the answer is complete."""
    await until(lambda: bool(asker.complete or asker.refused or asker.lost))
    return asker.complete


async def close(pool: UpstreamPool, asker: Asker) -> None:
    """Release the connection, close the pool and let the transport finish."""
    asker.release(pool)
    pool.close()
    await rest()


@pytest.mark.parametrize("kind", ["tcp", "unix", "in-process"])
async def test_connectors(kind: str, tmp_path: object) -> None:
    """Each kind of connector opens a working connection."""
    loop = asyncio.get_running_loop()
    connector: TcpConnector | UnixConnector | InProcessConnector
    server: asyncio.Server | None = None
    if kind == "tcp":
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        connector = TcpConnector("127.0.0.1", server.sockets[0].getsockname()[1])
    elif kind == "unix":
        connector = UnixConnector(f"{tmp_path}/s")
        server = await loop.create_unix_server(Echo, connector.path)
    else:
        connector = InProcessConnector(Echo)
    pool = make_pool(connector)
    asker = Asker().ask(pool)
    assert await answered(asker)
    await close(pool, asker)
    if server is not None:
        server.close()
        await server.wait_closed()


async def test_an_in_process_server_that_fails_leaves_no_socket() -> None:
    """If the in-process server cannot be created, the waiter fails and both sockets close."""

    def broken() -> asyncio.BaseProtocol:
        raise OSError("no more")

    pool = make_pool(InProcessConnector(broken))
    asker = Asker().ask(pool)
    assert not await answered(asker)
    assert isinstance(asker.refused, UpstreamRefused)
