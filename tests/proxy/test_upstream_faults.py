"""The answers a client gets when the upstream fails, and that incomplete ones never look complete.

RFC 9112 section 8, RFC 9110 sections 9.2.2 and 15.6.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.patience import PATIENCE
from tests.peers.raw_client import Response, TruncatedError, build
from tests.peers.scripted_upstream import CLOSE, OK, RESET, STALL, YIELD
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.scripted_upstream import Script, ScriptedUpstream

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\n\r\n"


def check_problem(answer: Response, status: int) -> None:
    """Fail unless this is a problem document (RFC 9457) of that status with the request's id."""
    assert answer.status == status
    assert answer.fields.one("content-type").startswith(b"application/problem+json")
    problem = json.loads(answer.body)
    assert problem["status"] == status
    assert answer.fields.one("x-request-id").decode() in answer.body.decode()
    if status == 503:
        assert int(answer.fields.one("retry-after")) >= 0


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Reserve a loopback port on which no process listens or can begin to listen."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def test_refused_upstream_is_503() -> None:
    """A refused connection gives 503 with Retry-After; the client's connection stays usable."""
    with closed_port() as port:
        running = stack(f"http://127.0.0.1:{port}", routes=PUBLIC)
        async with running as proxy, proxy.client() as client:
            for method in ("GET", "POST", "GET"):
                body = b"x" if method == "POST" else None
                check_problem(await client.ask(build(method, "/", body=body)), 503)
            head = await client.ask(build("HEAD", "/"))
            assert (head.status, head.body) == (503, b"")


async def test_problem_carries_the_clients_request_id() -> None:
    """The problem document has the client's request id and reveals no path or port."""
    with closed_port() as port:
        async with stack(f"http://127.0.0.1:{port}", routes=PUBLIC) as proxy:
            answer = await proxy.get("/secret-path?q=1", "X-Request-Id: abc-123")
    assert b"abc-123" in answer.body
    assert b"secret-path" not in answer.body
    assert str(port).encode() not in answer.body


async def test_upstream_that_never_accepts() -> None:
    """A connection attempt is given up after its time limit, and its slot is freed."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # fill the backlog, so that further connection attempts get no answer
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        changed: dict[str, Any] = {
            "upstream_connect_timeout": "60ms",
            "upstream_max_connections": 1,
        }
        async with stack(f"http://127.0.0.1:{port}", routes=PUBLIC, **changed) as proxy:
            for _ in range(2):
                async with asyncio.timeout(PATIENCE):
                    answer = await proxy.get("/")
                assert answer.status in {503, 504}
                check_problem(answer, answer.status)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([CLOSE], id="closed"),
        pytest.param([RESET], id="reset"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE], id="half-a-head"),
        pytest.param([b"HTTP/1.1 103 Early Hints\r\n\r\n", CLOSE], id="only-interim"),
        pytest.param([b"SSH-2.0-OpenSSH_9.2\r\n"], id="not-http"),
        pytest.param([b"\x16\x03\x01\x02\x00\x01"], id="tls"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_broken_upstream_is_502(
    upstream: ScriptedUpstream, proxy: Stack, script: Script, method: str
) -> None:
    """Without a complete answer on a new connection, the client gets 502 and no retry is made."""
    upstream.scripts = [script, [OK]]
    body = b"x" if method == "POST" else None
    async with proxy.client() as client:
        check_problem(await client.ask(build(method, "/", body=body)), 502)
        assert len(upstream.requests) == 1
        if method == "GET":
            assert (await client.ask(build("GET", "/next"))).body == b"ok"


async def test_slow_head_is_504(upstream: ScriptedUpstream) -> None:
    """A response head that is late gives 504; other requests are served meanwhile."""
    upstream.scripts = lambda request: [STALL, OK] if request.target == b"/slow" else [OK]
    settings: dict[str, Any] = {"upstream_timeout": "80ms"}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        await client.send(build("GET", "/slow"))
        await upstream.arrived()
        assert (await proxy.get("/quick")).status == 200
        check_problem(await client.response(), 504)
        upstream.release.set()
        await asyncio.sleep(0.005)
        assert (await client.ask(build("GET", "/next"))).body == b"ok"


async def test_interim_responses_do_not_stop_the_clock(upstream: ScriptedUpstream) -> None:
    """Interim responses do not extend the time limit for the final head."""
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    upstream.scripts = [[hint, YIELD, hint, STALL]]
    async with stack(upstream.url, routes=PUBLIC, upstream_timeout="60ms") as proxy:
        async with asyncio.timeout(PATIENCE):
            check_problem(await proxy.get("/"), 504)


async def test_slow_body_is_no_fault(upstream: ScriptedUpstream) -> None:
    """Once the head has arrived, the body may take any time."""
    upstream.scripts = [[CHUNKED + b"1\r\na\r\n", STALL, b"1\r\nb\r\n0\r\n\r\n"]]
    settings: dict[str, Any] = {"upstream_timeout": "30ms"}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        await client.send(build("GET", "/"))
        await client.until(b"1\r\na\r\n")
        await client.silence(0.08)
        upstream.release.set()
        assert (await client.chunked_body())[1] == b"b"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([LENGTH + b"12345", CLOSE], id="short-eof"),
        pytest.param([LENGTH + b"12345", RESET], id="short-reset"),
        pytest.param([LENGTH, CLOSE], id="no-body-eof"),
        pytest.param([CHUNKED, CLOSE], id="chunked-none-eof"),
        pytest.param([CHUNKED + b"5\r\nhello\r\n", CLOSE], id="chunked-no-last-eof"),
        pytest.param([CHUNKED + b"5\r\nhello\r\n", RESET], id="chunked-no-last-reset"),
        pytest.param([CHUNKED + b"9\r\nhello", CLOSE], id="chunked-cut-chunk"),
        pytest.param([CHUNKED + b"5\r\nhello\r\n0\r\n", CLOSE], id="chunked-last-not-ended"),
        pytest.param([CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n", CLOSE], id="chunked-trailer-cut"),
        pytest.param([CHUNKED + b"5\r\nhello\r\nxyz\r\n"], id="chunked-bad-size"),
        pytest.param([CHUNKED + b"5\r\nhelloworld\r\n0\r\n\r\n"], id="chunked-too-long-chunk"),
        pytest.param([CLOSING + b"hello", RESET], id="until-close-reset"),
    ],
)
@pytest.mark.parametrize("way", ["head-first", "at-once"])
async def test_incomplete_answer_is_never_complete(
    upstream: ScriptedUpstream, proxy: Stack, pieces: Script, way: str
) -> None:
    """A body that breaks off visibly breaks the client's connection (9112 section 8)."""
    first, *rest = pieces
    assert isinstance(first, bytes)
    head, body = first[: first.index(b"\r\n\r\n") + 4], first[first.index(b"\r\n\r\n") + 4 :]
    upstream.scripts = [[head, YIELD, body, YIELD, *rest] if way == "head-first" else pieces]
    async with proxy.client() as client:
        try:
            answer = await client.ask(build("GET", "/"))
        except TruncatedError:
            return
    check_problem(answer, 502)


