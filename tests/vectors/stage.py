"""Where vectors are played: a whole sidecar on real sockets, a client and a recording upstream.

One stage plays any number of vectors, one after the other. Each message is followed by a request
for `/after`, which shows where the message was taken to end and to which request an answer belongs.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.peers.byte_stream import StreamEndedError
from tests.peers.patience import PATIENCE, until
from tests.peers.raw_client import RawClient, TruncatedError
from tests.peers.scripted_upstream import ScriptedUpstream, reply
from tests.peers.stack import Stack, mint, stack
from tests.vectors.corpus import AnswerVector, Forwarded, RequestVector, octets, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.byte_stream import ByteStream
    from tests.peers.http_text import Fields
    from tests.peers.raw_client import Response
    from tests.peers.scripted_upstream import Connection, Received, Script

AFTER: Final = b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n"
ROUTES: Final = (
    {"path": "/private/*", "access": "required"},
    {"path": "/maybe/*", "access": "optional"},
    {"path": "/by-bearer/*", "credentials": "bearer"},
    {"path": "/by-cookie/*", "credentials": "cookie"},
    {"path": "/maybe-by-cookie/*", "access": "optional", "credentials": "cookie"},
    {"path": "/shared/*", "methods": ["PUT"]},
    {"path": "/shared/*", "preflight": "pass"},
    {"path": "/escapes/*", "methods": ["GET"], "access": "public", "path_escapes": "pass"},
    {"path": "/escaped-login/*", "path_escapes": "pass"},
    {
        "path": "/escaped-preflight/*",
        "methods": ["PUT"],
        "preflight": "pass",
        "path_escapes": "pass",
    },
    {"path": "/escaped-preflight/*", "methods": ["DELETE"], "preflight": "pass"},
    {"path": "/escaped-preflight/*", "path_escapes": "pass"},
    {"path": "/*", "access": "public"},
)
IDENTITY: Final = {"Account": "email"}  # a name without a telltale prefix
_SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_OK: Final = reply()
_TO_HEAD: Final = _OK.removesuffix(b"ok")
# Leaves no connection in the pool, so each vector begins on a new one.
_LAST: Final = reply(b"after", "200 OK", "Connection: close")
_TURNS: Final = 10  # iterations of the loop, after which everything sent has reached the upstream


class Stage:
    """The running servers, and what the upstream received of the current vector.

    `patience` is in seconds: anything that has not happened by then is a failure.
    """

    def __init__(
        self,
        upstream: ScriptedUpstream,
        stacks: dict[str, Stack],
        words: dict[str, str],
        patience: float,
    ) -> None:
        self._upstream = upstream
        self._stacks = stacks
        self._words = words
        self._patience = patience
        self._whole: list[Received] = []
        self._script: Script = ()
        self._idle = False  # whether a connection was left in the pool
        self._before = 0  # upstream connections when the vector began
        upstream.scripts = self._choose

    def __repr__(self) -> str:
        return f"<Stage {self._upstream!r}>"

    def _choose(self, request: Received) -> Script:
        """Return the script for a complete request."""
        self._whole.append(request)
        if request.target == b"/after":
            return [_LAST]
        if request.target == b"/warm":
            return [_OK]
        return self._script or [_TO_HEAD if request.method == b"HEAD" else _OK]

    def _clear(self, *script: Script) -> None:
        self._whole.clear()
        self._upstream.requests.clear()
        self._upstream.faults.clear()  # left by a failed vector
        self._before = len(self._upstream.connections)
        self._script = script[0] if script else ()

    @contextlib.asynccontextmanager
    async def _client(self, sidecar: str = "stranger") -> AsyncIterator[RawClient]:
        async with self._stacks[sidecar].client() as client:
            client.patience = self._patience
            yield client

    # Request vectors

    async def play_request(self, vector: RequestVector, cut: str) -> None:
        """Send the vector in these pieces and then `/after`; AssertionError unless as expected."""
        self._clear(*([[self._switch]] if vector.switches else []))
        data = octets(vector.send, self._words)
        sidecar = vector.peer if vector.paths == "reject" else vector.paths
        async with self._client(sidecar) as client:
            if vector.ends and vector.forwarded is not None:
                # The sidecar closes at once for a client that asked for it but still sends more.
                # Only octets that arrived before must not cost it the answer (RFC 9112 section
                # 9.6).
                *first, last = pieces(data, cut, vector.name)
                await _write(client, [*first, last + AFTER])
            else:
                await _write(client, pieces(data + AFTER, cut, vector.name))
            answer = await client.response(data.partition(b" ")[0].decode("latin-1"))
            assert answer.status == vector.status
            assert vector.reason in {None, _reason_of(answer)}
            for line in vector.says:
                _has_line(answer.head, line)
            if vector.switches:
                assert await client.exactly(len(AFTER)) == AFTER
            elif vector.ends:
                assert answer.closes
                assert await client.rest() == b"", "octets follow the last answer"
            else:
                assert not answer.closes
                assert (await client.response()).body == b"after"
        self._idle = vector.ends or vector.switches
        await self._check_upstream(vector)

    async def _check_upstream(self, vector: RequestVector) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        assert self._upstream.faults == []
        targets = [seen.target for seen in self._whole]
        after = [] if vector.ends or vector.switches else [b"/after"]
        if vector.forwarded is not None:
            assert len(targets) == 1 + len(after), targets
            _check_forwarded(self._whole[0], vector.forwarded, self._words)
            assert targets[1:] == after
            return
        assert targets == after, "a refused request reached the upstream"
        if not vector.head_seen:
            assert [seen.target for seen in self._upstream.requests] == after
        if not after:
            for connection in self._upstream.connections[self._before :]:
                await until(partial(_has_ended, connection), self._patience)

    async def _switch(self, connection: Connection, _: Received) -> None:
        """Act as a tunnel's end that echoes."""
        await connection.send(_SWITCH)
        with contextlib.suppress(StreamEndedError):
            await connection.send(await connection.exactly(len(AFTER)))

    # Answer vectors

    async def play_answer(self, vector: AnswerVector, cut: str) -> None:
        """Have the upstream send the vector's answer; AssertionError unless as expected."""
        done = asyncio.Event()

        async def write(connection: Connection, _: Received) -> None:
            data = octets(vector.answer, self._words)
            await _write(connection, pieces(data, cut, vector.name) if data else [])
            if vector.then == "reset" and not connection.writer.is_closing():
                connection.reset()
            elif vector.then == "close":
                connection.close()
            done.set()

        if self._idle:
            async with self._client() as client:
                await client.ask(AFTER)
            self._idle = False
        self._clear([write])
        async with self._client() as client:
            if vector.warm:
                assert (await client.ask(b"GET /warm HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200
            data = octets(vector.send, self._words)
            await client.send(data)
            keeps = await self._check_answer(client, data.partition(b" ")[0].decode(), vector)
            await asyncio.wait_for(done.wait(), self._patience)
            used = self._upstream.connections[self._whole[-1].connection]
            if not vector.pooled:
                await until(partial(_has_ended, used), self._patience)
            if keeps:
                assert (await client.ask(AFTER)).body == b"after"
        if not keeps:
            async with self._client() as client:
                assert (await client.ask(AFTER)).body == b"after"
        assert (self._whole[-1].connection == used.index) is vector.pooled
        asked = [seen for seen in self._whole if seen.target not in {b"/warm", b"/after"}]
        assert len(asked) == vector.asked
        assert self._upstream.faults == []

    async def _check_answer(self, client: RawClient, method: str, vector: AnswerVector) -> bool:
        """Check what the client sees; return whether its connection stays open."""
        try:
            answer = await client.response(method)
        except TruncatedError as end:
            if end.response is not None and (vector.truncated or vector.broken):
                return False
            raise
        if answer.closes:
            assert await client.rest() == b""
        assert not vector.truncated, "the answer was cut short but looks complete"
        assert answer.status == (502 if vector.broken else vector.status)
        if answer.status != 502:
            assert [each.status for each in answer.interim] == vector.interim
        if vector.body is not None:
            assert answer.body == octets(vector.body)
        if vector.framed is not None:
            assert answer.raw_body == octets(vector.framed)
        for line in vector.has:
            _has_line(answer.head, line)
        _lacks(answer.fields, vector.lacks)
        return not answer.closes


def _reason_of(answer: Response) -> str:
    """Return what a problem document says is malformed; empty if it is another answer."""
    if answer.fields.all("Content-Type") != [b"application/problem+json"] or not answer.body:
        return ""
    reason: str = answer.json().get("reason", "")
    return reason


def _check_forwarded(seen: Received, wanted: Forwarded, words: dict[str, str]) -> None:
    assert seen.line == octets(wanted.line)
    for line in wanted.has:
        _has_line(seen.head, octets(line, words).decode("latin-1"))
    _lacks(seen.fields, wanted.lacks)
    assert seen.body == octets(wanted.body)
    assert seen.trailers == octets(wanted.trailers)
    if wanted.framed is not None:
        assert seen.raw_body == octets(wanted.framed)


def _has_line(head: bytes, line: str) -> None:
    """Check that the line occurs once, and no other line whose name folds to the same."""
    wanted = line.encode("latin-1")
    lines = [each for each in head.split(b"\r\n")[1:] if _folded(each) == _folded(wanted)]
    assert lines == [wanted]


def _lacks(fields: Fields, names: list[str]) -> None:
    """Check that no spelling of these names occurs."""
    found = {_folded(name) for name in fields.names()}
    refused = {_folded(name.encode()) for name in names}
    assert found.isdisjoint(refused), found & refused


def _folded(line: bytes) -> bytes:
    """Return a line's name as a CGI-like application would fold it."""
    return re.sub(rb"[^a-z0-9]", b"-", line.partition(b":")[0].lower())


def _has_ended(connection: Connection) -> bool:
    return connection.ended_how is not None or connection.writer.is_closing()


async def _write(stream: ByteStream, cut: list[bytes]) -> None:
    """Write the pieces one by one; the peer may close the connection before the last."""
    sock = stream.writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(ConnectionError):
        for piece in cut:
            if stream.writer.is_closing():
                return
            stream.writer.write(piece)
            await asyncio.sleep(0)
        await stream.writer.drain()


@contextlib.asynccontextmanager
async def stage(patience: float = PATIENCE) -> AsyncIterator[Stage]:
    """Run a stage with three sidecars: distrusting, trusting the client, normalising paths."""
    async with (
        ScriptedUpstream(keep=False) as upstream,
        stack(upstream.url, routes=ROUTES, identity=IDENTITY) as stranger,
        stack(upstream.url, routes=ROUTES, trusted_proxies=["127.0.0.0/8"]) as trusted,
        stack(upstream.url, routes=ROUTES, paths_ambiguous="normalise") as normalise,
    ):
        tokens = await stranger.login()
        words = {
            "token": tokens.access,
            "refresh": tokens.refresh,
            "admin": (await stranger.login("admin")).access,
            "cookie": await stranger.cookie(),
            "forged": mint(secret="x" * 32),
            "unsigned": mint(algorithm="none"),
            "foreign": mint(iss="https://app.example"),
            "expired": mint(exp=int(time.time()) - 60),
            "unknown": mint(),
            "headless": tokens.access.rpartition(".")[0] + ".",
        }
        stacks = {"stranger": stranger, "trusted": trusted, "normalise": normalise}
        yield Stage(upstream, stacks, words, patience)
