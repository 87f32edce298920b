"""Tests of `sidecar.telemetry.access_log`: lines, batches, and a reader that stalls or is gone."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.telemetry.access_log import BATCH, INTERVAL, AccessLog
from sidecar.telemetry.logs import Redactor
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


class Timer:
    """A manual replacement for the loop's `call_later`."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, delay: float, call: Callable[[], None]) -> None:
        """Record the call."""
        assert delay == INTERVAL
        self.due.append(call)

    def turn(self) -> None:
        """Make all recorded calls, as if the interval had passed."""
        due, self.due = self.due, []
        for call in due:
            call()


class Pipe:
    """A pipe in place of standard output, whose reader may stall."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)

    def read(self) -> bytes:
        """Return everything in the pipe."""
        chunks: list[bytes] = []
        while True:
            try:
                chunk = os.read(self.read_end, 65536)
            except BlockingIOError:
                return b"".join(chunks)
            chunks.append(chunk)

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines in the pipe."""
        return [json.loads(line) for line in self.read().splitlines()]

    def close(self) -> None:
        """Close the ends that are still open."""
        for end in (self.read_end, self.write_end):
            if end >= 0:
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that holds one page."""
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def timer() -> Timer:
    """A manual timer."""
    return Timer()


@pytest.fixture
def metrics() -> Metrics:
    """The metrics that count dropped lines."""
    return Metrics()


@pytest.fixture
def log(pipe: Pipe, timer: Timer, metrics: Metrics) -> AccessLog:
    """An access log that writes to the pipe."""
    return AccessLog(metrics, Redactor(), timer, fd=pipe.write_end, limit=500)


def record(log: AccessLog, path: str = "/things", *, status: int = 200, reason: str = "") -> None:
    """Record one request."""
    log.record(
        *(1769903999.5, b"req-1", "192.0.2.7", b"GET", path, "api", status, reason),
        *(0.0123456, None if reason else 0.0101, "alice", "auth-sidecar", "sid-1"),
    )


def test_a_line_has_every_field(log: AccessLog, pipe: Pipe, timer: Timer) -> None:
    """A line has all fields; durations are in ms, null if the upstream was not used."""
    record(log)
    record(log, status=401, reason="expired")
    timer.turn()
    allowed, denied = pipe.lines()
    assert allowed == {
        "ts": "2026-01-31T23:59:59.500Z",
        "logger": "access",
        "request_id": "req-1",
        "client": "192.0.2.7",
        "method": "GET",
        "path": "/things",
        "route": "api",
        "status": 200,
        "reason": "",
        "duration_ms": 12.346,
        "upstream_ms": 10.1,
        "subject": "alice",
        "issuer": "auth-sidecar",
        "sid": "sid-1",
        "rule": "",
        "missing": "",
    }
    assert (denied["status"], denied["reason"], denied["upstream_ms"]) == (401, "expired", None)


def test_nothing_is_written_before_the_interval(log: AccessLog, pipe: Pipe, timer: Timer) -> None:
    """Lines are written once per interval by one timer, which runs only while lines wait."""
    record(log)
    record(log)
    assert (pipe.read(), len(timer.due)) == (b"", 1)
    timer.turn()
    assert (len(pipe.lines()), len(timer.due)) == (2, 0)
    assert repr(log) == "<AccessLog 0 lines and 0 bytes waiting>"


def test_a_full_batch_is_written_at_once(log: AccessLog, pipe: Pipe) -> None:
    """A full batch is written at once, before the interval has passed."""
    for _ in range(BATCH + 1):
        record(log)
    assert pipe.lines()


def test_a_stalled_reader_costs_lines_and_no_time(
    log: AccessLog, pipe: Pipe, timer: Timer, metrics: Metrics
) -> None:
    """If the reader stalls, excess lines are dropped and counted; the rest arrive in order."""
    for number in range(2000):
        record(log, f"/{number}")
    timer.turn()
    assert metrics.access_log_dropped > 1000
    assert timer.due  # the write will be retried
    read = pipe.lines()
    while timer.due:
        timer.turn()
        read += pipe.lines()
    assert len(read) + metrics.access_log_dropped == 2000
    assert [line["path"] for line in read] == [f"/{number}" for number in range(len(read))]


def test_a_reader_that_is_gone_is_no_fault(
    log: AccessLog, pipe: Pipe, timer: Timer, metrics: Metrics
) -> None:
    """After the reader has closed the pipe, lines are dropped and counted."""
    record(log)
    os.close(pipe.read_end)
    pipe.read_end = -1
    timer.turn()
    assert metrics.access_log_dropped == 1


def test_a_pipe_that_another_writer_just_filled_is_tried_again(
    log: AccessLog, pipe: Pipe, timer: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another writer has filled the pipe, the write is retried after the next interval."""

    def full(fd: int, data: bytes) -> int:
        raise BlockingIOError

    record(log)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        timer.turn()
    assert (pipe.read(), len(timer.due)) == (b"", 1)
    timer.turn()
    assert len(pipe.lines()) == 1


