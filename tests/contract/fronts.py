"""The five proxies that send subrequests, each real and with its sample configuration from config/.

Only the addresses that an operator would set are changed in a configuration. A proxy runs as a
process of its own for as long as its context lasts, whatever event loop a test uses.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import socket
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.peers.program import TREE
from tests.peers.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

LISTEN: Final = "127.0.0.1:8000"
SIDECAR: Final = "127.0.0.1:5005"
APPLICATION: Final = "127.0.0.1:8080"
READY: Final = 20.0  # seconds
SCRIPTS: Final = Path(sysconfig.get_path("scripts"))  # where wheels install their programs
_END: Final = 2.0  # seconds for a proxy to end by itself
UNCHANGED: Final[Mapping[str, str]] = {}  # parts of a sample configuration to replace


@dataclass(frozen=True, slots=True)
class Front:
    """One proxy: its dialect, the program it needs, and how it differs from the others.

    `away` is the client's status when the sidecar does not answer, `refusing` when the sidecar
    answers that its store is unavailable. `start` takes the ports of the sidecar and of the
    application.
    """

    name: str
    start: Callable[[int, int], AbstractContextManager[int]]
    program: str
    away: int = 503
    refusing: int = 503

    def __repr__(self) -> str:
        return f"<Front {self.name}>"


def moved(name: str, addresses: Mapping[str, str]) -> str:
    """Return a sample configuration with other addresses; AssertionError if one is missing."""
    text = (TREE / "config" / name).read_text("utf-8")
    for address, other in addresses.items():
        if address not in text:
            raise AssertionError(f"{name}: no {address} to replace")
        text = text.replace(address, other)
    return text


def behind(sidecar: int, application: int) -> dict[str, str]:
    """Return the addresses of the two servers and their replacements."""
    return {SIDECAR: f"127.0.0.1:{sidecar}", APPLICATION: f"127.0.0.1:{application}"}


@contextlib.contextmanager
def nginx(sidecar: int, application: int, changes: Mapping[str, str] = UNCHANGED) -> Iterator[int]:
    """Run nginx on a port that was free just before.

    With an inherited listening socket, about one start in twenty leaves a connection unanswered.
    """
    port = free_port(sidecar, application)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # nginx's workers run as another user and store bodies there
        config = Path(folder) / "nginx.conf"
        addresses = {LISTEN: f"127.0.0.1:{port}", **behind(sidecar, application)}
        config.write_text(moved("nginx.conf", {**addresses, **changes}))
        with running(["nginx", "-p", folder, "-c", str(config), "-g", "daemon off;"], folder, port):
            yield port


@contextlib.contextmanager
def haproxy(sidecar: int, application: int) -> Iterator[int]:
    """Run HAProxy on a port that was free just before."""
    port = free_port(sidecar, application)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        addresses = {LISTEN: f"127.0.0.1:{port}", **behind(sidecar, application)}
        config.write_text(moved("haproxy.cfg", addresses))
        (Path(folder) / "haproxy-auth.lua").write_text(moved("haproxy-auth.lua", {}))
        with running(["haproxy", "-db", "-f", str(config)], folder, port):
            yield port


@contextlib.contextmanager
def caddy(sidecar: int, application: int) -> Iterator[int]:
    """Run Caddy on a port that was free just before."""
    port = free_port(sidecar, application)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "Caddyfile"
        addresses = {"http://:8000": f"http://:{port}", **behind(sidecar, application)}
        config.write_text(moved("Caddyfile", addresses))
        argv = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
        with running(argv, folder, port):
            yield port


@contextlib.contextmanager
def traefik(
    sidecar: int, application: int, changes: Mapping[str, str] = UNCHANGED
) -> Iterator[int]:
    """Run Traefik with the command that its configuration gives, below a folder of the same name.

    Traefik reads /etc/traefik/traefik.yaml first, if there is one.
    """
    port = free_port(sidecar, application)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config" / "traefik.yaml"
        config.parent.mkdir()
        addresses = {LISTEN: f"127.0.0.1:{port}", **behind(sidecar, application)}
        text = moved("traefik.yaml", {**addresses, **changes})
        config.write_text(text)
        with running(command_in(text), folder, port) as process:
            wait_until(lambda: process.poll() is not None or not _has_no_routes(port))
            yield port


def command_in(text: str) -> list[str]:
    """Return the command in the comment at the start of a configuration."""
    comment = text.partition("\n\n")[0].replace("\\\n#", "")
    [command] = [line for line in comment.splitlines() if line.startswith("#     traefik ")]
    return [*shlex.split(command.removeprefix("#")), "--global.checkNewVersion=false"]


@contextlib.contextmanager
def envoy(sidecar: int, application: int, changes: Mapping[str, str] = UNCHANGED) -> Iterator[int]:
    """Run Envoy on a port that was free just before."""
    port = free_port(sidecar, application)
    addresses = {
        "port_value: 8000": f"port_value: {port}",
        "port_value: 5005": f"port_value: {sidecar}",
        "port_value: 8080": f"port_value: {application}",
        SIDECAR: f"127.0.0.1:{sidecar}",
    }
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "envoy.yaml"
        config.write_text(moved("envoy.yaml", {**addresses, **changes}))
        argv = ["envoy", "-c", str(config), "--concurrency", "1", "--log-level", "warning"]
        with running([*argv, "--disable-hot-restart"], folder, port):
            yield port


@contextlib.contextmanager
def running(argv: list[str], folder: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program in `folder`, from when it listens until the end.

    AssertionError with its log if it ends early. HOME is `folder` as well.
    """
    log = Path(folder) / "log"
    path = f"{SCRIPTS}:{os.environ['PATH']}:/usr/sbin"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, "HOME": folder, "PATH": path},
            stdout=output,
            stderr=output,
        )
    failed = False
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        yield process
    finally:
        failed = process.poll() is not None
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:  # it waits for connections
            process.kill()
            process.wait()
        if failed:
            raise AssertionError(f"{argv[0]} ended: {log.read_text()}")


def wait_until(condition: Callable[[], bool]) -> None:
    """Check the condition repeatedly until it is true. TimeoutError after `READY` seconds."""
    end = time.monotonic() + READY
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"a proxy is not ready after {READY} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Return whether a server accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _has_no_routes(port: int) -> bool:
    """Return whether the proxy listens, but has not yet read its dynamic configuration.

    With routes it asks the sidecar, which may not answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.2)
    with contextlib.closing(connection), contextlib.suppress(TimeoutError):
        connection.request("GET", "/")
        return connection.getresponse().status == 404
    return False


FRONTS: Final = (
    Front("nginx", nginx, "nginx"),
    Front("traefik", traefik, "traefik", away=500),
    Front("caddy", caddy, "caddy"),
    Front("envoy", envoy, "envoy", refusing=403),
    Front("haproxy", haproxy, "haproxy"),
)
