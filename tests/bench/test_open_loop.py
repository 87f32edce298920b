"""Load at a fixed rate: the schedule, and what a latency counts from."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from bench import load, mixed, open_loop
from bench.scenarios import MIXED
from tests.bench.recorder import Recorder, recording
from tests.peers.scripted_upstream import OK, reply

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DENIED = reply(b"", "401 Unauthorized")


def test_schedule_keeps_its_rate() -> None:
    """Requests fall due at the rate, at irregular intervals, in order and within the time."""
    times = open_loop.schedule(2_000, 5, random.Random(3))
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 5
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    assert gaps[len(gaps) // 2] < 0.75 / 2_000  # half of the intervals are short


def test_all_are_answered() -> None:
    """Each request is sent once and counted, with the bytes of its response."""
    with recording(Recorder()) as server:
        times = [n / 500 for n in range(100)]
        done = open_loop.run(server.port, [REQUEST] * 100, times, connections=4)
        assert len(server.requests) == 100
    assert (done.requests, done.errors(denied=False)) == (100, 0)
    assert done.bytes == 100 * len(OK)
    assert 0 < done.p50_us <= done.p99_us <= done.p999_us


def test_a_pause_counts_for_all_that_had_to_wait() -> None:
    """If a server stands still, every request that fell due meanwhile was late, not just one.

    A client that waits for each response before it sends the next request would see one slow
    response for each connection, here 2 of 100.
    """
    with recording(Recorder(stalls={0: 0.5})) as server:
        times = [n / 200 for n in range(100)]  # half a second
        done = open_loop.run(server.port, [REQUEST] * 100, times, connections=2)
    assert done.requests == 100
    assert done.p50_us > 150_000


@pytest.mark.parametrize(
    ("answer", "breaks", "errors"),
    [
        pytest.param(DENIED, frozenset[int](), 20, id="denied"),
        pytest.param(None, frozenset({3, 4}), 2, id="broken"),
    ],
)
def test_errors_are_counted(answer: bytes | None, breaks: frozenset[int], errors: int) -> None:
    """A refusal is an error, and so is a connection that ends; it is opened again."""
    recorder = Recorder(breaks=breaks) if answer is None else Recorder(answer, breaks=breaks)
    with recording(recorder) as server:
        times = [n / 200 for n in range(20)]
        done = open_loop.run(server.port, [REQUEST] * 20, times, connections=2)
        assert len(server.requests) == 20
    assert done.errors(denied=False) == errors


def test_what_is_never_answered_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that have no response at the end, or were never sent, are errors."""
    monkeypatch.setattr(open_loop, "GRACE_SECONDS", 0.2)
    with recording(Recorder(stalls={5: 1.0})) as server:
        times = [n / 1_000 for n in range(20)]
        done = open_loop.run(server.port, [REQUEST] * 20, times, connections=1)
    assert done.requests == 5
    assert done.timeout == 15


def test_nothing_due_is_no_error() -> None:
    """A rate so low that nothing falls due gives figures of zero."""
    with recording(Recorder()) as server:
        done = open_loop.run(server.port, [], [], connections=1)
    assert (done.requests, done.p99_us, done.errors(denied=False)) == (0, 0, 0)


def test_the_program_runs_by_itself(tmp_path: Path) -> None:
    """The command line carries the whole order, and the result is that of any load."""
    mix = mixed.write(tmp_path, "x", MIXED, ["a.b.c", "d.e.f"], seed=5)
    with recording(Recorder()) as server:
        done = load.run_program(open_loop.argv(server.port, 150.0, 1, 4, mix), 1, cpu=None)
        assert done.requests == len(server.requests) == len(set(server.requests)) > 80
    assert done.errors(denied=False) == 0
    assert done.client_us > 0
    assert msgspec.json.decode(msgspec.json.encode(done), type=load.Load) == done
