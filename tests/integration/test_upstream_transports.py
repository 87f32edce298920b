"""Upstreams over a Unix socket and over TLS, with real servers of another implementation."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sidecar.app.build import make_components
from sidecar.errors import ConfigError
from tests.peers.certificates import certificate
from tests.peers.raw_client import build
from tests.peers.stack import PUBLIC, configure, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LARGE = 3_000_000  # octets, more than any buffer holds


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read() or b"x" * LARGE)


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    """An application that echoes request bodies."""
    app = web.Application(client_max_size=2 * LARGE)
    app.router.add_route("*", "/{path:.*}", _echo)
    running = web.AppRunner(app)
    await running.setup()
    yield running
    await running.cleanup()


async def check(url: str, **settings: Any) -> None:
    """Check that small and large messages pass both ways over this upstream."""
    async with stack(url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        for _ in range(2):
            assert len((await client.ask(build("GET", "/"))).body) == LARGE
            body = bytes(range(256)) * (LARGE // 256)
            assert (await client.ask(build("POST", "/", body=body))).body == body


async def test_unix_socket(runner: web.AppRunner, tmp_path: Path) -> None:
    """Messages pass to an upstream on a Unix socket."""
    path = tmp_path / "app.sock"
    await web.UnixSite(runner, path).start()
    await check(f"unix://{path}")


async def _serve_tls(runner: web.AppRunner, pem: Path, clients: Path | None = None) -> int:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port: int = runner.addresses[0][1]
    return port


async def test_tls(runner: web.AppRunner, tmp_path: Path) -> None:
    """Messages pass to a TLS upstream whose certificate is in the configured CA file."""
    pem = certificate(tmp_path, "localhost")
    port = await _serve_tls(runner, pem)
    await check(f"https://localhost:{port}", upstream_ca_file=str(pem))


@pytest.mark.parametrize("fault", ["other-name", "unknown-issuer", "no-tls"])
async def test_untrusted_tls_is_refused(runner: web.AppRunner, tmp_path: Path, fault: str) -> None:
    """Nothing is forwarded to an upstream with an untrusted certificate or without TLS."""
    pem = certificate(tmp_path, "other.test" if fault == "other-name" else "localhost")
    if fault == "no-tls":
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
    else:
        port = await _serve_tls(runner, pem)
    trusted: dict[str, Any] = {} if fault == "unknown-issuer" else {"upstream_ca_file": str(pem)}
    async with stack(f"https://localhost:{port}", routes=PUBLIC, **trusted) as proxy:
        assert (await proxy.get("/")).status in {502, 503}


async def test_a_client_certificate(runner: web.AppRunner, tmp_path: Path) -> None:
    """An upstream that requires a client certificate gets the sidecar's."""
    pem, ours = certificate(tmp_path, "localhost"), certificate(tmp_path, "sidecar.test")
    port = await _serve_tls(runner, pem, clients=ours)
    url = f"https://localhost:{port}"
    trusted: dict[str, Any] = {"upstream_ca_file": str(pem)}
    shown = {"upstream_cert_file": str(ours), "upstream_key_file": str(ours)}
    await check(url, **trusted, **shown)
    async with stack(url, routes=PUBLIC, **trusted) as proxy:
        assert (await proxy.get("/")).status in {502, 503}


async def test_another_name_than_that_of_the_url(runner: web.AppRunner, tmp_path: Path) -> None:
    """`upstream_server_name` is checked in place of the host name in the URL."""
    pem = certificate(tmp_path, "app.test")
    port = await _serve_tls(runner, pem)
    url = f"https://127.0.0.1:{port}"
    trusted: dict[str, Any] = {"upstream_ca_file": str(pem)}
    await check(url, **trusted, upstream_server_name="app.test")
    async with stack(url, routes=PUBLIC, **trusted, upstream_server_name="b.test") as proxy:
        assert (await proxy.get("/")).status in {502, 503}


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
async def test_old_versions_are_not_spoken(
    runner: web.AppRunner, tmp_path: Path, version: str
) -> None:
    """An upstream that speaks only TLS 1.0 or 1.1 is refused (RFC 8996)."""
    pem = certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("ALL:@SECLEVEL=0")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}"
    async with stack(url, routes=PUBLIC, upstream_ca_file=str(pem)) as proxy:
        assert (await proxy.get("/")).status in {502, 503}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"upstream_cert_file": "a.pem"}, "together; only one is set"),
        ({"upstream_cert_file": "a.pem", "upstream_key_file": "b.pem"}, "and its private key"),
        ({"upstream_cert_file": "a.pem", "upstream_key_file": "none"}, "cannot be read"),
        ({"upstream_cert_file": "a.pem", "upstream_key_file": "locked"}, "without a password"),
        ({"upstream_url": "http://localhost:1", "upstream_server_name": "b"}, "expected https"),
    ],
)
def test_what_is_wrong_with_certificates(
    tmp_path: Path, changed: dict[str, str], problem: str
) -> None:
    """Certificate errors are reported at startup with their setting, without a password prompt."""
    for name in ("a", "b"):
        certificate(tmp_path, name)
    key = load_pem_private_key((tmp_path / "a.pem").read_bytes(), None)
    (tmp_path / "locked").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    named: dict[str, Any] = {
        name: str(tmp_path / value) if name.endswith("_file") else value
        for name, value in changed.items()
    }
    with pytest.raises(ConfigError) as raised:
        make_components(configure(tmp_path, **{"upstream_url": "https://localhost:1", **named}))
    assert [str(one) for one in raised.value.problems if problem in str(one)]
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("how", ["in-order", "cut"])
async def test_an_answer_without_an_end_of_its_own(tmp_path: Path, how: str) -> None:
    """Over TLS a close_notify, not a FIN, ends an answer that only the close delimits.

    An attacker on the network can send a FIN and so cut the answer short (RFC 9112 section 9.8).
    """
    pem = certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    def serve(listening: socket.socket) -> None:
        plain, _ = listening.accept()
        with plain, context.wrap_socket(plain, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
            if how == "in-order":
                secured.unwrap().close()
            else:
                secured.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(asyncio.to_thread(serve, listening))
        url = f"https://localhost:{listening.getsockname()[1]}"
        async with (
            stack(url, routes=PUBLIC, upstream_ca_file=str(pem)) as proxy,
            proxy.client() as client,
        ):
            await client.send(build("GET", "/"))
            await client.until(b"half of it")
            assert await client.ended() == ("eof" if how == "in-order" else "reset")
        await serving
