"""The check of early answers: what counts as lost, and how many may be."""

from __future__ import annotations

import asyncio

import pytest

from bench.early import KINDS, TIMES, Kind, application, judge, upload


@pytest.mark.parametrize(
    ("sidecar", "haproxy", "held"),
    [
        pytest.param(0.15, 0.0, True, id="at-the-bar"),
        pytest.param(0.2, 0.0, False, id="over-it"),
        pytest.param(0.4, 0.5, True, id="less-than-haproxy"),
    ],
)
def test_the_bar(*, sidecar: float, haproxy: float, held: bool) -> None:
    """At most 15 % may be lost, or what HAProxy loses where that is more."""
    lost = {"sidecar": int(sidecar * TIMES), "HAProxy": int(haproxy * TIMES), "no proxy": 0}
    (outcome,) = judge({KINDS[0]: lost})
    assert outcome.held == held


async def test_an_answer_that_arrives() -> None:
    """Without a proxy, a client that reads meanwhile gets the whole answer."""
    with application() as port:
        kind = Kind("FIN", 200_000, reads=True)
        assert await asyncio.to_thread(upload, port, kind, 0.05)


async def test_an_answer_that_is_lost() -> None:
    """A connection that ends without the whole answer counts as lost."""
    server = await asyncio.start_server(lambda _, writer: writer.transport.abort(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not await asyncio.to_thread(upload, port, KINDS[0], 0.0)