def test_close_writes_what_waits(
    log: AccessLog, pipe: Pipe, timer: Timer, metrics: Metrics
) -> None:
    """Closing writes the waiting lines, counts the rest as dropped, and disarms the timer."""
    for _ in range(100):
        record(log)
    log.close()
    written = len(pipe.lines())
    assert written > 0
    assert written + metrics.access_log_dropped == 100
    timer.turn()
    assert pipe.read() == b""


@pytest.mark.parametrize("form", [pytest.param("json", id="json"), pytest.param("text", id="text")])
def test_no_token_and_no_endless_field_is_written(
    form: Any, pipe: Pipe, timer: Timer, metrics: Metrics
) -> None:
    """Tokens in a path are redacted, line ends are escaped, and long paths are shortened."""
    log = AccessLog(metrics, Redactor(), timer, form=form, fd=pipe.write_end)
    record(log, f"/a/{TOKEN}/b\n" + "x" * 30_000)
    timer.turn()
    written = pipe.read()
    assert written.count(b"\n") == 1
    assert len(written) < 1000
    assert not any(part.encode() in written for part in TOKEN.split("."))


def test_a_rule_that_denied_is_named(log: AccessLog, pipe: Pipe, timer: Timer) -> None:
    """A 403 of a known caller has the rule that denied, and what it asks for."""
    log.record(
        *(0.0, b"r", "192.0.2.7", b"GET", "/x", "verify", 403, "role", 0.01, None),
        *("alice", "auth-sidecar", "sid-1", "reports", "admin auditor"),
    )
    timer.turn()
    (line,) = pipe.lines()
    assert (line["subject"], line["rule"], line["missing"]) == ("alice", "reports", "admin auditor")


def test_a_path_cannot_look_like_another_line(pipe: Pipe, timer: Timer, metrics: Metrics) -> None:
    """In text, a path or subject of several words is quoted, so that it shows no other status."""
    log = AccessLog(metrics, Redactor(), timer, form="text", fd=pipe.write_end)
    log.record(
        *(0.5, b"r", "192.0.2.7", b"GET", "/x 200 1.0 ms admin", "api", 403, "role", 0.01, None),
        *("al ice", "auth-sidecar", "sid-1", "reports", "admin"),
    )
    timer.turn()
    assert pipe.read().decode() == (
        '00:00:00 access: GET "/x 200 1.0 ms admin" 403 (role: admin; rule reports)'
        ' 10.0 ms "al ice"\n'
    )


def test_text_is_for_a_person(pipe: Pipe, timer: Timer, metrics: Metrics) -> None:
    """A text line has the time, request, status, reason, duration and subject."""
    log = AccessLog(metrics, Redactor(), timer, form="text", fd=pipe.write_end)
    record(log)
    record(log, status=403, reason="role")
    timer.turn()
    assert pipe.read().decode().splitlines() == [
        "23:59:59 access: GET /things 200 12.3 ms alice",
        "23:59:59 access: GET /things 403 (role) 12.3 ms alice",
    ]
