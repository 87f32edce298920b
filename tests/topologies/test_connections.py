"""Unix sockets, TLS, mutual TLS and password rotation, with real servers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from sidecar.secret import Secret
from sidecar.settings import read_secret
from tests.peers.certificates import certificate
from tests.peers.redis_server import RedisServer, free_port, valkey
from tests.peers.signed import NAMES
from tests.topologies.pod import Pod

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "the-old-password", "the-new-password"


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


async def test_a_new_password(tmp_path: Path) -> None:
    """After a rotation in the file and in Redis, new connections use the new password."""
    file = tmp_path / "password"
    file.write_text(f"{OLD}\n")
    with RedisServer() as server:
        server.admin.acl_setuser(
            "sidecar",
            enabled=True,
            passwords=[f"+{OLD}"],
            keys=["*"],
            channels=["*"],
            commands=["+@all"],
        )
        read = partial(read_secret, str(file))
        where = {"host": "127.0.0.1", "port": server.port, "username": "sidecar"}
        async with Pod(read_password=read, **where) as pod:
            await pod.works()
            server.admin.acl_setuser("sidecar", enabled=True, passwords=[f"+{NEW}"])
            file.write_text(NEW)
            server.admin.acl_setuser("sidecar", enabled=True, passwords=[f"-{OLD}"])
            for kind in ("normal", "pubsub"):
                server.admin.client_kill_filter(_type=kind, skipme=True)
            grant = await pod.login()
            assert await pod.store.get(grant.session.id) == grant.session
            assert server.admin.exists(NAMES.token(grant.session.id))
            assert not pod.store.degraded
            file.unlink()  # the password read last is still used
            for kind in ("normal", "pubsub"):
                server.admin.client_kill_filter(_type=kind, skipme=True)
            assert await pod.store.get((await pod.login()).session.id) is not None
            assert not pod.store.degraded