async def test_no_connection_free_is_503(upstream: ScriptedUpstream) -> None:
    """While every upstream connection is busy, a request gets 503 after its time in the queue."""
    upstream.scripts = [[STALL, OK]]
    changed: dict[str, Any] = {"upstream_max_connections": 1, "upstream_queue_timeout": "40ms"}
    async with stack(upstream.url, routes=PUBLIC, **changed) as proxy:
        async with proxy.client() as first:
            await first.send(build("GET", "/"))
            await upstream.arrived()
            check_problem(await proxy.get("/"), 503)
            upstream.release.set()
            assert (await first.response()).status == 200
        assert (await proxy.get("/")).status == 200
    assert len(upstream.connections) == 1


async def test_waiting_requests_get_connections_in_turn(upstream: ScriptedUpstream) -> None:
    """Every queued request is served, and clients that have left hold no place."""
    upstream.scripts = lambda request: [STALL, OK] if request.target == b"/slow" else [OK]
    async with contextlib.AsyncExitStack() as open_:
        running = stack(upstream.url, routes=PUBLIC, upstream_max_connections=1)
        proxy = await open_.enter_async_context(running)
        first = await open_.enter_async_context(proxy.client())
        await first.send(build("GET", "/slow"))
        await upstream.arrived()
        waiting = [await open_.enter_async_context(proxy.client()) for _ in range(12)]
        for number, client in enumerate(waiting):
            await client.send(build("GET", f"/{number}"))
        await asyncio.sleep(0.01)
        for client in waiting[::3]:
            client.reset()
        await asyncio.sleep(0.01)
        upstream.release.set()
        assert (await first.response()).status == 200
        for number, client in enumerate(waiting):
            if number % 3:
                assert (await client.response()).status == 200
    assert len(upstream.connections) <= 13
    assert len(upstream.requests) == 9


async def test_upstream_comes_back(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """After an upstream restart the next request is served without restarting the sidecar."""
    assert (await proxy.get("/")).status == 200
    await upstream.stop()
    async with proxy.client() as client:
        answer = await client.ask(build("GET", "/"))
        check_problem(answer, 503)
        async with type(upstream)(port=upstream.port):
            assert (await client.ask(build("GET", "/"))).status == 200
