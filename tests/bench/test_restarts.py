"""The check of rolling restarts: which responses count as failed requests."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from bench.restarts import KINDS, Count, judge, read_answer


def held(count: Count, codes: dict[int, int]) -> list[bool]:
    """Which bars were met in ten restarts."""
    return [outcome.held for outcome in judge(count, Counter(codes), 10)]


def test_one_failure_is_too_many() -> None:
    """A single failed request, failed exit or missing kind of request misses its bar."""
    answered = Counter(dict.fromkeys(KINDS, 1000))
    assert held(Count(answered), {0: 10}) == [True, True, True]
    assert held(Count(answered, Counter({"get: 502 by HAProxy": 1})), {0: 10})[0] is False
    assert held(Count(answered), {0: 9, 1: 1})[1] is False
    assert held(Count(answered), {0: 9})[1] is False
    assert held(Count(Counter({"get": 1})), {0: 10})[2] is False


@pytest.mark.parametrize(
    ("answer", "status", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "200", False),
        (
            b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nX-Request-Id: a\r\n\r\n",
            "503 by the sidecar",
            True,
        ),
        (b"HTTP/1.0 503 X\r\nContent-Length: 0\r\n\r\n", "503 by HAProxy", True),
    ],
    ids=["good", "closes", "ours", "haproxy"],
)
async def test_answers(answer: bytes, status: str, kept: bool) -> None:  # noqa: FBT001 (a table)
    """A failed response is counted with the program that sent it."""
    reader = asyncio.StreamReader()
    reader.feed_data(answer)
    assert await read_answer(reader) == (status, kept)


async def test_an_answer_that_is_cut() -> None:
    """A truncated response raises EOFError."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    reader.feed_eof()
    with pytest.raises(EOFError):
        await read_answer(reader)
