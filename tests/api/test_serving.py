"""What the control plane and the admin port say about requests that aiohttp cannot serve."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.telemetry.logs import JsonFormatter, Redactor
from tests.peers.raw_client import build, connect
from tests.peers.scripted_upstream import ScriptedUpstream, reply
from tests.peers.stack import stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.peers.stack import Stack

MARK: Final = b"PRIVATE-VALUE"
LONG: Final = MARK + b"a" * 9000


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, at every level, as the program writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(Redactor(cookie="sid")))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
async def running() -> AsyncIterator[Stack]:
    """A sidecar whose session cookie has a name of its own."""
    async with ScriptedUpstream() as upstream:
        upstream.scripts = [[reply(b"ok")]]
        async with stack(upstream.url, session_cookie="sid") as made:
            yield made


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"Cookie: sid=" + LONG, id="cookie"),
        pytest.param(b"Authorization: Basic " + LONG, id="authorization"),
        pytest.param(b"X-Api-Key: " + LONG, id="any header"),
        pytest.param(b"X-Api-Key: " + MARK + b"a" * 32_000, id="almost a whole head"),
        pytest.param(b"X-" + LONG + b": 1", id="a header's name"),
        pytest.param(b"\r\n".join(b"X-%d: 1" % n for n in range(98)), id="many headers"),
        pytest.param(b"X-Forwarded-For: " + b"1, " * 3000, id="a chain of proxies"),
    ],
)
async def test_a_head_within_the_limits_is_read(
    running: Stack, log: io.StringIO, line: bytes
) -> None:
    """The control plane reads every head that the data plane accepts, and logs nothing of it."""
    answer = await running.ask(b"GET /auth/login HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
    assert answer.status == 200
    assert MARK.decode() not in log.getvalue()
    assert answer.fields.one("server") == b"sidecar"


async def test_a_long_target_is_read(running: Stack, log: io.StringIO) -> None:
    """A long query is served, and a long path gets the ordinary 404."""
    for target, status in ((b"/auth/login?rd=" + LONG, 200), (b"/auth/" + LONG, 404)):
        answer = await running.ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == status
        assert answer.fields.one("server") == b"sidecar"
    assert MARK.decode() not in log.getvalue()


@pytest.mark.parametrize(
    ("line", "lines", "status"),
    [
        pytest.param(MARK + b" /auth/login", b"", 400, id="method"),
        pytest.param(b"GET /auth/login", b"Expect: " + MARK + b"\r\n", 417, id="Expect"),
        pytest.param(b"GET /auth/nothing", b"Expect: " + MARK + b"\r\n", 417, id="no page"),
    ],
)
async def test_what_aiohttp_refuses(
    running: Stack, log: io.StringIO, line: bytes, lines: bytes, status: int
) -> None:
    """A request that aiohttp refuses gets a problem document without its bytes or a version."""
    answer = await running.ask(line + b" HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    assert answer.status == status
    assert answer.fields.one("content-type") == b"application/problem+json"
    assert answer.fields.one("server") == b"sidecar"
    assert answer.json()["status"] == status
    assert MARK not in answer.body
    assert MARK.decode() not in log.getvalue()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(
            b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + MARK * 4000 + b"\r\n\r\n", 431, id="long"
        ),
        pytest.param(MARK + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="method"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + MARK + b"\r\n\r\n", 400, id="no colon"),
        pytest.param(
            b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: " + MARK + b"\r\n\r\n",
            400,
            id="length",
        ),
        pytest.param(
            b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: " + MARK + b"\r\n\r\n", 417, id="Expect"
        ),
        pytest.param(MARK + b"\r\n\r\n", 400, id="not HTTP"),
    ],
)
async def test_the_admin_port(
    running: Stack, log: io.StringIO, request_: bytes, status: int
) -> None:
    """The admin port, which has a data plane of its own, shows and logs nothing either."""
    async with connect(running.sidecar.admin_port) as client:
        answer = await client.ask(request_)
    assert answer.status == status
    assert answer.fields.all("server") in ([], [b"sidecar"])
    assert answer.fields.one("content-type") == b"application/problem+json"
    assert MARK not in answer.body
    assert MARK.decode() not in log.getvalue()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status", "/nothing"])
async def test_no_version_on_the_admin_port(running: Stack, path: str) -> None:
    """No answer of the admin port shows the server's version."""
    async with connect(running.sidecar.admin_port) as client:
        answer = await client.ask(build("GET", path))
    assert answer.fields.one("server") == b"sidecar"


DEEP: Final = {
    "objects": b'{"x":' * 5000 + b"1" + b"}" * 5000,
    "lists": b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh", "/auth/logout"])
@pytest.mark.parametrize("deep", DEEP)
async def test_deep_json(running: Stack, path: str, deep: str) -> None:
    """Deeply nested JSON is the client's fault: 400."""
    content = "Content-Type: application/json"
    tokens = await running.login()
    body = DEEP[deep]
    answer = await running.ask(build("POST", path, content, body=body, token=tokens.access))
    assert answer.status == 400
    assert b"not valid JSON" in answer.body
