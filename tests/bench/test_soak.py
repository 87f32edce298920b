"""The bars of the check `soak`, and how it reads memory, logs and sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest

from bench.orderly import KINDS
from bench.restarts import Count
from bench.steady import Plan, Seen, is_fault, judge, levels
from bench.unruly import MANNERS, Crowd, End, calling
from bench.vitals import Socket, Vitals, parse_sockets

MIB = 1 << 20
PLAN = Plan.of(600)
AT_REST = Vitals(
    rss=60 * MIB,
    files=11,
    to_redis=3,
    at_upstream=0,
    in_flight=0,
    clients=0,
    upstream=0,
    tasks=9,
    transitions=0,
)


def seen(**changes: Any) -> Seen:
    """The observations of a sidecar that meets all bars, except for `changes`."""
    crowd = Crowd(1, "token", repeat("token"))
    crowd.seen.update((name, End.RESET) for name in MANNERS)
    values: dict[str, Any] = {
        "before": AT_REST,
        "under_load": AT_REST,
        "rest": AT_REST,
        "memory": memory(60 * MIB, 62 * MIB),
        "cpu": 0.9,
        "answered": Count(Counter(dict.fromkeys(KINDS, 1000))),
        "crowd": crowd,
        "log": ['{"level": "info", "message": "listening"}'],
        "code": 0,
    }
    return Seen(**{**values, **changes})


def memory(first: int, last: int) -> list[tuple[float, int]]:
    """One reading per second, which changes from `first` to `last` in the middle."""
    return [(float(at), first if at < PLAN.seconds / 2 else last) for at in range(PLAN.seconds)]


def missed(what: Seen) -> list[str]:
    """The names of the bars that these observations miss."""
    return [outcome.name for outcome in judge(what, PLAN) if not outcome.held]


def test_all_bars_can_be_held() -> None:
    """A sidecar whose memory grows by 3 % meets all bars."""
    assert missed(seen()) == []


@pytest.mark.parametrize(
    ("changes", "bar"),
    [
        pytest.param({"memory": memory(60 * MIB, 64 * MIB)}, "memory at the end", id="memory"),
        pytest.param(
            {"answered": Count(Counter(dict.fromkeys(KINDS, 1)), Counter({"echo: lost": 1}))},
            "failed requests of well-behaved clients",
            id="failed",
        ),
        pytest.param(
            {"answered": Count(Counter(dict.fromkeys(list(KINDS)[1:], 1)))},
            "kinds of well-behaved clients",
            id="no-load",
        ),
        pytest.param(
            {"crowd": Crowd(1, "token", repeat("token"))},
            "kinds of misbehaving clients",
            id="no-crowd",
        ),
        pytest.param({"log": ["Traceback:"]}, "faults in the log", id="log"),
        pytest.param({"code": -9}, "exit code after SIGTERM", id="exit"),
    ],
)
def test_each_bar_can_be_missed(changes: dict[str, Any], bar: str) -> None:
    """Each change misses its own bar and no other."""
    assert missed(seen(**changes)) == [bar]


@pytest.mark.parametrize(
    ("left", "bar"),
    [
        pytest.param({"in_flight": 1}, "requests in progress after the load", id="request"),
        pytest.param({"clients": 1}, "client connections after the load", id="client"),
        pytest.param(
            {"upstream": 1}, "upstream connections after the load, by the sidecar", id="counted"
        ),
        pytest.param(
            {"at_upstream": 1}, "upstream connections after the load, by the kernel", id="uncounted"
        ),
        pytest.param({"tasks": 10}, "tasks after the load", id="task"),
        pytest.param({"files": 12}, "open files after the load, without Redis", id="file"),
        pytest.param({"transitions": 2}, "transitions between Redis and local memory", id="outage"),
    ],
)
def test_nothing_may_be_left(left: dict[str, Any], bar: str) -> None:
    """Each resource left after the load misses its own bar."""
    assert missed(seen(rest=replace(AT_REST, **left))) == [bar]
    waits = not replace(AT_REST, **left).as_idle_as(AT_REST)
    assert waits is ("transitions" not in left)  # waiting does not undo transitions


def test_memory_is_compared_between_two_windows() -> None:
    """Memory levels are medians of the windows after the warm-up and at the end."""
    readings = [(0.0, 1), (60.0, 10), (70.0, 30), (89.0, 20), (91.0, 99)]
    readings += [(569.0, 99), (570.0, 5), (580.0, 7), (599.0, 6)]
    assert levels(readings, Plan.of(600)) == (20, 6)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param('{"level": "info", "message": "login"}', False, id="info"),
        pytest.param('{"logger": "access", "status": 401}', False, id="access"),
        pytest.param('{"level": "warning", "fault": "upstream_broken"}', False, id="peer"),
        pytest.param('{"level": "warning", "logger": "py.warnings"}', True, id="warning"),
        pytest.param('{"level": "error", "fault": "x"}', True, id="error"),
        pytest.param('{"level": "info", "exc": "Traceback"}', True, id="traceback"),
        pytest.param("Exception ignored in: <socket>", True, id="interpreter"),
    ],
)
def test_what_a_log_may_say(line: str, fault: bool) -> None:  # noqa: FBT001 (a table)
    """Normal records and warnings about a peer's faults are allowed; anything else is a fault."""
    assert is_fault(line) is fault


def test_sockets_are_read_from_the_kernels_table() -> None:
    """Ports, state, unread bytes and inode of a socket are read from a line of /proc/net/tcp."""
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout\n"
        "   0: 0100007F:1F90 0100007F:D431 01 00000000:0000000A 00:00000000 00000000 0 0 4711 1\n"
    )
    assert parse_sockets(table) == [Socket(8080, 0xD431, 1, 10, 4711)]


@pytest.mark.parametrize("end", [End.RESET, End.CLOSE, End.HALF_CLOSE])
async def test_the_other_side_sees_how_a_connection_ends(end: End) -> None:
    """The server sees a reset for RESET, and otherwise an EOF after the data."""
    how: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            how.set_result(f"eof after {(await reader.read()).decode()}")
        except ConnectionResetError:
            how.set_result("reset")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        async with calling(server.sockets[0].getsockname()[1]) as connection:
            await connection.send(b"word")
            await connection.end(end)
        assert await how == ("reset" if end is End.RESET else "eof after word")
