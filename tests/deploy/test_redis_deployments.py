"""The Redis of the manifests and of compose.yaml, run as configured with a real redis-server."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.deploy.manifests import ROOT, build, container, of_kind, one
from tests.deploy.redis_server import RedisServer, redis_server
from tests.peers.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Deployed = Callable[..., contextlib.AbstractContextManager[RedisServer]]

PASSWORD: Final = "pa55 word$'`\\x"
OPERATOR: Final = "pa55 of the operator"
COMPONENT: Final = ROOT / "k8s/components/redis"

needs_redis = pytest.mark.needs("redis-server", "redis-cli")
needs_kubectl = pytest.mark.needs("kubectl")


@contextlib.contextmanager
def started(
    command: Sequence[str], files: Mapping[str, str], folder: Path, environment: Mapping[str, str]
) -> Iterator[RedisServer]:
    """Run a deployment's command with its files from /etc/redis, on a free port and in `folder`."""
    port = free_port()
    for name, text in files.items():
        if name == "redis.conf":
            assert "port 6379\n" in text
            assert "dir /data\n" in text
        changed = text.replace("port 6379\n", f"port {port}\n").replace("/data\n", f"{folder}\n")
        (folder / name).write_text(changed)
    here = [part.replace("/etc/redis", str(folder)) for part in command]
    with redis_server(here, port, folder, environment) as server:
        yield server


def in_cluster() -> tuple[list[str], dict[str, str]]:
    """The StatefulSet's command, and the files in its ConfigMap."""
    manifests = build("overlays/in-cluster-redis")
    redis = container(one(manifests, "StatefulSet", "redis")["spec"]["template"], "redis")
    (config,) = (m for m in of_kind(manifests, "ConfigMap") if "redis.conf" in m["data"])
    return redis["command"], config["data"]


def in_compose() -> tuple[list[str], dict[str, str]]:
    """The command of compose.yaml's Redis, and the files that it mounts."""
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[:2] for volume in services["redis"]["volumes"][1:]]
    files = {Path(target).name: (ROOT / source).read_text() for source, target in mounted}
    return services["redis"]["command"], files


@pytest.fixture(params=[in_cluster, in_compose])
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Deployed:
    """Starts the Redis of a deployment with these environment variables."""
    command, files = request.param()
    return lambda **environment: started(command, files, tmp_path, environment)


@needs_kubectl
@needs_redis
def test_the_password_is_required_and_not_shown(deployed: Deployed) -> None:
    """Redis requires the password, does not evict, and shows no password in its arguments."""
    with deployed(REDIS_PASSWORD=PASSWORD, OPERATOR_PASSWORD=OPERATOR) as server:
        assert "NOAUTH" in server.cli("ping")
        assert server.cli("ping", password=PASSWORD) == "PONG"
        for name, value in (("maxmemory-policy", "noeviction"), ("appendonly", "yes")):
            assert operate(server, "config", "get", name).split() == [name, value]
        arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert arguments.startswith(b"redis-server")
        assert b"pa55" not in arguments


@needs_kubectl
@needs_redis
def test_the_sidecars_may_do_no_more_than_needed(deployed: Deployed) -> None:
    """The sidecars' password gives no right to other keys, other channels or the server itself."""
    with deployed(REDIS_PASSWORD=PASSWORD) as server:
        assert server.cli("set", "session:token:x", "1", password=PASSWORD) == "OK"
        assert server.cli("keys", "session:token:*", password=PASSWORD) == "session:token:x"
        for refused in (
            ("get", "other"),
            ("set", "other", "1"),
            ("flushall",),
            ("config", "set", "dir", "/"),
            ("eval", "return 1", "0"),
            ("replicaof", "host", "1"),
            ("acl", "list"),
            ("publish", "other", "1"),
        ):
            assert "NOPERM" in server.cli(*refused, password=PASSWORD), refused
        assert "WRONGPASS" in operate(server, "ping")  # there is no such user without a password


@needs_kubectl
@needs_redis
def test_no_start_without_a_password(deployed: Deployed) -> None:
    """An empty password starts no Redis that anyone may use."""
    with pytest.raises(AssertionError, match="ended with"), deployed(REDIS_PASSWORD=""):
        pass


def test_the_manual_gives_the_same_rights() -> None:
    """The manual's user may do what sidecar.acl allows, except read commands for operators."""
    manual = (ROOT / "docs/operating.md").read_text()
    command = manual[manual.index("redis ACL SETUSER sidecar") :].partition("```")[0]
    given = {part for part in shlex.split(command.replace("\\\n", " ")) if part[0] in "+-"}
    *lines, for_operators = (COMPONENT / "sidecar.acl").read_text().splitlines()
    assert {part for part in " ".join(lines).split() if part[0] in "+-"} == given
    assert for_operators.startswith("+get +ttl +scan")


@needs_kubectl
@needs_redis
def test_it_ends_in_order(deployed: Deployed, tmp_path: Path) -> None:
    """SIGTERM reaches Redis itself, which exits with 0 after saving its data."""
    with deployed(REDIS_PASSWORD=PASSWORD) as server:
        assert server.cli("set", "session:token:x", "1", password=PASSWORD) == "OK"
        assert server.stop() == 0
    assert list(tmp_path.glob("appendonlydir/*.aof"))


def operate(server: RedisServer, *arguments: str) -> str:
    """Run a command as the operator."""
    return server.cli("--no-auth-warning", "--user", "operator", *arguments, password=OPERATOR)


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
