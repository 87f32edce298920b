"""The Redis of the manifests and of compose.yaml, run as configured with a real redis-server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.deploy.manifests import ROOT, build, container, of_kind, one
from tests.deploy.redis_server import RedisServer, redis_server
from tests.peers.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD: Final = "pa55 word$'`\\x"

needs_redis = pytest.mark.needs("redis-server", "redis-cli")
needs_kubectl = pytest.mark.needs("kubectl")


@pytest.fixture
def in_cluster(tmp_path: Path) -> Iterator[RedisServer]:
    """The StatefulSet's command with its ConfigMap, on a free port and in a temporary folder."""
    manifests = build("overlays/in-cluster-redis")
    redis = container(one(manifests, "StatefulSet", "redis")["spec"]["template"], "redis")
    (config,) = (m for m in of_kind(manifests, "ConfigMap") if "redis.conf" in m["data"])
    port = free_port()
    text = config["data"]["redis.conf"]
    assert "port 6379\n" in text
    assert "dir /data\n" in text
    text = text.replace("port 6379\n", f"port {port}\n").replace("/data\n", f"{tmp_path}\n")
    (tmp_path / "redis.conf").write_text(text)
    (script,) = redis["args"]
    command = [*redis["command"], script.replace("/etc/redis/redis.conf", "redis.conf")]
    with redis_server(command, port, tmp_path, {"REDIS_PASSWORD": PASSWORD}) as server:
        yield server


@needs_kubectl
@needs_redis
def test_in_cluster_redis(in_cluster: RedisServer) -> None:
    """Redis requires the password, does not evict, and shows no password in its arguments."""
    assert "NOAUTH" in in_cluster.cli("ping")
    assert in_cluster.cli("ping", password=PASSWORD) == "PONG"
    for name, value in (("maxmemory-policy", "noeviction"), ("appendonly", "yes")):
        assert in_cluster.cli("config", "get", name, password=PASSWORD).split() == [name, value]
    arguments = Path(f"/proc/{in_cluster.process.pid}/cmdline").read_bytes()
    assert arguments.startswith(b"redis-server")
    assert b"pa55" not in arguments


@needs_kubectl
@needs_redis
def test_in_cluster_redis_ends_in_order(in_cluster: RedisServer, tmp_path: Path) -> None:
    """SIGTERM reaches Redis itself, which exits with 0 after saving its data."""
    assert in_cluster.cli("set", "session:token:x", "1", password=PASSWORD) == "OK"
    assert in_cluster.stop() == 0
    assert list(tmp_path.glob("appendonlydir/*.aof"))


@needs_redis
def test_compose_redis(tmp_path: Path) -> None:
    """The command in compose.yaml starts a Redis that requires a password and does not evict."""
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    port = free_port()
    command = [
        PASSWORD if argument.startswith("${REDIS_PASSWORD:") else argument
        for argument in services["redis"]["command"]
    ]
    where = ["--port", str(port), "--dir", str(tmp_path)]
    with redis_server([*command, *where], port, tmp_path) as server:
        assert "NOAUTH" in server.cli("ping")
        assert server.cli("ping", password=PASSWORD) == "PONG"
        policy = server.cli("config", "get", "maxmemory-policy", password=PASSWORD)
        assert policy.split()[1] == "noeviction"


@needs_redis
def test_health_checks_want_the_right_password(tmp_path: Path) -> None:
    """The health checks of both succeed with the password and fail without."""
    manifests = build("overlays/in-cluster-redis")
    redis = container(one(manifests, "StatefulSet", "redis")["spec"]["template"], "redis")
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    check = redis["readinessProbe"]["exec"]["command"]
    assert ["CMD", *check] == services["redis"]["healthcheck"]["test"]
    port = free_port()
    command = ["redis-server", "--port", str(port), "--requirepass", PASSWORD]
    with redis_server([*command, "--dir", str(tmp_path)], port, tmp_path) as server:
        assert server.cli(*check[1:], password=PASSWORD) == "PONG"
        assert "NOAUTH" in server.cli(*check[1:])
