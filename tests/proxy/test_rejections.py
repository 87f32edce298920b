"""What is refused before it has a route can be found: in the log, in the metric, in the answer."""

from __future__ import annotations

import json
import logging
import os
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.auth.reason import Reason
from sidecar.errors import Malformed
from sidecar.proxy.accounting import Refused
from sidecar.proxy.context import DataPlaneConfig, Limits
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.log_limit import INTERVAL, LINES
from sidecar.telemetry.logs import Redactor
from sidecar.wire.replies import ReplyTemplate
from tests.peers.raw_client import build
from tests.proxy.memory_plane import PUBLIC, Plane, rest
from tests.proxy.test_error_pages import BROWSER, check_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.peers.stack import Stack
    from tests.proxy.crank import Crank

SECRET: Final = "hunter2-in-a-request"
Lines = list[dict[str, Any]]


@pytest.fixture
def plane(caplog: pytest.LogCaptureFixture) -> Plane:
    """A data plane in front of an application, whose log lines are captured."""
    caplog.set_level(logging.INFO, "tests.memory_plane")
    return Plane(PUBLIC)


@pytest.fixture
def read_access_log(plane: Plane, tmp_path: Path) -> Iterator[Callable[[], Lines]]:
    """Write the access log of denied requests to a file; the value reads what is there."""
    file = tmp_path / "log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)
    log = AccessLog(plane.context.metrics, Redactor(()), lambda *_: None, fd=fd)
    plane.context.access_log = log

    def read() -> Lines:
        log.flush()
        return [json.loads(line) for line in file.read_text().splitlines()]

    yield read
    os.close(fd)


def noted(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return the fields of the lines about malformed requests."""
    return [vars(each) for each in caplog.records if each.getMessage() == "malformed request"]


def answer_of(raw: bytes) -> tuple[int, dict[str, Any]]:
    """Return the status and the problem document of an answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def head(line: str = "GET / HTTP/1.1", *lines: str) -> bytes:
    """Return a request head that contains a secret."""
    return "\r\n".join((line, "Host: x", f"Cookie: a={SECRET}", *lines, "", "")).encode("latin-1")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"\x16\x03\x01" + SECRET.encode(), (400, "not_http"), id="tls"),
        pytest.param(
            f"GET /{SECRET}\r\nHost: x\r\n\r\n".encode(), (400, "request_line"), id="line"
        ),
        pytest.param(head(f"GET /{SECRET}/../x HTTP/1.1"), (400, "path"), id="path"),
        pytest.param(head(f"GET /?{SECRET}#x HTTP/1.1"), (400, "query"), id="query"),
        pytest.param(head(f"GET {SECRET} HTTP/1.1"), (400, "target"), id="target"),
        pytest.param(head(f"get /{SECRET} HTTP/1.1"), (501, "method"), id="method"),
        pytest.param(head("TRACE / HTTP/1.1"), (405, "method"), id="trace"),
        pytest.param(head("GET / HTTP/2.0"), (505, "version"), id="version"),
        pytest.param(head("GET / HTTP/1.1", f"{SECRET} : x"), (400, "header_name"), id="name"),
        pytest.param(head("GET / HTTP/1.1", f"A: {SECRET}\0"), (400, "header_line"), id="value"),
        pytest.param(head("GET / HTTP/1.1", f"Host: {SECRET}"), (400, "host"), id="host"),
        pytest.param(head("GET / HTTP/1.1", *["A: b"] * 101), (431, "header_count"), id="count"),
        pytest.param(head("GET / HTTP/1.1", "A: " + SECRET * 2000), (431, "head_size"), id="size"),
        pytest.param(head(f"GET /{SECRET * 2000} HTTP/1.1"), (414, "head_size"), id="target-size"),
        pytest.param(head("GET / HTTP/1.1", f"A: b\n{SECRET}: c"), (400, "line_ending"), id="lf"),
        pytest.param(head("GET / HTTP/1.1", "Content-Length: x"), (400, "content_length"), id="cl"),
        pytest.param(
            head("GET / HTTP/1.1", "Transfer-Encoding: gzip"), (501, "transfer_encoding"), id="te"
        ),
        pytest.param(
            head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + SECRET.encode() + b"\r\n",
            (400, "chunk"),
            id="chunk",
        ),
    ],
)
async def test_what_is_refused_can_be_found(
    plane: Plane,
    read_access_log: Callable[[], Lines],
    caplog: pytest.LogCaptureFixture,
    raw: bytes,
    expected: tuple[int, str],
) -> None:
    """Answer, log, access log and metric agree on reason and request id, and quote nothing."""
    status, reason = expected
    wire = plane.connect()
    wire.feed(raw)
    answered, problem = answer_of(wire.take())
    assert (answered, problem["status"], problem["reason"]) == (status, status, reason)
    (line,) = noted(caplog)
    (entry,) = read_access_log()
    for found in (line, entry):
        assert (found["reason"], found["status"]) == (reason, status)
        assert found["client"] == "192.0.2.1"
        assert found["request_id"] == problem["request_id"]
    assert entry["route"] == "malformed"
    assert {word: n for word, n in plane.context.metrics.malformed.items() if n} == {reason: 1}
    assert SECRET not in f"{line} {entry} {problem}"


