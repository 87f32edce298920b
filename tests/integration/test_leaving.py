"""Shutdown of a process, from the signal to its end, and starting without its dependencies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from tests.peers.key_server import KeyServer
from tests.peers.patience import until
from tests.peers.process import process
from tests.peers.raw_client import TruncatedError, build, connect, fetch
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.scripted_upstream import OK, STALL, ScriptedUpstream
from tests.peers.stack import PUBLIC
from tests.proxy.stalling import at_rest

if TYPE_CHECKING:
    from tests.peers.process import Process

OPEN: Final[dict[str, Any]] = {"routes": PUBLIC}
HALF: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"


async def refused(running: Process) -> bool:
    """Return whether connections to the process's port are refused."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_the_delay() -> None:
    """During the drain delay, requests are still served while readiness fails.

    Every answer announces the end of its connection. Afterwards the port is closed and the process
    exits with 0.
    """
    async with ScriptedUpstream() as upstream, process(upstream.url, drain_delay=1, **OPEN) as one:
        async with connect(one.port) as kept:
            assert not (await kept.ask(build("GET", "/"))).closes
            assert await one.ready() == 200
            one.tell(signal.SIGTERM)
            await one.said("draining")
            assert await one.ready() == 503
            answer = await kept.ask(build("GET", "/"))
            assert (answer.status, answer.closes) == (200, True)
            assert await kept.ended() == "eof"
        answer = await one.get()
        assert (answer.status, answer.closes) == (200, True)
        assert await one.ended() == 0
        assert one.messages[-1] == "stopped"
        assert await refused(one)


async def test_ctrl_c_waits_for_no_balancer() -> None:
    """SIGINT skips the drain delay, because at a terminal there is no load balancer."""
    async with ScriptedUpstream() as upstream, process(upstream.url, drain_delay=60, **OPEN) as one:
        one.tell(signal.SIGINT)
        assert await one.ended() == 0


async def test_what_runs_ends() -> None:
    """Answers in progress and pipelined requests complete; metrics stay up until the end."""
    async with ScriptedUpstream() as upstream, process(upstream.url, **OPEN) as one:
        upstream.scripts = [[HALF, STALL, b"rest"], [OK]]
        async with connect(one.port) as busy:
            await busy.send(build("GET", "/") + build("GET", "/next"))
            await busy.until(b"half")
            one.tell(signal.SIGTERM)
            await until(lambda: refused(one))
            assert await one.ready() == 503
            upstream.release.set()
            await busy.until(b"rest")
            answer = await busy.response()
            assert (answer.status, answer.closes) == (200, True)
            assert await busy.ended() == "eof"
        assert await one.ended() == 0


async def test_what_does_not_end_is_cut() -> None:
    """After the drain timeout an answer is visibly cut off, and the exit code is still 0."""
    async with (
        ScriptedUpstream() as upstream,
        process(upstream.url, drain_timeout=0.3, **OPEN) as one,
    ):
        upstream.scripts = [[HALF, STALL]]
        async with connect(one.port) as busy:
            await busy.send(build("GET", "/"))
            await busy.until(b"half")
            one.tell(signal.SIGTERM)
            assert await busy.ended() == "reset"
        assert await one.ended() == 0


@pytest.mark.parametrize("delay", [0, 60], ids=["while-draining", "during-the-delay"])
async def test_a_second_signal(delay: int) -> None:
    """A second signal ends all waiting, and the exit code is 1."""
    async with (
        ScriptedUpstream() as upstream,
        process(upstream.url, drain_delay=delay, **OPEN) as one,
    ):
        upstream.scripts = [[STALL]]
        async with connect(one.port) as busy:
            await busy.send(build("GET", "/"))
            await until(lambda: len(upstream.requests) == 1)
            one.tell(signal.SIGTERM)
            await one.said("draining")
            one.tell(signal.SIGTERM)
            with pytest.raises(TruncatedError):
                await busy.response()
        assert await one.ended() == 1
        assert one.messages[-1] == "stopped"


async def test_a_request_that_has_begun_is_served() -> None:
    """A partly received head and a connection without a request are still served."""
    async with ScriptedUpstream() as upstream, process(upstream.url, **OPEN) as one:
        async with connect(one.port) as begun, connect(one.port) as made:
            await begun.send(b"GET / HTTP/1.1\r\nHost:")
            assert (await one.get()).status == 200  # so both are connected by now
            one.tell(signal.SIGTERM)
            await until(lambda: refused(one))
            assert (await made.ask(build("GET", "/"))).closes
            await begun.send(b" h\r\n\r\n")
            assert (await begun.response()).closes
        assert await one.ended() == 0


