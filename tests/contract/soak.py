"""What takes longer than any default time limit of a proxy: `make soak`, not part of `make test`.

Each proxy runs with its sample configuration. All cases run at the same time, so the whole takes as
long as one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.contract.fronts import FRONTS
from tests.contract.test_fronts import SWITCHED, UPGRADE
from tests.peers.process import process
from tests.peers.raw_client import build, connect
from tests.peers.scripted_upstream import OK, ScriptedUpstream
from tests.peers.stack import stack

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import Received, Script

LONG: Final = 70.0  # seconds; nginx and Traefik have limits of 60 s by default, Envoy one of 15 s
PATIENCE: Final = LONG + 15.0
PAUSE: Final = 2.0  # seconds between two pieces of an upload
GIVES_UP: Final = {"traefik": (29.0, 35.0)}  # seconds without an answer of the sidecar
PARTS: Final = int(LONG / PAUSE)

pytestmark = [
    pytest.mark.needs(*(front.program for front in FRONTS)),
    pytest.mark.timeout(2 * LONG),
]


async def pause(*_: Any) -> None:
    """Let the application be silent for a long time."""
    await asyncio.sleep(LONG)


async def echo(connection: Any, _: Received) -> None:
    """Accept a WebSocket, and answer only after a long time."""
    await connection.send(SWITCHED)
    received = await connection.exactly(4)
    await asyncio.sleep(LONG)
    await connection.send(b"<" + received + b">")


def script(request: Received) -> Script:
    """Return what the application does."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    scripts: dict[bytes, Script] = {
        b"/events": (head + b"9\r\ndata: 1\n\n\r\n", pause, b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"),
        b"/slow": (pause, OK),
        b"/ws": (echo,),
    }
    return scripts.get(request.target, (OK,))


async def read_events(port: int, token: str) -> None:
    """Read two events, one at once and one after a long silence."""
    async with connect(port) as client:
        client.patience = PATIENCE
        await client.send(build("GET", "/events", token=token))
        assert (await client.head()).status == 200
        await client.until(b"data: 1\n\n")
        await client.until(b"data: 2\n\n")


async def wait_for_slow(port: int, token: str) -> None:
    """Get an answer that takes long to begin."""
    async with connect(port) as client:
        client.patience = PATIENCE
        assert (await client.ask(build("GET", "/slow", token=token))).status == 200


async def use_websocket(port: int, token: str) -> None:
    """Use a WebSocket that is silent for a long time."""
    async with connect(port) as client:
        client.patience = PATIENCE
        assert (await client.ask(build("GET", "/ws", *UPGRADE, token=token))).status == 101
        await client.send(b"ping")
        assert await client.exactly(6) == b"<ping>"


async def upload(port: int, token: str) -> None:
    """Send a body that takes long to arrive."""
    async with connect(port) as client:
        client.patience = PATIENCE
        length = f"Content-Length: {PARTS * 1000}"
        await client.send(build("PUT", "/upload", length, token=token))
        for _ in range(PARTS):
            await asyncio.sleep(PAUSE)
            await client.send(b"x" * 1000)
        assert (await client.response("PUT")).status == 200


async def test_nothing_is_cut() -> None:
    """No proxy cuts a quiet stream, a slow answer, a quiet WebSocket or a slow upload."""
    kinds = (read_events, wait_for_slow, use_websocket, upload)
    async with (
        ScriptedUpstream(script) as application,
        stack(application.url, trusted_proxies=["127.0.0.1/32"]) as sidecar,
    ):
        token = (await sidecar.login()).access
        with contextlib.ExitStack() as running:
            tasks = {
                f"{front.name}: {kind.__name__}": kind(port, token)
                for front in FRONTS
                for port in [running.enter_context(front.start(sidecar.port, application.port))]
                for kind in kinds
            }
            ends = await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert {name: end for name, end in zip(tasks, ends, strict=True) if end is not None} == {}
        uploads = [each for each in application.requests if each.target == b"/upload"]
        assert [len(each.body) for each in uploads] == [PARTS * 1000] * len(FRONTS)


async def test_how_long_a_sidecar_may_stand_still() -> None:
    """Each proxy denies after its limit: 3 or 4 s, and 30 s with Traefik, which has no setting."""

    async def knock(port: int) -> tuple[int, float]:
        begin = time.monotonic()
        async with connect(port) as client:
            client.patience = PATIENCE
            status = (await client.ask(build("GET", "/open"))).status
        return status, time.monotonic() - begin

    routes = [{"path": "/open", "access": "public"}]
    async with (
        ScriptedUpstream() as application,
        process(application.url, routes=routes, trusted_proxies=["127.0.0.1/32"]) as sidecar,
    ):
        with contextlib.ExitStack() as running:
            ports = [
                running.enter_context(front.start(sidecar.port, application.port))
                for front in FRONTS
            ]
            sidecar.tell(signal.SIGSTOP)
            answers = await asyncio.gather(*map(knock, ports))
        for front, (status, seconds) in zip(FRONTS, answers, strict=True):
            least, most = GIVES_UP.get(front.name, (2.5, 8.0))
            assert (front.name, status) == (front.name, front.away)
            assert least <= seconds <= most, front.name
        assert not application.requests