async def test_a_head_that_does_not_arrive(
    plane: Plane, read_access_log: Callable[[], Lines], crank: Crank
) -> None:
    """A head that is not complete in time is a reason as well."""
    wire = plane.connect()
    wire.feed(f"GET /{SECRET}".encode())
    crank.turn(plane, Limits().header_timeout + 1)
    assert answer_of(wire.take())[1]["reason"] == "incomplete"
    assert [entry["reason"] for entry in read_access_log()] == ["incomplete"]


async def test_a_proxys_client_is_named(
    plane: Plane, read_access_log: Callable[[], Lines], caplog: pytest.LogCaptureFixture
) -> None:
    """If only the target is wrong, the proxy's client and request id are known and used."""
    trusted = [ip_network("192.0.2.0/24")]
    plane.context.apply(DataPlaneConfig(routes=plane.context.routes, trusted_proxies=trusted))
    lines = ("X-Forwarded-For: 198.51.100.7", "X-Request-Id: from-the-ingress")
    wire = plane.connect()
    wire.feed(head("GET /ok HTTP/1.1", *lines[:1]))  # another request on the same connection
    await rest()
    wire = plane.connect()
    wire.feed(head("PUT /a/../b HTTP/1.1", *lines))
    assert answer_of(wire.take())[1]["request_id"] == "from-the-ingress"
    for found in (*noted(caplog), *read_access_log()):
        assert found["client"] == "198.51.100.7"
        assert found["request_id"] == "from-the-ingress"
    assert [entry["method"] for entry in read_access_log()] == ["PUT"]


