"""Fetching keys from JWKS URLs: at start, periodically, on request, and when the server fails."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from sidecar.issuers.documents import LONGEST
from sidecar.issuers.jwks_fetch import (
    LAST_RETRY,
    REFETCH_BURST,
    REFETCH_INTERVAL,
    REFRESH,
    JwksEndpoint,
    JwksFetcher,
)
from sidecar.tasks import Tasks
from tests.peers.clock import Clock
from tests.peers.key_server import KeyServer
from tests.peers.patience import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sidecar.auth.keys import Key
    from sidecar.issuers.key_copies import KeyCopies

ISSUER = "https://id.example"


class Reader:
    """A consumer of keys: the fetcher, and a record of the keys that it installed."""

    def __init__(
        self,
        *places: JwksEndpoint,
        timeout: float = 5.0,
        hold: float = 2.5,
        copies: KeyCopies | None = None,
    ) -> None:
        self.clock = Clock()
        self.installed: list[tuple[str, list[str]]] = []
        self.pauses: list[float] = []
        self.tasks = Tasks()
        self.source = JwksFetcher(
            places,
            self._install,
            timeout=timeout,
            hold=hold,
            copies=copies,
            clock=self.clock,
            sleep=self._sleep,
            draw=lambda: 1.0,
        )

    @property
    def kids(self) -> list[str]:
        """The ids of the keys that were installed last."""
        return self.installed[-1][1]

    def _install(self, issuer: str, keys: Sequence[Key]) -> None:
        self.installed.append((issuer, [key.kid for key in keys]))

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.clock.sleep(seconds)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    """A key server that publishes one key."""
    async with KeyServer() as running:
        running.publish(one="ES256")
        yield running


@pytest.fixture
async def reader(server: KeyServer) -> AsyncIterator[Reader]:
    """A reader that has fetched the key."""
    made = Reader(JwksEndpoint(ISSUER, server.url), timeout=0.2)
    await made.source.start(made.tasks)
    yield made
    await made.tasks.close()


async def paused(reader: Reader, times: int) -> None:
    """Wait until the fetcher has begun its `times`-th pause."""
    await until(lambda: len(reader.pauses) == times)


async def settled(reader: Reader, server: KeyServer, fetches: int) -> None:
    """Wait until this many fetches have been answered and processed."""
    await until(lambda: server.fetches == len(reader.pauses) == fetches)


async def test_start(reader: Reader, server: KeyServer) -> None:
    """The keys are installed before the start completes."""
    assert reader.installed == [(ISSUER, ["one"])]
    assert server.fetches == 1
    assert repr(reader.source) == f"<JwksFetcher [<1 keys of {ISSUER!r}, 0 failures>]>"


async def test_what_is_asked_for() -> None:
    """Requests accept no compression, send no cookies and have a recognizable User-Agent."""
    seen: list[web.Request] = []

    async def show(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return web.json_response({"keys": []}, headers={"Set-Cookie": "a=b"})

    async with KeyServer() as server:
        server.answer = show
        reader = Reader(JwksEndpoint(ISSUER, server.url))
        await reader.source.start(reader.tasks)
        reader.source.request(ISSUER)
        await until(lambda: len(seen) == 2)
        await reader.tasks.close()
    headers = seen[1].headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("auth-sidecar/")
    assert "Cookie" not in headers


async def test_rotation(reader: Reader, server: KeyServer) -> None:
    """After the next fetch, a new key is known and a removed key is not."""
    server.publish(one="ES256", two="RS256")
    await reader.clock.turn(REFRESH)
    await until(lambda: reader.kids == ["one", "two"])
    server.publish(two="RS256")
    await reader.clock.turn(REFRESH)
    await until(lambda: reader.kids == ["two"])


async def test_nothing_new(reader: Reader, server: KeyServer) -> None:
    """Unchanged keys are not installed again, so the cache of verified tokens is kept."""
    await reader.clock.turn()
    await reader.clock.turn(REFRESH)
    await settled(reader, server, 2)
    assert len(reader.installed) == 1


async def test_all_keys_withdrawn(
    reader: Reader, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """If an issuer publishes no keys any more, all are removed, with a warning."""
    server.publish()
    await reader.clock.turn(REFRESH)
    await until(lambda: reader.kids == [])
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_asked(reader: Reader, server: KeyServer) -> None:
    """An unknown key id in a token triggers a fetch at once."""
    server.publish(one="ES256", two="EdDSA")
    reader.source.request(ISSUER)
    await until(lambda: reader.kids == ["one", "two"])


async def test_waiting(reader: Reader, server: KeyServer) -> None:
    """All who ask wait for one fetch, and the keys are installed when it has ended."""
    server.publish(one="ES256", two="EdDSA")
    shown, asked, may_answer = server.answer, asyncio.Event(), asyncio.Event()

    async def hesitate(request: web.Request) -> web.StreamResponse:
        asked.set()
        await may_answer.wait()
        return await shown(request)

    server.answer = hesitate
    first = reader.source.request(ISSUER)
    assert first is not None
    await asked.wait()
    assert reader.source.request(ISSUER) is first
    may_answer.set()
    await first.wait()
    assert reader.kids == ["one", "two"]
    assert server.fetches == 2
    later = reader.source.request(ISSUER)
    assert later is not None
    assert later is not first


async def test_nothing_to_wait_for(reader: Reader, server: KeyServer) -> None:
    """Nobody waits for a fetch that must wait itself, or for an issuer without a URL."""
    assert reader.source.request("https://other.example") is None
    for number in range(REFETCH_BURST):
        fetched = reader.source.request(ISSUER)
        assert fetched is not None, number
        await fetched.wait()
    assert reader.source.request(ISSUER) is None
    assert server.fetches == 1 + REFETCH_BURST
    await reader.clock.turn(REFETCH_INTERVAL - 1)
    assert reader.source.request(ISSUER) is None
    await reader.clock.turn(1)  # the request that was not waited for is served now
    await until(lambda: server.fetches == 2 + REFETCH_BURST)


async def test_waiting_for_a_slow_server(server: KeyServer) -> None:
    """Nobody waits longer than the limit, which counts from the beginning of the fetch."""
    reader = Reader(JwksEndpoint(ISSUER, server.url), timeout=30.0, hold=0.05)
    await reader.source.start(reader.tasks)
    server.answer = _silent
    fetched = reader.source.request(ISSUER)
    assert fetched is not None
    await until(lambda: server.fetches == 2)
    await fetched.wait()
    assert reader.source.request(ISSUER) is None
    assert server.fetches == 2
    await reader.tasks.close()


async def test_waiting_at_the_end(reader: Reader, server: KeyServer) -> None:
    """When fetching ends, because a reload replaces the fetcher, nobody waits any longer."""
    server.answer = _silent
    fetched = reader.source.request(ISSUER)
    assert fetched is not None
    await until(lambda: server.fetches == 2)
    reader.source.stop()
    assert fetched.is_set()


async def test_asked_by_everybody(reader: Reader, server: KeyServer) -> None:
    """Fetches for unknown key ids are rate-limited, and the last request is still served."""
    for _ in range(60):
        reader.source.request(ISSUER)
        await reader.clock.turn()
        await asyncio.sleep(0.001)
    await until(lambda: server.fetches == 1 + REFETCH_BURST)
    await reader.clock.turn(REFETCH_INTERVAL - 1)
    assert server.fetches == 1 + REFETCH_BURST
    server.publish(two="EdDSA")
    await reader.clock.turn(1)
    await until(lambda: reader.kids == ["two"])
    assert server.fetches == 2 + REFETCH_BURST


async def test_a_real_rotation_restores_the_burst(reader: Reader, server: KeyServer) -> None:
    """A fetch that brings other keys does not count, so made-up key ids gain nothing from it."""

    async def made_up_until(fetches: int) -> None:
        while server.fetches < fetches:
            reader.source.request(ISSUER)
            await asyncio.sleep(0.001)

    await made_up_until(REFETCH_BURST)
    server.publish(two="EdDSA")
    await made_up_until(2 * REFETCH_BURST + 1)  # the last of the first burst brought new keys
    assert reader.kids == ["two"]
    await reader.clock.turn(REFETCH_INTERVAL - 1)
    for _ in range(20):
        reader.source.request(ISSUER)
        await asyncio.sleep(0.001)
    assert server.fetches == 2 * REFETCH_BURST + 1


async def test_servers_that_disagree(reader: Reader, server: KeyServer) -> None:
    """Made-up key ids gain no more fetches if the issuer's servers answer in turn.

    Each change makes the gate forget every token that it has verified.
    """

    async def differing(_: web.Request) -> web.StreamResponse:
        server.publish(**{f"key-{server.fetches}": "EdDSA"})
        shown = await server.answer(_)
        server.answer = differing
        return shown

    server.answer = differing
    for _ in range(100):
        reader.source.request(ISSUER)
        await asyncio.sleep(0.002)
    await until(lambda: server.fetches >= 2 + REFETCH_BURST)
    assert server.fetches == 2 + REFETCH_BURST
    assert reader.kids == [f"key-{server.fetches}"]


async def test_two_places() -> None:
    """Each issuer has its own keys, and an unreachable issuer does not block the other's."""
    async with KeyServer() as server:
        server.publish(one="ES256")
        gone = KeyServer()
        await gone.begin()
        await gone.stop()
        reader = Reader(
            JwksEndpoint("https://gone.example", gone.url), JwksEndpoint(ISSUER, server.url)
        )
        await reader.source.start(reader.tasks)
        assert reader.installed == [(ISSUER, ["one"])]
        await reader.tasks.close()


