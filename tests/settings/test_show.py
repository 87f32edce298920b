"""Printed settings, and the annotated file, which has every option with its real default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from sidecar.secret import Secret
from sidecar.settings import (
    CorsSettings,
    IssuerSettings,
    RouteSettings,
    Settings,
    load,
    print_config,
    settings_from,
)
from sidecar.settings.model import TABLES, kinds_of

ROOT = Path(__file__).parents[2]
ANNOTATED = ROOT / "config" / "sidecar.toml"
SECRETS = {
    "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
    "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmn",
}
EVERYTHING = """
listen = "[::1]:5005"
upstream_url = "unix:///run/app.sock"
refresh_grace = 0
redis_timeout = "250ms"
trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
redirect_origins = ["https://app.example"]
jwt_issuer = 'it"s\\ ours'
allow_weak_secrets = true
[identity]
X-Auth-Email = "email"
[cors]
origins = ["https://app.example", "https://*.example.com"]
credentials = true
[[route]]
path = "/café/*"
claims = {tenant = ["acme"], "/a~1b/c" = 1, "urn:level" = [1, 2.5, true]}
upgrades = []
[[route]]
path = "/y"
access = "public"
[[issuer]]
issuer = "https://id.example"
audience = "*"
jwks_url = "https://id.example/jwks"
algorithms = ["RS256", "ES256"]
audience_claim = "client_id"
claims = {hd = "example.com", "org.level" = [1, true]}
subject_claim = "/a~1b/0"
roles_claim = ["realm_access.roles", "https://x.example/roles"]
"""


def uncommented() -> str:
    """Return the annotated file with every option enabled: `#name = …`, unlike `# prose`."""
    return re.sub(r"(?m)^#(?=[a-zA-Z\[])", "", ANNOTATED.read_text("utf-8"))


# ── print_config ──


def test_what_is_printed_means_the_same_when_it_is_read(tmp_path: Path) -> None:
    """The output is a configuration file that gives the same settings with the same secrets."""
    file = tmp_path / "sidecar.toml"
    file.write_text(EVERYTHING, "utf-8")
    loaded = load(env=SECRETS, file=file)
    for text in (print_config(loaded.settings), print_config(loaded.settings, loaded.origins)):
        file.write_text(text, "utf-8")
        assert settings_from(env=SECRETS, file=file) == loaded.settings


def test_every_setting_is_printed_with_its_origin() -> None:
    """Each printed setting has its value and its origin."""
    loaded = load(env=SECRETS | {"REDIS_PORT": "7000"}, flags={"log_level": "debug"})
    lines = print_config(loaded.settings, loaded.origins).splitlines()
    assert "redis_port = 7000  # environment REDIS_PORT" in lines
    assert 'log_level = "debug"  # flag --log-level' in lines
    assert 'access_token_expiry = "15m"  # default' in lines
    assert '# jwt_secret = "***"  # environment JWT_SECRET' in lines
    assert '# redis_password = ""  # default' in lines
    names = {line.removeprefix("# ").partition(" = ")[0] for line in lines}
    assert names == set(kinds_of(Settings))


def test_secrets_are_masked() -> None:
    """The output contains no secret."""
    settings = settings_from(
        env=SECRETS
        | {
            "JWT_SECRET_PREVIOUS": "previous-secret-0123456789abcdefghijkl",
            "REFRESH_SECRET_PREVIOUS": "before-secret-0123456789abcdefghijklmn",
            "REDIS_PASSWORD": "hunter2",
            "REDIS_URL": "redis+sentinel://:hunter2@r/service",
            "REDIS_SENTINEL_PASSWORD": "hunter3",
        }
    )
    text = print_config(settings)
    assert text.count('"***"') == 7
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if isinstance(value, Secret):
            assert value.reveal() not in text


# ── config/sidecar.toml ──


def test_the_annotated_file_loads_and_changes_nothing() -> None:
    """The annotated file contains only defaults, and needs only the two secrets."""
    assert tomllib.loads(ANNOTATED.read_text("utf-8")) == {}
    assert settings_from(env=SECRETS, file=ANNOTATED) == settings_from(env=SECRETS)


def test_the_annotated_file_names_every_option_once() -> None:
    """The annotated file has exactly the options that exist."""
    assert set(tomllib.loads(uncommented())) == {*kinds_of(Settings), *TABLES}


@pytest.mark.parametrize("name", kinds_of(Settings))
def test_a_commented_default_is_the_real_one(name: str) -> None:
    """The defaults in the annotated file are those of the code."""
    kind = kinds_of(Settings)[name]
    field = next(field for field in msgspec.structs.fields(Settings) if field.name == name)
    default = Secret("") if field.required else field.default
    assert kind.read(tomllib.loads(uncommented())[name]) == default


def test_every_option_of_the_annotated_file_can_be_put_in_force(tmp_path: Path) -> None:
    """The file loads with every option and example uncommented."""
    file = tmp_path / "sidecar.toml"
    file.write_text(uncommented(), "utf-8")
    settings = settings_from(env=SECRETS, file=file)
    assert [route.path for route in settings.route] == ["/health", "/reports/*", "/admin/*"]
    assert settings.identity == {"X-Auth-Email": "email", "X-Auth-Tenant": "tenant"}
    assert settings.issuer[0].session_mode == "denylist"
    assert settings.cors == CorsSettings(origins=("https://app.example.com",))


@pytest.mark.parametrize("struct", [RouteSettings, IssuerSettings, CorsSettings])
def test_the_annotated_file_explains_every_key_of_a_table(struct: type[msgspec.Struct]) -> None:
    """The annotated file explains each key of a route, of an issuer and of `[cors]`."""
    prose = "\n".join(re.findall(r"(?m)^# .*$", ANNOTATED.read_text("utf-8")))
    for name in kinds_of(struct):
        assert re.search(rf"(^#|\s){name} +\S", prose), name


def test_every_option_is_explained() -> None:
    """A comment precedes each option, or its group."""
    blocks = ANNOTATED.read_text("utf-8").split("\n\n")
    for block in blocks:
        if re.search(r"(?m)^#[a-z_]+ = ", block) and not block.startswith("#["):
            assert block.startswith("# "), block
