"""The admin port under load: no client keeps the probes out, or the process' files to itself."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest
from msgspec import structs

from sidecar.app import admin_port
from tests.peers.patience import until
from tests.peers.raw_client import RawClient, TruncatedError, build, connect
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.proxy.listener import Listener

NOWHERE: Final = "http://127.0.0.1:9"
LIVE: Final = build("GET", "/livez")
PART: Final = b"GET /livez HTTP/1.1\r\nHost: h\r\n"  # of a head
FILES: Final = Path("/proc/self/fd")


def listener_of(sidecar: Stack) -> Listener:
    """The admin port's listener."""
    listener = sidecar.sidecar._admin._listener  # noqa: SLF001 (no public way to turn its clock)
    assert listener is not None
    return listener


def sweep(sidecar: Stack, seconds: float) -> None:
    """Have the port check its time limits as if so many seconds had passed."""
    listener_of(sidecar).sweep(monotonic())
    listener_of(sidecar).sweep(monotonic() + seconds)


@contextlib.asynccontextmanager
async def crowd(sidecar: Stack, number: int, part: bytes) -> AsyncIterator[list[RawClient]]:
    """Open connections to the admin port, each of which sends this."""
    async with contextlib.AsyncExitStack() as opened:
        clients = []
        for _ in range(number):
            client = await opened.enter_async_context(connect(sidecar.sidecar.admin_port))
            await client.send(part)
            clients.append(client)
        yield clients


async def probe(sidecar: Stack) -> int:
    """The status of /readyz on a new connection."""
    async with connect(sidecar.sidecar.admin_port) as client:
        return (await client.ask(build("GET", "/readyz"))).status


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="silent"),
        pytest.param(PART, id="parts-of-a-head"),
        pytest.param(PART + b"Content-Length: 9\r\n\r\n", id="requests-without-their-body"),
        pytest.param(LIVE, id="idle"),
    ],
)
async def test_a_flood_keeps_no_probe_out(part: bytes) -> None:
    """Beyond the bound, the connection that has waited longest is closed for the newest."""
    async with stack(NOWHERE) as sidecar:
        before = len(list(FILES.iterdir()))
        async with crowd(sidecar, 3 * admin_port.CONNECTIONS, part) as clients:
            assert await probe(sidecar) == 200
            await until(lambda: repr(admin_port.CONNECTIONS) in repr(listener_of(sidecar)))
            # The clients' ends are files of this process too.
            ends = len(list(FILES.iterdir())) - before - len(clients)
            assert ends <= admin_port.CONNECTIONS + 8
            with contextlib.suppress(TruncatedError):
                await clients[0].response()
            await clients[0].rest()
            assert await probe(sidecar) == 200


async def test_a_head_that_does_not_end() -> None:
    """Part of a head gets 408 after HEADER_TIMEOUT, and a client that says nothing is closed."""
    async with (
        stack(NOWHERE, header_timeout="3s") as sidecar,
        crowd(sidecar, 1, PART) as (slow,),
        crowd(sidecar, 1, b"") as (silent,),
    ):
        await until(lambda: "connections=2" in repr(listener_of(sidecar)))
        sweep(sidecar, 2.0)
        await slow.silence()
        sweep(sidecar, 4.0)
        assert (await slow.response()).status == 408
        assert await silent.rest() == b""


async def test_an_idle_connection() -> None:
    """A connection that has asked is closed after IDLE_TIMEOUT, and serves requests before."""
    async with (
        stack(NOWHERE, idle_timeout="20s") as sidecar,
        crowd(sidecar, 1, LIVE) as (client,),
    ):
        assert (await client.response()).status == 200
        sweep(sidecar, 19.0)
        assert (await client.ask(LIVE)).status == 200
        sweep(sidecar, 21.0)
        assert await client.rest() == b""


async def test_a_client_that_reads_nothing() -> None:
    """A client that asks for metrics and does not read them is cut, at a bounded size."""
    async with stack(NOWHERE) as sidecar:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", sidecar.sidecar.admin_port))
        sock.setblocking(False)
        with sock:
            port = listener_of(sidecar)
            request = build("GET", "/metrics")

            def is_full() -> bool:
                with contextlib.suppress(BlockingIOError):
                    sock.send(request)
                return any(each.full for each in port._connections.open)  # type: ignore[attr-defined] # noqa: SLF001

            await until(is_full, limit=30)
            assert await probe(sidecar) == 200
            sweep(sidecar, 60.0)
            await until(lambda: "connections=0" in repr(port))


async def test_its_limits_follow_a_reload() -> None:
    """New time limits apply to the admin port as well."""
    async with stack(NOWHERE, header_timeout="60s") as sidecar:
        await sidecar.sidecar.reload(structs.replace(sidecar.settings, header_timeout=3.0))
        async with crowd(sidecar, 1, PART) as (slow,):
            await until(lambda: "connections=1" in repr(listener_of(sidecar)))
            sweep(sidecar, 4.0)
            assert (await slow.response()).status == 408


async def test_traffic_is_not_what_it_counts() -> None:
    """Requests to the admin port appear in no metric of the traffic, nor in its limits."""
    async with (
        stack(NOWHERE, max_requests=1, max_connections=1) as sidecar,
        crowd(sidecar, 3, LIVE) as clients,
    ):
        for client in clients:
            assert (await client.response()).status == 200
        assert await sidecar.metric('sidecar_connections{side="downstream"}') == 0
        assert await sidecar.metric('sidecar_requests_total{code="200",route="admin"}') == 0
        assert await sidecar.metric("sidecar_requests_in_flight") == 0


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/status"])
async def test_nobody_needs_credentials_there(path: str) -> None:
    """Every page answers without credentials, and ignores those that are sent."""
    async with stack(NOWHERE) as sidecar, connect(sidecar.sidecar.admin_port) as client:
        assert (await client.ask(build("GET", path))).status == 200
        assert (await client.ask(build("GET", path, token="invalid"))).status == 200
        assert (await client.ask(build("GET", "/unknown"))).status == 404
        assert (await client.ask(build("POST", path, body=b""))).status == 405
