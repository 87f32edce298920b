"""What developers of applications report: their credentials, paths, uploads, and odd clients."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from dataclasses import dataclass
from typing import Final

from tests.peers.program import run
from tests.peers.raw_client import build, connect
from tests.peers.scripted_upstream import reply
from tests.reports.report import Exchange, LoneReport, Report, Rows
from tests.reports.site import Setup, Site, site

COOKIES: Final = Setup('[[route]]\npath = "/*"\ncredentials = "cookie"\n')
BEARERS: Final = Setup('[[route]]\npath = "/*"\ncredentials = "bearer"\n')
ESCAPES: Final = Setup('[[route]]\npath = "/*"\npath_escapes = "pass"\n')
EVADED: Final = """
[[route]]
path = "/admin/*"
roles = ["admin"]

[[route]]
path = "/*"
path_escapes = "pass"
"""
UPLOADS: Final = 60
LOST_AT_MOST: Final = 2  # without care it was 7 to 24
OWN: Final = "Authorization: Bearer the-applications-own-token"


async def both_on_a_cookie_route(site: Site) -> None:
    """Where only cookies count, even a token of the sidecar is the application's."""
    bearer = (await site.login("admin"))["access_token"]
    answer = await site.get("/x", await site.cookie("alice"), token=bearer)
    assert answer.status == 200
    assert site.saw.fields.one("x-auth-user") == b"alice"
    assert site.saw.fields.one("authorization") == f"Bearer {bearer}".encode()


async def both_on_a_bearer_route(site: Site) -> None:
    """Where only bearer tokens count, a cookie of before does not disturb them."""
    bearer = (await site.login("admin"))["access_token"]
    assert (await site.get("/x", await site.cookie("alice"), token=bearer)).status == 200
    assert site.saw.fields.one("x-auth-user") == b"admin"


async def evasion(site: Site) -> None:
    """`sidecar check` refuses escapes beside a rule that they could evade, and names both ways."""
    file = site.folder / "evaded.toml"
    file.write_text(EVADED)
    found = await run("sidecar", "check", "--config", str(file), environ=site.environ)
    assert found.code == 2
    assert 'path_escapes = "reject"' in found.output + found.errors


async def early_answers() -> None:
    """An answer before a reset reaches the client of an upload, however much is on its way.

    The application ends a connection before the sidecar has read its answer, or after, by chance.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with site(Setup(environ=(("UPSTREAM_URL", url),))) as running:
                answers = [await asyncio.to_thread(upload, running.port) for _ in range(UPLOADS)]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            await refusing
    assert sum(b" 413 " not in each for each in answers) <= LOST_AT_MOST, answers


def refuse(listener: socket.socket) -> None:
    """Answer each request by its head, and close: what has arrived of the body makes it a reset."""
    with contextlib.suppress(OSError):  # the end of the listener
        while True:
            application, _ = listener.accept()
            with application, contextlib.suppress(ConnectionError):
                application.recv(1024)
                application.sendall(reply(b"no\n", "413 Too Large", "Connection: close"))


def upload(port: int, size: int = 8 << 20) -> bytes:
    """Send a body as far as possible, reading meanwhile; return the status line or nothing."""
    piece, sent, got, end = b"x" * 65536, 0, b"", time.monotonic() + 6
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        client.send(build("POST", "/public/x", f"Content-Length: {size}"))
        while b"no\n" not in got and time.monotonic() < end:
            writes = [client] if sent < size else []
            readable, writable, _ = select.select([client], writes, [], 0.2)
            try:
                if writable:
                    sent += client.send(piece[: size - sent])
            except ConnectionError:
                sent = size
            try:
                data = client.recv(65536) if readable else b"-"
            except ConnectionError:
                break
            if not data:
                break
            got += data if readable else b""
    return got.partition(b"\r\n")[0]


@dataclass(frozen=True, slots=True)
class RefusedAtOnce:
    """These octets are answered 400 without waiting for more, which the client never sends."""

    octets: bytes

    async def __call__(self, site: Site) -> None:
        """Send them, and wait less than for a complete head."""
        async with connect(site.port) as client:
            await client.send(self.octets)
            async with asyncio.timeout(4):
                answer = await client.response()
            assert answer.status == 400
            assert answer.closes


APPLICATIONS: Final[Rows] = (
    Report(
        "own-bearer",
        "the application's API token beside our cookie gives 400",
        Exchange(
            lines=(OWN,),
            browser="alice",
            saw={"x-auth-user": "alice", "authorization": OWN.partition(": ")[2]},
        ),
    ),
    Report(
        "only-cookies",
        "the application issues JWTs of its own, and they are taken for ours",
        both_on_a_cookie_route,
        COOKIES,
    ),
    Report(
        "only-bearers",
        "an API client inside a browser sends a cookie of before, and gets 400",
        both_on_a_bearer_route,
        BEARERS,
    ),
    *(
        Report(name, says, Exchange(target=target, user="alice"), ESCAPES)
        for name, says, target in (
            ("escaped-slash", "RabbitMQ's queues of the host / cannot be opened", "/api/q/%2F/a"),
            ("scoped-package", "npm cannot publish a scoped package", "/@scope%2fpackage"),
            ("jsessionid", "links with ;jsessionid give 400", "/shop;jsessionid=1A?a=b"),
            ("escaped-percent", "GitLab's files with % in their name give 400", "/files/50%2541"),
        )
    ),
    Report("evasion", "escapes let users past the rule for /admin", evasion),
    LoneReport("early-answer", "uploads end with a reset instead of a 413", early_answers),
    Report(
        "bare-lf",
        "a hand-made request with line feeds waits until the time limit",
        RefusedAtOnce(b"GET /public/x HTTP/1.1\nHost: sidecar.test\n\n"),
    ),
    Report(
        "bare-lf-header",
        "the same, if only a header line ends so",
        RefusedAtOnce(b"GET /public/x HTTP/1.1\r\nHost: sidecar.test\nAccept: */*\n\n"),
    ),
    Report(
        "bare-lf-chunk",
        "the same, if a chunk's line ends so",
        RefusedAtOnce(build("POST", "/public/x", "Transfer-Encoding: chunked") + b"5\nhello\n"),
    ),
    Report(
        "http2-settings",
        "HTTP2-Settings reaches an application, which then speaks HTTP/2",
        Exchange(
            target="/public/x",
            lines=("HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",),
            saw={"http2-settings": None},
        ),
    ),
)
