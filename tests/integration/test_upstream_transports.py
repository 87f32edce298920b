"""Upstreams over a unix socket and over TLS, as real servers of another implementation."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.peers.certificates import certificate
from tests.peers.raw_client import build
from tests.peers.stack import PUBLIC, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LARGE = 3_000_000  # octets, more than any buffer holds


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read() or b"x" * LARGE)


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    """An application that sends back what it got."""
    app = web.Application(client_max_size=2 * LARGE)
    app.router.add_route("*", "/{path:.*}", _echo)
    running = web.AppRunner(app)
    await running.setup()
    yield running
    await running.cleanup()


async def check(url: str, **settings: Any) -> None:
    """Small and large messages both ways over this upstream."""
    async with stack(url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        for _ in range(2):
            assert len((await client.ask(build("GET", "/"))).body) == LARGE
            body = bytes(range(256)) * (LARGE // 256)
            assert (await client.ask(build("POST", "/", body=body))).body == body


async def test_unix_socket(runner: web.AppRunner, tmp_path: Path) -> None:
    """An upstream on a unix socket."""
    path = tmp_path / "app.sock"
    await web.UnixSite(runner, path).start()
    await check(f"unix://{path}")


async def _serve_tls(runner: web.AppRunner, pem: Path) -> int:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port: int = runner.addresses[0][1]
    return port


async def test_tls(runner: web.AppRunner, tmp_path: Path) -> None:
    """An upstream over TLS whose certificate our CA file vouches for."""
    pem = certificate(tmp_path, "localhost")
    port = await _serve_tls(runner, pem)
    await check(f"https://localhost:{port}", upstream_ca_file=str(pem))


@pytest.mark.parametrize("fault", ["other-name", "unknown-issuer", "no-tls"])
async def test_untrusted_tls_is_refused(runner: web.AppRunner, tmp_path: Path, fault: str) -> None:
    """A certificate for another name or from another issuer, or none, gets nothing forwarded."""
    pem = certificate(tmp_path, "other.test" if fault == "other-name" else "localhost")
    if fault == "no-tls":
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
    else:
        port = await _serve_tls(runner, pem)
    trusted: dict[str, Any] = {} if fault == "unknown-issuer" else {"upstream_ca_file": str(pem)}
    async with stack(f"https://localhost:{port}", routes=PUBLIC, **trusted) as proxy:
        assert (await proxy.get("/")).status in {502, 503}
