"""Unix sockets, TLS and mutual TLS, with real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.secret import Secret
from tests.peers.certificates import certificate
from tests.peers.redis_server import RedisServer, free_port, valkey
from tests.topologies.pod import Pod

if TYPE_CHECKING:
    from pathlib import Path


def tls(folder: Path, clients: str) -> tuple[int, list[str]]:
    """The TLS port and the options of a server that also has a plain-text port."""
    port, pem = free_port(), str(certificate(folder, "localhost"))
    client_ca = str(certificate(folder, "client"))
    options = ["--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", pem]
    return port, [*options, "--tls-ca-cert-file", client_ca, "--tls-auth-clients", clients]


async def test_valkey() -> None:
    """Valkey works like Redis, including the near cache."""
    with RedisServer(program=valkey()) as server:
        info = server.admin.info("server")
        assert isinstance(info, dict)
        assert info["server_name"] == "valkey"
        async with Pod(host="127.0.0.1", port=server.port) as pod:
            await pod.works()


async def test_unix_socket(tmp_path: Path) -> None:
    """A server on the same machine is reached by its socket."""
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        async with Pod(url=Secret(f"unix://{path}")) as pod:
            await pod.works()


@pytest.mark.needs("redis-server")
async def test_tls(tmp_path: Path) -> None:
    """A URL or a CA file enables TLS. A server of another CA is refused."""
    port, options = tls(tmp_path, "no")
    ca_file = str(tmp_path / "localhost.pem")
    with RedisServer(*options):
        for where in (
            {"url": Secret(f"rediss://localhost:{port}")},
            {"host": "localhost", "port": port},
        ):
            async with Pod(ca_file=ca_file, **where) as pod:
                await pod.works()
        stranger = str(certificate(tmp_path, "stranger"))
        async with Pod(host="localhost", port=port, ca_file=stranger) as pod:
            assert pod.store.degraded


@pytest.mark.needs("redis-server")
async def test_mutual_tls(tmp_path: Path) -> None:
    """The server accepts a client with a certificate, and refuses one without."""
    port, options = tls(tmp_path, "yes")
    where = {"host": "localhost", "port": port, "ca_file": str(tmp_path / "localhost.pem")}
    client = str(tmp_path / "client.pem")
    with RedisServer(*options):
        async with Pod(cert_file=client, key_file=client, **where) as pod:
            await pod.works()
        async with Pod(**where) as pod:
            assert pod.store.degraded
