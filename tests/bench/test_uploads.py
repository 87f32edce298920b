"""The check of slow clients: one failed request, or a kind that was never answered, misses it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from bench import uploads
from bench.uploads import OTHERS, Crowd, Seen, ask, judge, table
from tests.peers.scripted_upstream import CLOSE, OK, ScriptedUpstream, reply

if TYPE_CHECKING:
    import pytest


def seen(failures: dict[str, int] | None = None, without: str = "") -> Seen:
    """Return what others got: an answer to each kind but one, and these failures."""
    took = {kind: [0.001, 0.002] if kind != without else [] for kind in OTHERS}
    return Seen(took, Counter(failures or {}), slow=300, most=79.0)


def test_one_failure_is_too_many() -> None:
    """A single failed request misses the bar of its kind of slow client, and is named."""
    good, bad = judge({"nobody": seen(), "a body": seen({"get: 503 by the sidecar": 1})})
    assert (good.held, bad.held) == (True, False)
    assert bad.measured == "1 of 8 failed: 1 x get: 503 by the sidecar"


def test_a_kind_without_answers() -> None:
    """If one kind of request was never answered, nothing is known about it."""
    assert [outcome.held for outcome in judge({"a body": seen(without="probe")})] == [False]


def test_slow_clients_that_do_not_begin() -> None:
    """Without all slow clients, good answers prove nothing."""
    found = seen()
    found.begun = False
    (outcome,) = judge({"a body": found})
    assert (outcome.held, outcome.missed) == (False, False)


async def test_a_crowd_is_complete_when_each_client_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that begins again does not stand for another that is missing."""
    monkeypatch.setattr(uploads, "LEAD", 0.0)
    monkeypatch.setattr(uploads, "PATIENCE", 0.01)
    crowd = Crowd(2)
    crowd.begin(first=True)
    crowd.begin(first=False)
    assert not await crowd.all_begun()
    crowd.begin(first=True)
    assert await crowd.all_begun()


def test_the_table() -> None:
    """The table shows the connections and the slowest requests."""
    text = table({"a body": seen(without="probe")})
    assert "| a body |     300 |                   79 |          - |" in text


async def test_what_counts_as_a_failure() -> None:
    """An answer other than 200 and a connection that ends are failures."""
    found = Seen()
    async with ScriptedUpstream([[OK], [reply(b"no", "503 X", "X-Request-Id: a")], [CLOSE]]) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        kept = [
            await ask(reader, writer, "get", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", found)
            for _ in range(3)
        ]
        writer.close()
    assert kept == [True, True, False]
    assert found.failures == {"get: 503 by the sidecar": 1, "get: IncompleteReadError": 1}
    assert len(found.took["get"]) == 2
