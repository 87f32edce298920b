"""TLS from clients: protocol versions, client certificates, limits, and how connections end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import resource
import select
import socket
import ssl
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.proxy import tls_listener
from tests.peers.certificates import certificate
from tests.peers.patience import PATIENCE, until
from tests.peers.raw_client import RawClient, Response, TruncatedError, build, connect
from tests.peers.scripted_upstream import RESET, WATCH, reply
from tests.peers.stack import PUBLIC, Stack, mint, stack
from tests.proxy.handshake import ASK, SWITCH
from tests.proxy.stalling import SETTLE, strike, thin_socket, unswept
from tests.proxy.test_time_limits import BETWEEN
from tests.proxy.test_upgrades import mirror

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.peers.scripted_upstream import ScriptedUpstream

LARGE = 3_000_000  # octets, more than any buffer holds


def arriving() -> int:
    """Return the number of handshakes in progress."""
    return sum(task.get_name() == "TLS handshake" for task in asyncio.all_tasks())


class Secure:
    """A sidecar that serves TLS, and a client context that trusts it."""

    def __init__(self, proxy: Stack, pem: Path) -> None:
        self.proxy = proxy
        self.context = ssl.create_default_context(cafile=str(pem))

    @property
    def handshakes(self) -> dict[str, int]:
        """The number of handshakes by result."""
        return self.proxy.sidecar.metrics.handshakes

    @property
    def connections(self) -> int:
        """The number of open client connections."""
        return self.proxy.sidecar.metrics.connections["downstream"]

    def client(self) -> contextlib.AbstractAsyncContextManager[RawClient]:
        """Open a connection and complete the handshake."""
        return connect(self.proxy.port, tls=self.context)

    async def ask(self, request: bytes) -> Response:
        """Send one request on a new connection."""
        async with self.client() as client:
            return await client.ask(request)


@contextlib.asynccontextmanager
async def secure(
    upstream: ScriptedUpstream, folder: Path, **settings: Any
) -> AsyncIterator[Secure]:
    """Run a sidecar that serves TLS and allows every request."""
    pem = certificate(folder, "localhost")
    files: dict[str, Any] = {"tls_cert_file": str(pem), "tls_key_file": str(pem)}
    settings = {"routes": PUBLIC, **files, **settings}
    async with stack(upstream.url, **settings) as proxy:
        yield Secure(proxy, pem)


async def test_requests_over_tls(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Small and large messages pass, and the application is told that the scheme was https."""
    body = bytes(range(256)) * (LARGE // 256)
    upstream.scripts = [[reply(b"ok")], [reply(body)]]
    async with secure(upstream, tmp_path) as tls, tls.client() as client:
        assert (await client.ask(build("GET", "/"))).body == b"ok"
        assert (await client.ask(build("POST", "/", body=body))).body == body
        assert tls.handshakes == {"ok": 1, "failed": 0, "aborted": 0}
    assert upstream.requests[0].fields.one("x-forwarded-proto") == b"https"
    assert b"proto=https" in upstream.requests[0].fields.one("forwarded")
    assert upstream.requests[1].body == body


async def test_a_login_over_tls(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A login form from the sidecar's own https origin is accepted; a cross-site form is not."""
    async with secure(upstream, tmp_path) as tls:
        form = "Content-Type: application/x-www-form-urlencoded"
        body = b"username=alice&password=pw-alice"
        own = build("POST", "/auth/login", "Origin: https://sidecar.test", form, body=body)
        assert (await tls.ask(own)).status == 303
        other = build("POST", "/auth/login", "Origin: https://other.test", form, body=body)
        assert (await tls.ask(other)).status == 403


async def test_a_websocket_over_tls(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Octets pass both ways, and a close by the client ends both sides."""
    upstream.scripts = [[SWITCH, mirror]]
    data = bytes(range(256)) * 4000
    async with secure(upstream, tmp_path) as tls:
        async with tls.client() as client:
            await client.send(build("GET", "/ws", *ASK))
            assert (await client.response()).status == 101
            await client.send(data)
            assert await client.exactly(len(data)) == data
        await until(lambda: not tls.connections)
        await until(lambda: upstream.connections[0].ended_how == "eof")


# Protocol versions


@pytest.mark.parametrize(
    ("spoken", "least", "agreed"),
    [
        ("TLSv1_1", "1.2", False),
        ("TLSv1_2", "1.2", True),
        ("TLSv1_2", "1.3", False),
        ("TLSv1_3", "1.3", True),
    ],
)
async def test_versions(
    upstream: ScriptedUpstream, tmp_path: Path, spoken: str, least: str, *, agreed: bool
) -> None:
    """The minimum version is TLS 1.2 (RFC 8996), or the configured one."""
    async with secure(upstream, tmp_path, tls_min_version=least) as tls:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            tls.context.minimum_version = ssl.TLSVersion.TLSv1
            tls.context.maximum_version = ssl.TLSVersion[spoken]
        tls.context.set_ciphers("ALL:@SECLEVEL=0")
        if agreed:
            assert (await tls.ask(build("GET", "/"))).status == 200
            return
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await tls.ask(build("GET", "/"))
        await until(lambda: tls.handshakes["failed"] == 1)


async def test_http_1_1_is_what_is_spoken(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A client that offers h2 and http/1.1 by ALPN (RFC 7301) gets http/1.1."""
    async with secure(upstream, tmp_path) as tls:
        tls.context.set_alpn_protocols(["h2", "http/1.1"])
        async with tls.client() as client:
            assert (await client.ask(build("GET", "/"))).status == 200
            agreed = client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert agreed == "http/1.1"


async def test_plain_http_is_no_handshake(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Plain HTTP on the TLS port fails the handshake, and no request is read."""
    async with secure(upstream, tmp_path) as tls:
        async with tls.proxy.client() as client:
            await client.send(build("GET", "/"))
            await client.rest()
        await until(lambda: tls.handshakes["failed"] == 1)
        assert not upstream.requests


# Client certificates

MARKS = ("Client-Cert", "Client-Cert-Chain", "client_cert", "X-Client-Cert", "X-SSL-Client-Verify")
FORGED = [f"{name}: :Zm9yZ2Vk:" for name in MARKS]


def shown(upstream: ScriptedUpstream) -> list[bytes]:
    """Return every header of the last request that could be taken for a certificate."""
    items = upstream.requests[-1].fields.items
    return [value for name, value in items if b"cert" in name.lower() or b"ssl" in name.lower()]


def der(pem: Path) -> bytes:
    """Return the certificate in a file as encoded by RFC 9440 section 2.1."""
    text = pem.read_text()
    lines = text[text.index("-----BEGIN CERTIFICATE") :]
    return b":" + base64.b64encode(ssl.PEM_cert_to_DER_cert(lines)) + b":"


def asks(pem: Path, auth: str) -> dict[str, str]:
    """Return settings that accept client certificates signed by this self-signed one."""
    return {"tls_client_auth": auth, "tls_client_ca_file": str(pem)}


@pytest.mark.parametrize("auth", ["optional", "required"])
async def test_a_good_certificate(upstream: ScriptedUpstream, tmp_path: Path, auth: str) -> None:
    """The application gets a valid client certificate, and no header the client sent about it."""
    pem = certificate(tmp_path, "client.test")
    async with secure(upstream, tmp_path, **asks(pem, auth)) as tls:
        tls.context.load_cert_chain(pem)
        async with tls.client() as client:
            for _ in range(2):
                assert (await client.ask(build("GET", "/", *FORGED))).status == 200
                assert shown(upstream) == [der(pem)]


async def test_a_certificate_is_no_token(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A valid client certificate does not replace a token where one is required."""
    pem = certificate(tmp_path, "client.test")
    settings: dict[str, Any] = {"routes": (), "session_mode": "none", **asks(pem, "required")}
    async with secure(upstream, tmp_path, **settings) as tls:
        tls.context.load_cert_chain(pem)
        assert (await tls.ask(build("GET", "/"))).status == 401
        assert upstream.requests == []
        assert (await tls.ask(build("GET", "/", token=mint()))).status == 200
    assert shown(upstream) == [der(pem)]


@pytest.mark.parametrize("auth", ["off", "optional"])
async def test_without_a_certificate(upstream: ScriptedUpstream, tmp_path: Path, auth: str) -> None:
    """Without a client certificate no certificate header passes, whatever the client sent."""
    pem = certificate(tmp_path, "client.test")
    async with secure(upstream, tmp_path, **(asks(pem, auth) if auth != "off" else {})) as tls:
        assert (await tls.ask(build("GET", "/", *FORGED))).status == 200
    assert shown(upstream) == []


@pytest.mark.parametrize("auth", ["optional", "required"])
@pytest.mark.parametrize("fault", ["unknown", "expired", "none"])
async def test_a_bad_certificate(
    upstream: ScriptedUpstream, tmp_path: Path, auth: str, fault: str
) -> None:
    """An unknown or expired certificate fails the handshake, as does a missing required one."""
    pem = certificate(tmp_path, "client.test", hours=-1 if fault == "expired" else 1)
    async with secure(upstream, tmp_path, **asks(pem, auth)) as tls:
        if fault != "none":
            other = certificate(tmp_path, "other.test")
            tls.context.load_cert_chain(pem if fault == "expired" else other)
        if auth == "optional" and fault == "none":
            assert (await tls.ask(build("GET", "/"))).status == 200
            return
        with pytest.raises((ssl.SSLError, ConnectionError, TruncatedError)):
            await tls.ask(build("GET", "/"))
        await until(lambda: tls.handshakes["failed"] == 1)
    assert not upstream.requests


async def test_a_certificate_is_looked_at_each_time(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """TLS 1.3 tickets cannot replace the certificate check: sessions are not resumed."""
    pem = certificate(tmp_path, "client.test")
    async with secure(upstream, tmp_path, **asks(pem, "required")) as tls:
        tls.context.load_cert_chain(pem)
        again = await asyncio.to_thread(_resumed, tls)
    assert not again


def _resumed(tls: Secure) -> bool:
    """Return whether a second connection resumes the session of the first."""
    session, resumed = None, None
    for _ in range(2):
        plain = socket.create_connection(("127.0.0.1", tls.proxy.port))
        with tls.context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(build("GET", "/"))
            client.recv(65536)
            session, resumed = client.session, client.session_reused
    return bool(resumed)


async def test_the_certificate_of_a_proxy(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A trusted proxy's own certificate is not forwarded; its certificate headers are."""
    pem = certificate(tmp_path, "client.test")
    settings = asks(pem, "required") | {"trusted_proxies": "127.0.0.1"}
    async with secure(upstream, tmp_path, **settings) as tls:
        tls.context.load_cert_chain(pem)
        async with tls.client() as client:
            await client.ask(build("GET", "/"))
            assert shown(upstream) == []
            told = ("Client-Cert: :YWJj:", "Client-Cert-Chain: :ZGVm:, :Z2hp:")
            await client.ask(build("GET", "/", *told, "X-SSL-Client-Verify: SUCCESS"))
            assert shown(upstream) == [b":YWJj:", b":ZGVm:, :Z2hp:"]
            for none in ("not a certificate", ":YWJj:, :ZGVm:"):
                await client.ask(build("GET", "/", f"Client-Cert: {none}"))
                assert shown(upstream) == []


# Time and number limits


async def test_who_says_nothing_is_cut(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A handshake must end within HEADER_TIMEOUT and counts as aborted otherwise."""
    async with secure(upstream, tmp_path, header_timeout="100ms") as tls:
        async with tls.proxy.client() as silent:
            assert await silent.rest() == b""
        await until(lambda: tls.handshakes["aborted"] == 1)
        assert (await tls.ask(build("GET", "/"))).status == 200


async def test_one_connection_too_many(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A TLS connection over the limit gets 503, and a freed place is reused."""
    async with secure(upstream, tmp_path, max_connections=1) as tls:
        async with tls.client() as first, tls.client() as second:
            assert (await first.ask(build("GET", "/"))).status == 200
            assert (await second.response()).status == 503
            assert (await first.ask(build("GET", "/"))).status == 200
        await until(lambda: not tls.connections)
        assert (await tls.ask(build("GET", "/"))).status == 200


async def test_a_flood_of_handshakes(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unfinished handshakes count as well: connections over the bound are closed."""
    monkeypatch.setattr(tls_listener, "ANSWERED_OVER_LIMIT", 2)
    async with secure(upstream, tmp_path, max_connections=1) as tls:
        async with contextlib.AsyncExitStack() as silent:
            for _ in range(3):
                await silent.enter_async_context(tls.proxy.client())
            async with tls.proxy.client() as one_more:
                assert await one_more.rest() == b""
        await until(lambda: tls.handshakes["aborted"] == 3)


async def test_one_address_with_many(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Connections of one address over its limit are closed before the costly handshake."""
    async with secure(upstream, tmp_path, max_connections_per_address=2) as tls:
        async with tls.client() as first, tls.proxy.client() as silent:
            assert (await first.ask(build("GET", "/"))).status == 200
            await until(lambda: arriving() == 1)
            async with tls.proxy.client() as one_more:
                assert await one_more.rest() == b""
            silent.close()
            await until(lambda: tls.handshakes["aborted"] == 1)
            assert (await tls.ask(build("GET", "/"))).status == 200
        await until(lambda: not tls.connections)
        async with tls.client() as again, tls.client() as other:
            assert (await again.ask(build("GET", "/"))).status == 200
            assert (await other.ask(build("GET", "/"))).status == 200
        assert tls.handshakes == {"ok": 4, "failed": 0, "aborted": 1}
        assert tls.proxy.sidecar.metrics.clients_refused["address"] == 1


async def test_no_more_files(
    upstream: ScriptedUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When it has run out of file descriptors, the listener logs that, pauses and recovers."""
    monkeypatch.setattr(tls_listener, "PAUSE", 0.05)
    caplog.set_level(logging.WARNING)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with secure(upstream, tmp_path) as tls:
        with contextlib.closing(socket.socket()) as client, contextlib.closing(socket.socket()):
            client.setblocking(False)
            highest = socket.socket()
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno(), hard))
            highest.close()
            free = []
            with contextlib.suppress(OSError):
                while True:
                    free.append(socket.socket())  # leave no free descriptor below the limit
            try:
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", tls.proxy.port))
                await until(lambda: "no client can be accepted" in caplog.text)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in free:
                    each.close()
        assert (await tls.ask(build("GET", "/"))).status == 200


# How connections end


async def test_a_refusal_reaches_who_still_sends(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A denial reaches a client that still sends: reading continues, so no reset destroys it."""
    async with secure(upstream, tmp_path, routes=()) as tls:
        answer = await asyncio.to_thread(_send_all_then_read, tls)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nConnection: close\r\n" in answer
        await until(lambda: not tls.connections)


def _send_all_then_read(tls: Secure) -> bytes:
    """Act as a simple client whose body begins after the answer has already arrived."""
    tls.context.maximum_version = ssl.TLSVersion.TLSv1_2  # else tickets come before the answer
    plain = socket.create_connection(("127.0.0.1", tls.proxy.port))
    with tls.context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(build("POST", "/", f"Content-Length: {LARGE}"))
        select.select([client], [], [])
        for _ in range(30):
            client.sendall(b"x" * 10_000)
        return client.recv(65536)


async def test_the_rest_of_a_last_answer(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A slow reader gets all of its last answer; a client that then stays open is cut off."""
    upstream.scripts = [[reply(BETWEEN)]]
    async with secure(upstream, tmp_path) as tls:
        shared = tls.proxy.sidecar.context
        assert shared is not None
        shared.limits = replace(shared.limits, linger=0.01)
        unswept(tls.proxy)
        with contextlib.closing(await asyncio.to_thread(_thin, tls)) as client:
            await asyncio.to_thread(client.sendall, build("GET", "/", "Connection: close"))
            await until(lambda: tls.proxy.sidecar.metrics.allowed == 1 and not in_flight(tls))
            await asyncio.sleep(10 * shared.limits.linger)
            strike(tls.proxy, shared.limits.linger)
            answer = await asyncio.to_thread(_take_all, client)
            assert answer.endswith(b"\r\n\r\n" + BETWEEN)
            assert tls.connections == 1
            await _struck(tls, shared.limits.linger)


async def test_half_a_record_is_no_request(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """An incomplete TLS record on an idle connection gets HEADER_TIMEOUT to be completed."""
    async with secure(upstream, tmp_path) as tls:
        shared = tls.proxy.sidecar.context
        assert shared is not None
        unswept(tls.proxy)
        with contextlib.closing(await asyncio.to_thread(_thin, tls)) as client:
            await asyncio.to_thread(client.sendall, build("GET", "/"))
            assert await asyncio.to_thread(client.recv, 12) == b"HTTP/1.1 200"
            socket.socket.send(client, b"\x17\x03\x03")  # bypasses TLS
            strike(tls.proxy, shared.limits.idle_timeout)
            await asyncio.sleep(SETTLE)
            assert tls.connections == 1
            await _struck(tls, shared.limits.header_timeout)


async def _struck(tls: Secure, limit: float) -> None:
    """Sweep as if this many seconds had passed, until the client has been cut off."""

    def gone() -> bool:
        strike(tls.proxy, limit)
        return not tls.connections

    await until(gone)


def in_flight(tls: Secure) -> int:
    """Return the number of unanswered requests."""
    return tls.proxy.sidecar.metrics.in_flight


def _thin(tls: Secure) -> ssl.SSLSocket:
    """Connect a client behind a thin link."""
    sock = thin_socket()
    sock.connect(("127.0.0.1", tls.proxy.port))
    return tls.context.wrap_socket(sock, server_hostname="localhost")


def _take_all(client: ssl.SSLSocket) -> bytes:
    """Read until the peer's end of TLS, and leave the connection open."""
    answer = bytearray()
    while part := client.recv(65536):
        answer += part
    return bytes(answer)


async def test_who_ends_its_side_has_left(
    upstream: ScriptedUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio's TLS closes both directions at once, so the client's request is dropped."""
    upstream.scripts = [[WATCH]]
    async with secure(upstream, tmp_path) as tls:
        async with tls.client() as client:
            await client.send(build("GET", "/"))
            await upstream.arrived()
            client.writer.close()
            await until(lambda: not tls.connections)
        await until(lambda: upstream.connections[0].ended_how is not None)
        assert tls.proxy.sidecar.metrics.in_flight == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_broken_answer_is_seen_to_be_broken(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """If the upstream resets an answer without a length, the client sees no clean end of TLS."""
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf", RESET]]
    async with secure(upstream, tmp_path) as tls, tls.client() as client:
        with pytest.raises((TruncatedError, ssl.SSLError)) as broken:
            await client.ask(build("GET", "/"))
        assert getattr(broken.value, "how", "reset") == "reset"


async def test_leaving_while_one_arrives(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A client in mid-handshake when the port closes can finish it and gets one answer."""
    async with secure(upstream, tmp_path) as tls:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", tls.proxy.port))
        await until(lambda: arriving() == 1)
        leaving = asyncio.create_task(tls.proxy.sidecar.stop())
        await until(lambda: tls.proxy.sidecar.draining)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=tls.context, server_hostname="localhost"
        )
        client = RawClient(reader, writer)
        answer = await client.ask(build("GET", "/"))
        assert answer.status == 200
        assert answer.closes
        client.close()
        await leaving


@pytest.mark.parametrize("timeout", ["50ms", "1h"])
async def test_leaving_does_not_wait_for_who_says_nothing(
    upstream: ScriptedUpstream, tmp_path: Path, timeout: str
) -> None:
    """On stop, a silent handshake is cut off after DRAIN_TIMEOUT or sooner."""
    settings = {"drain_timeout": timeout, "header_timeout": "1h"}
    async with secure(upstream, tmp_path, **settings) as tls, tls.proxy.client() as silent:
        await until(lambda: arriving() == 1)
        async with asyncio.timeout(PATIENCE):
            await tls.proxy.sidecar.stop()
        assert await silent.rest() == b""