async def test_nothing_of_an_earlier_request_is_used(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    """A faulty head section gets neither client nor request id of the request before it."""
    plane.context.trusted_proxies = [ip_network("192.0.2.0/24")]
    wire = plane.connect()
    before = ("X-Forwarded-For: 198.51.100.7", "X-Request-Id: before")
    await plane.ask(wire, head("GET / HTTP/1.1", *before))
    wire.take()
    wire.feed(head("GET /a/../b HTTP/1.0", "X-Forwarded-For: 198.51.100.8", "A\0: b"))
    wire.take()
    (line,) = noted(caplog)
    assert line["client"] == "192.0.2.1"
    assert line["request_id"] != "before"


async def test_one_client_cannot_fill_the_log(
    plane: Plane, caplog: pytest.LogCaptureFixture, crank: Crank
) -> None:
    """Each client gets one line of a kind in a minute, and all of them together a few."""
    for _ in range(20):
        plane.connect().feed(head("GET /.. HTTP/1.1"))
    for n in range(20):  # one client has a whole /64
        plane.connect(address=f"2001:db8::{n + 1:x}").feed(head("GET /.. HTTP/1.1"))
    assert [line["client"] for line in noted(caplog)] == ["192.0.2.1", "2001:db8::1"]
    for n in range(200):
        plane.connect(address=f"198.51.100.{n}").feed(head("GET /.. HTTP/1.1"))
    assert len(noted(caplog)) == LINES
    assert plane.context.metrics.malformed["path"] == 240
    crank.now += INTERVAL
    plane.connect().feed(head("GET /.. HTTP/1.1"))
    assert sum(line["left_out"] for line in noted(caplog)) == 240 - LINES


async def test_a_person_sees_a_page(proxy: Stack) -> None:
    """A person whose link has an ambiguous path gets a page; a HEAD of it has no body."""
    answer = await proxy.ask(build("GET", "/a/../b", *BROWSER, "X-Request-Id: abc-123"))
    check_page(answer, 400, "Bad Request")
    assert answer.fields.one("x-request-id") == b"abc-123"
    assert (await proxy.ask(build("HEAD", "/a/../b"))).body == b""


@pytest.mark.parametrize(
    ("peer", "link"),
    [("192.0.2.1", b'"/shop/auth/login"'), ("198.51.100.7", b'"/auth/login"')],
)
async def test_a_page_below_a_prefix(plane: Plane, peer: str, link: bytes) -> None:
    """The link of this page, too, begins with what a trusted proxy has removed from the path."""
    page = ReplyTemplate(b"HTTP/1.1 400 Bad Request\r\n", b'<a href="/auth/login">', b"</a>")
    config = DataPlaneConfig(
        routes=plane.context.routes,
        trusted_proxies=[ip_network("192.0.2.0/24")],
        pages={400: page},
    )
    plane.context.apply(config)
    wire = plane.connect(address=peer)
    wire.feed(head("GET /a/../b HTTP/1.1", *BROWSER, "X-Forwarded-Prefix: /shop"))
    assert b"<a href=" + link in wire.take()


async def test_a_body_that_breaks_off_an_answer(
    plane: Plane, read_access_log: Callable[[], Lines], caplog: pytest.LogCaptureFixture
) -> None:
    """A malformed body of a request that has a route is denied there, with its reason."""
    wire = plane.connect()
    wire.feed(head("POST /upload HTTP/1.1", "Transfer-Encoding: chunked"))
    await rest()
    wire.feed(b"5\r\n" + b"x" * 9 + b"\r\n")
    assert answer_of(wire.take())[1]["reason"] == "chunk"
    (entry,) = read_access_log()
    assert (entry["route"], entry["path"], entry["reason"]) == (
        plane.context.routes.routes[0].name,
        "/upload",
        "chunk",
    )
    assert noted(caplog)[0]["request_id"] == entry["request_id"]
    assert plane.context.metrics.malformed["chunk"] == 1


async def test_max_forwards(plane: Plane) -> None:
    """A fault that is found after the decision has its reason in the answer as well."""
    wire = plane.connect()
    wire.feed(head("OPTIONS / HTTP/1.1", "Max-Forwards: x"))
    assert answer_of(wire.take())[1]["reason"] == "max_forwards"


async def test_limits_are_in_the_access_log(
    plane: Plane, read_access_log: Callable[[], Lines]
) -> None:
    """Who is turned away for a limit finds the answer's request id in the access log."""
    plane.context.limits = Limits(connections=1)
    plane.connect()
    wire = plane.connect()
    status, problem = answer_of(wire.take())
    assert status == 503
    assert "reason" not in problem
    (entry,) = read_access_log()
    assert (entry["reason"], entry["status"]) == ("connections", 503)
    assert entry["request_id"] == problem["request_id"]
    assert set(plane.context.metrics.malformed.values()) == {0}


async def test_a_good_request_is_neither_counted_nor_logged(
    plane: Plane, read_access_log: Callable[[], Lines], caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is in order leaves no trace here."""
    await plane.ask(plane.connect(), head())
    assert (noted(caplog), read_access_log()) == ([], [])
    assert set(plane.context.metrics.malformed) == set(Malformed)


def test_a_word_has_one_meaning() -> None:
    """No two reasons have the same word: all of them are in one field of the access log."""
    words = [*(reason.label for reason in Reason), *Malformed, *Refused]
    assert len(words) == len(set(words))
