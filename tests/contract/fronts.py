"""The five proxies that send subrequests, each with its sample configuration from config/.

nginx, Caddy and HAProxy are real. Traefik and Envoy are test doubles written to their contracts.
Only the three addresses that an operator would set are changed in a configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.deploy.manifests import ROOT
from tests.peers.patience import until
from tests.peers.redis_server import free_port
from tests.peers.subrequests import Envoy, Traefik, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

LISTEN: Final = "127.0.0.1:8000"
SIDECAR: Final = "127.0.0.1:5005"
APPLICATION: Final = "127.0.0.1:8080"
READY: Final = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Front:
    """One proxy: its dialect, the program it needs, and how it differs from the others.

    `away` is the client's status when the sidecar does not answer, `refusing` when the sidecar
    answers that its store is unavailable. `start` takes the ports of the sidecar and of the
    application.
    """

    name: str
    start: Callable[[int, int], AbstractAsyncContextManager[int]]
    program: str = ""  # empty for a test double
    away: int = 503
    refusing: int = 503

    def __repr__(self) -> str:
        return f"<Front {self.name}>"


def moved(name: str, addresses: Mapping[str, str]) -> str:
    """Return a sample configuration with other addresses; AssertionError if one is missing."""
    text = (ROOT / "config" / name).read_text("utf-8")
    for address, other in addresses.items():
        if address not in text:
            raise AssertionError(f"{name}: no {address} to replace")
        text = text.replace(address, other)
    return text


def behind(sidecar: int, application: int) -> dict[str, str]:
    """Return the addresses of the two servers and their replacements."""
    return {SIDECAR: f"127.0.0.1:{sidecar}", APPLICATION: f"127.0.0.1:{application}"}


@contextlib.asynccontextmanager
async def nginx(sidecar: int, application: int) -> AsyncIterator[int]:
    """Run nginx on a port that was free just before.

    With an inherited listening socket, about one start in twenty leaves a connection unanswered.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # nginx's workers run as another user and store bodies there
        config = Path(folder) / "nginx.conf"
        addresses = {LISTEN: f"127.0.0.1:{port}", **behind(sidecar, application)}
        config.write_text(moved("nginx.conf", addresses))
        argv = ["nginx", "-p", folder, "-c", str(config), "-g", "daemon off;"]
        async with running(argv, folder) as process:
            await until(lambda: process.returncode is not None or listens(port), READY)
            yield port


@contextlib.asynccontextmanager
async def haproxy(sidecar: int, application: int) -> AsyncIterator[int]:
    """Run HAProxy with an inherited listening socket, so its port is certainly free."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        config = Path(folder) / "haproxy.cfg"
        addresses = {LISTEN: f"fd@{server.fileno()}", **behind(sidecar, application)}
        config.write_text(moved("haproxy.cfg", addresses))
        (Path(folder) / "haproxy-auth.lua").write_text(moved("haproxy-auth.lua", {}))
        argv = ["haproxy", "-db", "-f", str(config)]
        async with running(argv, folder, server):
            yield int(server.getsockname()[1])


@contextlib.asynccontextmanager
async def caddy(sidecar: int, application: int) -> AsyncIterator[int]:
    """Run Caddy on a port that was free just before."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "Caddyfile"
        addresses = {"http://:8000": f"http://:{port}", **behind(sidecar, application)}
        config.write_text(moved("Caddyfile", addresses))
        argv = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
        async with running(argv, folder) as process:
            await until(lambda: process.returncode is not None or listens(port), READY)
            yield port


@contextlib.asynccontextmanager
async def traefik(sidecar: int, application: int) -> AsyncIterator[int]:
    """Run the test double for Traefik."""
    config = parse(moved("traefik.yaml", behind(sidecar, application)))
    async with Traefik(config).listen() as port:
        yield port


@contextlib.asynccontextmanager
async def envoy(sidecar: int, application: int) -> AsyncIterator[int]:
    """Run the test double for Envoy."""
    addresses = {"port_value: 5005": f"port_value: {sidecar}"}
    addresses |= {"port_value: 8080": f"port_value: {application}"}
    async with Envoy(parse(moved("envoy.yaml", addresses))).listen() as port:
        yield port


@contextlib.asynccontextmanager
async def running(
    argv: list[str], folder: str, server: socket.socket | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the program until the end; AssertionError with its log if it ends early."""
    log = Path(folder) / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, "HOME": folder, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
            pass_fds=[] if server is None else [server.fileno()],
            stdout=output,
            stderr=output,
        )
    failed = False
    try:
        yield process
    finally:
        failed = process.returncode is not None
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if failed:
            raise AssertionError(f"{argv[0]} ended: {log.read_text()}")


def listens(port: int) -> bool:
    """Return whether a server accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


FRONTS: Final = (
    Front("nginx", nginx, "nginx", refusing=403),
    Front("traefik", traefik, away=500),
    Front("caddy", caddy, "caddy"),
    Front("envoy", envoy, refusing=403),
    Front("haproxy", haproxy, "haproxy"),
)