async def test_who_waits_to_be_accepted_is_served() -> None:
    """Connections that were waiting in the accept queue are served before the exit."""
    async with (
        ScriptedUpstream() as upstream,
        process(upstream.url, **OPEN) as one,
        contextlib.AsyncExitStack() as stack,
    ):
        one.tell(signal.SIGSTOP)
        waiting = [await stack.enter_async_context(connect(one.port)) for _ in range(50)]
        for each in waiting:
            await each.send(build("GET", "/"))
        one.tell(signal.SIGTERM)
        one.tell(signal.SIGCONT)
        answers = [await each.response() for each in waiting]
        assert {(answer.status, answer.closes) for answer in answers} == {(200, True)}
        assert await one.ended() == 0


def send_queue(port: int) -> int:
    """Return the octets sent from this local port that are still in the kernel's buffer."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(f":{port:04X}"))


async def test_who_does_not_read_the_metrics_keeps_nobody() -> None:
    """A client that does not read its metrics does not delay the exit."""
    ask = build("GET", "/metrics")
    async with (
        process("http://127.0.0.1:1", **OPEN) as one,
        connect(one.admin_port, receive_buffer=2048) as deaf,
    ):
        whole = 3000 * len((await fetch(one.admin_port, ask)).body)
        await deaf.send(ask * 3000)
        await until(lambda: send_queue(one.admin_port) > 0)
        assert await at_rest(lambda: send_queue(one.admin_port)) < whole / 2  # in mid-answer
        one.tell(signal.SIGTERM)
        assert await one.ended() == 0


async def test_web_sockets() -> None:
    """Both ends of a WebSocket get a Close with code 1001 (going away)."""
    codes: list[int | None] = []

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse(autoclose=True)
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(message.data)
        codes.append(socket_.close_code)
        return socket_

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with process(url, **OPEN) as one, aiohttp.ClientSession() as http:
            async with http.ws_connect(f"http://127.0.0.1:{one.port}/ws") as socket_:
                await socket_.send_str("hello")
                assert await socket_.receive_str(timeout=5) == "hello"
                one.tell(signal.SIGTERM)
                message = await socket_.receive(timeout=5)
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
            assert await one.ended() == 0
            await until(lambda: bool(codes))
        assert codes == [1001]
    finally:
        await runner.cleanup()


async def test_started_without_anything_behind() -> None:
    """A sidecar starts without Redis and application and finds both when they come up.

    After that, a login at one process is valid at another.
    """
    with RedisServer() as redis:
        redis.kill()
        port = free_port()
        settings: dict[str, Any] = {
            "session_store": "redis",
            "redis_port": redis.port,
            "redis_host": "127.0.0.1",
            "routes": ({"path": "/open", "access": "public"},),
        }
        upstream = f"http://127.0.0.1:{port}"
        async with process(upstream, **settings) as one, process(upstream, **settings) as other:
            for each in (one, other):
                assert await each.ready() == 200
                assert (await each.get("/open")).status == 503
            async with ScriptedUpstream(port=port):
                assert (await one.get("/open")).status == 200
                await asyncio.to_thread(redis.start)
                for each in (one, other):
                    await each.said("Redis available again, using the shared session cache")
                answer = await one.login()
                assert answer.status == 200
                token = answer.json()["access_token"]
                assert (await other.get("/", token=token)).status == 200
                assert (await other.get("/")).status == 401


async def test_a_signal_before_there_is_a_loop(tmp_path: Path) -> None:
    """A signal before the event loop runs, here while reading a secret, ends the process."""
    fifo = tmp_path / "secret"
    os.mkfifo(fifo)
    environ = {"JWT_SECRET_PREVIOUS_FILE": str(fifo)}
    ends: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):  # no reader has opened it yet
            ends.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    async with process("http://127.0.0.1:1", listens=False, environ=environ, **OPEN) as one:
        await until(is_read)
        one.tell(signal.SIGTERM)
        assert await one.ended() == -signal.SIGTERM
    os.close(*ends)


async def test_a_signal_while_it_starts() -> None:
    """A signal during startup interrupts the wait and ends the process cleanly."""

    async def say_nothing(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("startup waited for the keys")

    async with KeyServer() as keys:
        keys.answer = say_nothing
        async with process(
            "http://127.0.0.1:1", listens=False, jwks_url=keys.url, session_mode="none", **OPEN
        ) as one:
            await until(lambda: keys.fetches == 1)
            one.tell(signal.SIGTERM)
            assert await one.ended() == 0
            assert {line["logger"] for line in one.lines[:-1]} == {"sidecar.config"}  # warnings
            assert one.messages[-1] == "stopped"
