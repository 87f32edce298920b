"""The sidecar accepts the settings in the manifests: no variable is misspelt or missing."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from sidecar.api.users import load_users
from sidecar.errors import ConfigError
from sidecar.settings import Settings, settings_from
from tests.deploy.manifests import (
    K8S,
    KUSTOMIZATIONS,
    ROOT,
    Manifest,
    build,
    container,
    of_kind,
    one,
)

if TYPE_CHECKING:
    from pathlib import Path

MADE: Final = {  # as if made by `openssl rand`
    ("jwt-secrets", "jwt-secret"): "Zm9yIHRlc3RzIG9ubHk6IGFjY2VzcyB0b2tlbnMsIG5vdCBzZWNyZXQ=",
    ("jwt-secrets", "refresh-secret"): "Zm9yIHRlc3RzIG9ubHk6IHJlZnJlc2ggdG9rZW5zLCBub3Qgc2VjcmV0",
    ("redis-credentials", "password"): "5f2b7a90d1c34e68a7b9c0d1e2f30415",
    ("redis-credentials", "ca.crt"): "-----BEGIN CERTIFICATE-----\n",
}

needs_kubectl = pytest.mark.needs("kubectl")


class Pod:
    """The sidecar's container, with its volumes mounted below `root`, as the kubelet does it."""

    def __init__(self, manifests: list[Manifest], root: Path) -> None:
        template = one(manifests, "Deployment", "application")["spec"]["template"]
        self._manifests = manifests
        self._root = root
        self._sidecar = container(template, "sidecar")
        self._volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}

    def settings(self) -> Settings:
        """The settings that the sidecar would start with. Raises ConfigError."""
        for mount in self._sidecar["volumeMounts"]:
            folder = self._root / mount["mountPath"].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self._content(self._volumes[mount["name"]]).items():
                (folder / name).write_text(content)
        return settings_from(env=self.environment())

    def environment(self) -> dict[str, str]:
        """The container's environment, with absolute paths moved below `root`."""
        found: dict[str, str] = {}
        for source in self._sidecar["envFrom"]:
            found |= one(self._manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in self._sidecar["env"]:
            if "value" in variable:
                value = variable["value"]
                found[variable["name"]] = str(self._root) + value if value[0] == "/" else value
            else:
                assert variable["valueFrom"]["secretKeyRef"]["optional"] is True
        return found

    def _content(self, volume: Manifest) -> dict[str, str]:
        if "configMap" in volume:
            data: dict[str, str] = one(self._manifests, "ConfigMap", volume["configMap"]["name"])[
                "data"
            ]
            return data
        name = volume["secret"]["secretName"]
        for secret in of_kind(self._manifests, "Secret"):
            if secret["metadata"]["name"] == name:
                encoded = {
                    key: base64.b64decode(v).decode() for key, v in secret.get("data", {}).items()
                }
                encoded.update(secret.get("stringData", {}))
                return encoded
        return {key: value for (secret_name, key), value in MADE.items() if secret_name == name}


def _names() -> set[str]:
    fields = {field.name.upper() for field in msgspec.structs.fields(Settings)}
    return fields | {"SIDECAR_CONFIG"}


def _with_secrets(manifests: list[Manifest]) -> list[Manifest]:
    placeholders = ("jwt-secrets", "redis-credentials")
    return [
        m for m in manifests if m["kind"] != "Secret" or m["metadata"]["name"] not in placeholders
    ]


@needs_kubectl
@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_variable_is_a_setting(name: str, tmp_path: Path) -> None:
    """Each environment variable of the sidecar, optional or not, is the name of a setting."""
    manifests = build(name)
    sidecar = container(one(manifests, "Deployment", "application")["spec"]["template"], "sidecar")
    variables = {variable["name"] for variable in sidecar["env"]}
    assert variables | Pod(manifests, tmp_path).environment().keys() <= _names()


@needs_kubectl
@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_the_pod_would_start(name: str, tmp_path: Path) -> None:
    """With secrets made as documented, the sidecar accepts everything that the pod gives it."""
    settings = Pod(_with_secrets(build(name)), tmp_path).settings()
    assert str(settings.upstream_url) == "http://127.0.0.1:8080"
    assert settings.session_store == "redis"
    assert settings.jwt_secret.reveal() == MADE["jwt-secrets", "jwt-secret"]
    assert settings.redis_password.reveal() == MADE["redis-credentials", "password"]
    (health, *_) = settings.route
    assert (health.path, health.access) == ("/health", "public")


@needs_kubectl
@pytest.mark.parametrize("name", ["base", "overlays/in-cluster-redis", "overlays/native-sidecar"])
def test_placeholder_secrets_are_refused(name: str, tmp_path: Path) -> None:
    """With the placeholder secrets, the sidecar refuses to start and says how to make real ones."""
    with pytest.raises(ConfigError) as refusal:
        Pod(build(name), tmp_path).settings()
    text = str(refusal.value)
    assert "JWT_SECRET_FILE" in text
    assert "REFRESH_SECRET_FILE" in text
    assert "openssl rand -base64 48" in text
    assert "CHANGE-ME" not in text


@needs_kubectl
@pytest.mark.parametrize("name", ["example", "overlays/production"])
def test_no_apply_overwrites_your_secrets(name: str) -> None:
    """Overlays for real use do not contain the placeholder secrets."""
    names = {secret["metadata"]["name"] for secret in of_kind(build(name), "Secret")}
    assert not names & {"jwt-secrets", "redis-credentials"}


def test_the_documented_secrets_have_these_keys() -> None:
    """The documented commands create exactly the secrets and keys that the pods read."""
    for path in (K8S / "base/secrets.yaml", K8S / "example/kustomization.yaml"):
        text = path.read_text()
        for name, key in MADE:
            assert f"secret generic {name}" in text
            assert key == "ca.crt" or f"--from-literal={key}=" in text


def test_the_example_users_can_log_in() -> None:
    """The sidecar can read the users file of the example."""
    users = load_users(K8S / "example/users.toml")
    assert [user.name for user in users] == ["alice", "admin"]


@pytest.mark.parametrize(
    ("copy", "original"), [("sidecar.toml", "demo.toml"), ("users.toml", "users.toml")]
)
def test_the_example_has_the_same_files_as_compose(copy: str, original: str) -> None:
    """The example has equal copies, because kustomize cannot read files above its folder."""
    assert (K8S / "example" / copy).read_text() == (ROOT / "config" / original).read_text()
