"""Unusable settings: all problems are reported with their place before anything starts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from sidecar.app import build
from sidecar.app.sidecar import Sidecar
from sidecar.errors import ConfigError
from sidecar.secret import Secret
from sidecar.settings import Upstream
from sidecar.settings.model import IssuerSettings
from tests.auth.forge import private_key, private_pem, public_pem
from tests.peers.stack import configure

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.settings import Settings

HTTPS = Upstream("https", "127.0.0.1", 8443)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Usable settings, in a folder with key files of different kinds."""
    (tmp_path / "text.pem").write_text("none\n")
    (tmp_path / "private.pem").write_bytes(private_pem(private_key("RS256")))
    (tmp_path / "public.pem").write_bytes(public_pem(private_key("RS256")))
    return configure(tmp_path, "http://127.0.0.1:8080")


def changed(settings: Settings, folder: Path, **changes: Any) -> Settings:
    """Changed settings; a value that ends in `.pem` becomes a path in `folder`."""
    return structs.replace(
        settings,
        **{
            name: str(folder / value) if str(value).endswith(".pem") else value
            for name, value in changes.items()
        },
    )


def foreign(file: Path, *algorithms: str) -> tuple[IssuerSettings, ...]:
    """A valid issuer, followed by one with this key file and these algorithms."""
    return (
        IssuerSettings(issuer="one", audience="app", jwks_url="https://one.example/keys"),
        IssuerSettings(issuer="two", audience="app", key_file=str(file), algorithms=algorithms),
    )


@pytest.mark.parametrize(
    ("changes", "place", "expected"),
    [
        pytest.param(
            {"jwt_private_key_file": "text.pem"},
            "jwt_private_key_file {folder}/text.pem",
            "expected a private or public key in PEM",
            id="private-key-text",
        ),
        pytest.param(
            {"jwt_private_key_file": "gone.pem"},
            "jwt_private_key_file {folder}/gone.pem",
            "cannot be read: No such file or directory",
            id="private-key-gone",
        ),
        pytest.param(
            {"jwt_private_key_file": "public.pem"},
            "jwt_private_key_file",
            "expected keys that can sign",
            id="public-key",
        ),
        pytest.param(
            {
                "jwt_private_key_file": "private.pem",
                "jwt_private_key_previous_file": "public.pem",
            },
            "jwt_private_key_previous_file {folder}/public.pem",
            "expected a private key; this is a public one",
            id="previous-public-key",
        ),
        pytest.param(
            {"jwt_private_key_file": "private.pem", "jwt_algorithm": "ES256"},
            "jwt_private_key_file {folder}/private.pem",
            "expected one of RS256, RS384, RS512, PS256, PS384, PS512 for a key of this type; "
            "got ES256",
            id="algorithm",
        ),
        pytest.param(
            {"jwt_secret": Secret("short")},
            "jwt_secret",
            "expected a secret of at least 32 bytes for HS256; got 5",
            id="short-secret",
        ),
        pytest.param(
            {"refresh_secret_previous": Secret(public_pem(private_key("RS256")).decode())},
            "refresh_secret_previous",
            "expected a secret that is neither empty nor an asymmetric key or JWK",
            id="key-as-secret",
        ),
        pytest.param(
            {"upstream_url": HTTPS, "upstream_ca_file": "text.pem"},
            "upstream_ca_file {folder}/text.pem",
            "expected certificates in PEM",
            id="upstream-ca-text",
        ),
        pytest.param(
            {"upstream_url": HTTPS, "upstream_ca_file": "gone.pem"},
            "upstream_ca_file {folder}/gone.pem",
            "cannot be read: No such file or directory",
            id="upstream-ca-gone",
        ),
        pytest.param(
            {"session_store": "redis", "redis_ca_file": "private.pem"},
            "redis_ca_file {folder}/private.pem",
            "expected certificates in PEM",
            id="redis-ca",
        ),
        pytest.param(
            {"users_file": "gone.pem"},
            "{folder}/gone.pem",
            "cannot be read: No such file or directory",
            id="users",
        ),
        pytest.param(
            {"identity": {"X Auth": "email"}}, "identity", "expected ", id="identity-header"
        ),
    ],
)
def test_problem(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], place: str, expected: str
) -> None:
    """A problem is one line that states its place and what was expected."""
    with pytest.raises(ConfigError) as caught:
        Sidecar(changed(settings, tmp_path, **changes))
    [problem] = caught.value.problems
    assert problem.where == place.format(folder=tmp_path)
    assert problem.message.startswith(expected)


@pytest.mark.parametrize(
    ("name", "algorithms", "expected"),
    [
        pytest.param("text.pem", (), "expected a private or public key in PEM", id="text"),
        pytest.param("gone.pem", (), "cannot be read: No such file or directory", id="gone"),
        pytest.param("public.pem", ("ES256",), "expected one of RS256", id="algorithm"),
    ],
)
def test_foreign_key(
    settings: Settings, tmp_path: Path, name: str, algorithms: tuple[str, ...], expected: str
) -> None:
    """A problem with an issuer's key names the position of the issuer's table."""
    file = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        Sidecar(structs.replace(settings, issuer=foreign(file, *algorithms)))
    [problem] = caught.value.problems
    assert problem.where == f"issuer[2].key_file {file}"
    assert problem.message.startswith(expected)


def test_all_at_once(settings: Settings, tmp_path: Path) -> None:
    """All problems are reported at once and not one after the other."""
    bad = changed(
        structs.replace(settings, issuer=foreign(tmp_path / "text.pem")),
        tmp_path,
        jwt_private_key_file="text.pem",
        upstream_url=HTTPS,
        upstream_ca_file="text.pem",
        redis_ca_file="text.pem",
        users_file="gone.pem",
    )
    with pytest.raises(ConfigError) as caught:
        build.make_components(bad)
    assert len(caught.value.problems) == 5


def test_usable(settings: Settings, tmp_path: Path) -> None:
    """Usable settings raise no error."""
    good = changed(settings, tmp_path, jwt_private_key_file="private.pem", upstream_url=HTTPS)
    parts = build.make_components(structs.replace(good, issuer=foreign(tmp_path / "public.pem")))
    assert [key.alg for key in parts.keys.access] == ["RS256", "HS256"]
    assert [key.issuer for key in parts.foreign.keys] == ["two"]
    assert repr(parts.keys) == "<Keys 2 for access, 1 for refresh>"


HEAVY = """
import sys
from sidecar.app.sidecar import Sidecar
from sidecar.cli import serving
from sidecar.settings import settings_from
Sidecar(settings_from(env={}, file=sys.argv[1]))
print(*sorted({"cryptography.hazmat", "jwt", "redis"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("changes", "loaded"),
    [
        pytest.param({}, "", id="secrets-and-local-sessions"),
        pytest.param({"session_store": "redis"}, "redis", id="redis"),
        pytest.param({"jwks_url": "https://id.example/"}, "", id="keys-not-yet-fetched"),
        pytest.param(
            {"jwt_private_key_file": "private.pem"}, "cryptography.hazmat jwt", id="private-key"
        ),
    ],
)
def test_libraries_are_loaded_for_those_who_need_them(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], loaded: str
) -> None:
    """A library that would cost 7 to 9 MiB per pod is loaded only if the settings need it."""
    configure(tmp_path, "http://127.0.0.1:8080", **changes)
    found = subprocess.run(
        [sys.executable, "-c", HEAVY, str(tmp_path / "sidecar.toml")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == loaded