async def test_away_at_start(server: KeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """An unreachable server at start is retried with growing pauses and is logged once."""
    caplog.set_level(logging.INFO)
    await server.stop()
    reader = Reader(JwksEndpoint(ISSUER, server.url))
    await reader.source.start(reader.tasks)
    assert reader.installed == []
    for number in range(1, 9):
        await paused(reader, number)
        await reader.clock.turn(reader.pauses[-1])
    assert reader.pauses[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LAST_RETRY, LAST_RETRY]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"keys of {ISSUER} cannot be fetched, its tokens are refused" in caplog.text
    await paused(reader, 9)
    await server.begin()
    await reader.clock.turn(LAST_RETRY)
    await until(lambda: reader.installed == [(ISSUER, ["one"])])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    await reader.tasks.close()


async def _error(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _redirect(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def _garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"<html>\xff" * 100)


async def _no_set(_: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": {"kid": "one"}})


async def _packed(_: web.Request) -> web.StreamResponse:
    body = gzip.compress(b'{"keys": []}')
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


async def _huge(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * (LONGEST + 1))


async def _endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):  # if the client leaves during a write
        while True:
            await answer.write(b" " * 65536)
    return answer


async def _silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def _dripping(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):  # like `_endless`
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.01)
    return answer


async def _broken(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b'{"keys": []')
    if request.transport is not None:
        request.transport.abort()
    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(_error, "expected status 200 (redirects are not followed); got 500", id="500"),
        pytest.param(_redirect, "expected status 200", id="redirect"),
        pytest.param(_garbage, "expected a JWK set", id="garbage"),
        pytest.param(_no_set, "expected a JWK set", id="no-set"),
        pytest.param(_packed, "expected a JWK set", id="packed"),
        pytest.param(_huge, f"expected a document of at most {LONGEST} bytes", id="huge"),
        pytest.param(_endless, f"expected a document of at most {LONGEST} bytes", id="endless"),
        pytest.param(_silent, "no whole answer within 0.2 s", id="silent"),
        pytest.param(_dripping, "no whole answer within 0.2 s", id="dripping"),
        pytest.param(_broken, "", id="broken-off"),
    ],
)
async def test_no_keys_there(
    reader: Reader, server: KeyServer, answer: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After an invalid response, the known keys stay in use, and fetching continues."""
    caplog.set_level(logging.INFO)
    await reader.clock.turn()
    server.answer = answer
    await reader.clock.turn(REFRESH)
    await settled(reader, server, 2)
    await reader.clock.turn(reader.pauses[-1])
    await settled(reader, server, 3)
    assert reader.installed == [(ISSUER, ["one"])]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "known keys stay in use until they can" in record.getMessage()
    assert said in record.getMessage()
    server.publish(two="ES256")
    await reader.clock.turn(LAST_RETRY)
    await until(lambda: reader.kids == ["two"])
    assert [record.levelname for record in caplog.records[1:]] == ["INFO", "INFO"]


async def test_keys_of_no_use(server: KeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """Unusable keys in a set are logged with the reason, and the other keys are used."""
    caplog.set_level(logging.INFO)
    server.publish(one="ES256", two="RS256")
    reader = Reader(JwksEndpoint(ISSUER, server.url, ("RS256",)))
    await reader.source.start(reader.tasks)
    await reader.tasks.close()
    assert reader.kids == ["two"]
    [record] = caplog.records
    assert record.getMessage() == f"keys of {ISSUER}: 1 in use"
    assert record.__dict__["not_used"].startswith("key 1: expected a key for RS256")
