"""compose.yaml: its structure, its secrets, and that the sidecar accepts the settings in it."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
import yaml

import sidecar
from sidecar.demo.__main__ import HOST, PORT
from sidecar.settings import Settings, settings_from
from tests.deploy.manifests import ROOT, build, container, one

GIVEN: Final = {
    "JWT_SECRET": "Zm9yIHRlc3RzIG9ubHk6IGFjY2VzcyB0b2tlbnMsIG5vdCBzZWNyZXQ=",
    "REFRESH_SECRET": "Zm9yIHRlc3RzIG9ubHk6IHJlZnJlc2ggdG9rZW5zLCBub3Qgc2VjcmV0",
    "REDIS_PASSWORD": "5f2b7a90d1c34e68a7b9c0d1e2f30415",
}
# The keys of the Compose specification that this file uses.
TOP_LEVEL: Final = {"name", "services", "networks", "volumes"}
SERVICE_KEYS: Final = {
    *(
        "build",
        "cap_drop",
        "command",
        "depends_on",
        "entrypoint",
        "environment",
        "healthcheck",
        "image",
    ),
    *(
        "network_mode",
        "networks",
        "ports",
        "read_only",
        "restart",
        "security_opt",
        "stop_grace_period",
    ),
    *("user", "volumes"),
}
REFERENCE: Final = re.compile(r"\$\{(\w+)(?::\?([^}]*))?\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The content of the file."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    """The services of the file by name."""
    found: dict[str, Any] = compose["services"]
    return found


def test_structure(compose: dict[str, Any], services: dict[str, Any]) -> None:
    """All keys are in the specification, and all networks, volumes and services are declared."""
    assert compose.keys() == TOP_LEVEL
    for service in services.values():
        assert service.keys() <= SERVICE_KEYS
        assert set(service.get("networks", ())) <= compose["networks"].keys()
        assert set(service.get("depends_on", ())) <= services.keys()
        assert "networks" not in service or "network_mode" not in service
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).is_file()
    used = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    }
    assert compose["volumes"].keys() <= used


def test_only_the_sidecar_is_published(compose: dict[str, Any], services: dict[str, Any]) -> None:
    """Only the sidecar publishes a port; Redis is on an internal network, the app on loopback."""
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"sidecar": ["5005:5005"]}
    assert services["redis"]["networks"] == ["sessions"]
    assert compose["networks"]["sessions"] == {"internal": True}
    assert services["application"]["network_mode"] == "service:sidecar"


def test_redis_keeps_sessions(services: dict[str, Any]) -> None:
    """Redis has a password, a volume, an append-only file, no eviction and a health check."""
    redis = services["redis"]
    assert redis["command"] == ["sh", "/etc/redis/start.sh"]  # run in test_redis_deployments
    data, *files = redis["volumes"]
    assert data == "redis-data:/data"
    for name, file in zip(("redis.conf", "sidecar.acl", "start.sh"), files, strict=True):
        assert file == f"./k8s/components/redis/{name}:/etc/redis/{name}:ro"
    assert redis["healthcheck"]["test"] == ["CMD", "redis-cli", "-e", "ping"]
    given, *others = redis["environment"].items()
    assert given[0] == "REDIS_PASSWORD"
    assert REFERENCE.fullmatch(given[1])
    assert others == [
        ("REDISCLI_AUTH", "${REDIS_PASSWORD}"),
        ("OPERATOR_PASSWORD", "${OPERATOR_PASSWORD:-}"),
    ]
    assert services["sidecar"]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_secrets_are_required_and_not_in_the_file() -> None:
    """Each secret is a required variable, and `compose up` without it says how to make it."""
    text = (ROOT / "compose.yaml").read_text()
    found = REFERENCE.findall(text)
    assert {name for name, _ in found} == GIVEN.keys()
    for name in GIVEN:
        assert (name, "make a .env file, see the top of compose.yaml") in found
        assert f"{name}=%s" in text  # the command at the top of the file writes it
    ignored = [(ROOT / name).read_text().splitlines() for name in (".gitignore", ".dockerignore")]
    assert "/.env" in ignored[0]
    assert "*" in ignored[1]


def test_containers_are_confined(services: dict[str, Any]) -> None:
    """All containers have a read-only root, no capabilities and no way to gain privileges."""
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """Sidecar and application use the image of this version, and the Redis image is pinned."""
    own = f"auth-sidecar:{sidecar.__version__}"
    assert services["sidecar"]["image"] == services["application"]["image"] == own
    manifests = build("overlays/in-cluster-redis")
    redis = container(one(manifests, "StatefulSet", "redis")["spec"]["template"], "redis")
    assert services["redis"]["image"] == redis["image"]
    assert re.fullmatch(r"redis:7\.4\.\d+-alpine@sha256:[0-9a-f]{64}", redis["image"])


def test_the_sidecar_would_start(services: dict[str, Any]) -> None:
    """Every variable of the sidecar is a setting, and with valid secrets it accepts all of them."""
    mounts = dict(
        volume.removesuffix(":ro").split(":") for volume in services["sidecar"]["volumes"]
    )
    sources = {target: str(ROOT / source) for source, target in mounts.items()}
    environment = {
        name: REFERENCE.sub(lambda found: GIVEN[found[1]], sources.get(value, value))
        for name, value in services["sidecar"]["environment"].items()
    }
    known = {*map(str.upper, Settings.__struct_fields__), "SIDECAR_CONFIG"}
    assert environment.keys() <= known
    settings = settings_from(env=environment)
    assert settings.users_file == sources["/etc/sidecar/users.toml"]
    assert str(settings.upstream_url) == f"http://{HOST}:{PORT}"
    assert services["application"]["entrypoint"] == ["python", "-m", "sidecar.demo"]
    assert (settings.redis_host, settings.redis_port) == ("redis", 6379)
    assert settings.jwt_secret.reveal() == GIVEN["JWT_SECRET"]
    assert settings.redis_password.reveal() == GIVEN["REDIS_PASSWORD"]
