"""Which settings a reload changes, and which need a restart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.settings import Settings, files_of, merge, settings_from
from sidecar.settings.changes import FIXED

SECRETS = {"JWT_SECRET": "abcdefgh" * 4, "REFRESH_SECRET": "ijklmnop" * 4}


def settings(**changed: str) -> Settings:
    """Return the settings for these variables."""
    return settings_from(env={**SECRETS, **changed})


def test_what_may_change_is_taken() -> None:
    """A reload changes what it may; the names of the other changed settings are returned."""
    old = settings(JWT_LEEWAY="1s", REDIS_PORT="1")
    new = settings(JWT_LEEWAY="2s", REDIS_PORT="2", LISTEN="127.0.0.1:1")
    merged, waiting = merge(old, new)
    assert (merged.jwt_leeway, merged.redis_port) == (2.0, 1)
    assert waiting == ("listen", "redis_port")
    assert merge(merged, new)[1] == waiting
    assert merge(merged, merged) == (merged, ())


def test_tls_is_switched_on_by_a_restart(tmp_path: Path) -> None:
    """A reload may change certificates, but not turn TLS on or off."""
    for name in "abc":
        (tmp_path / name).touch()
    tls = {"TLS_CERT_FILE": f"{tmp_path}/a", "TLS_KEY_FILE": f"{tmp_path}/b"}
    plain, secure = settings(), settings(**tls)
    assert merge(plain, secure) == (plain, ("tls_cert_file", "tls_key_file"))
    assert merge(secure, plain) == (secure, ("tls_cert_file", "tls_key_file"))
    other = settings(**tls | {"TLS_CERT_FILE": f"{tmp_path}/c"})
    assert merge(secure, other) == (other, ())


def test_what_does_not_go_together(tmp_path: Path) -> None:
    """A change that is invalid together with a setting that needs a restart is refused."""
    (tmp_path / "one.toml").write_text("")
    (tmp_path / "two.toml").write_text(
        'jwt_issuer = "other"\n[[issuer]]\nissuer = "auth-sidecar"\naudience = "a"\njwks_url = "https://x/keys"\n'
    )
    old, new = (
        settings_from(env=SECRETS, file=tmp_path / name) for name in ("one.toml", "two.toml")
    )
    with pytest.raises(ConfigError, match="before a restart"):
        merge(old, new)


@pytest.mark.parametrize(("path", "taken"), [("/auth/x", False), ("/_sign-in", True)])
def test_a_prefix_that_waits(tmp_path: Path, path: str, *, taken: bool) -> None:
    """Until the restart the old prefix is in effect, so no rule may be about paths below it."""
    (tmp_path / "one.toml").write_text("")
    (tmp_path / "two.toml").write_text(f'auth_prefix = "/x"\n[[route]]\npath = "{path}"\n')
    old, new = (
        settings_from(env=SECRETS, file=tmp_path / name) for name in ("one.toml", "two.toml")
    )
    if taken:
        merged, waiting = merge(old, new)
        assert (merged.auth_prefix, waiting) == ("/auth", ("auth_prefix",))
        assert [route.path for route in merged.route] == [path]
        return
    with pytest.raises(ConfigError) as caught:
        merge(old, new)
    [problem] = caught.value.problems
    assert str(problem) == (
        "route[1].path: expected a path that the sidecar does not serve itself, because auth_prefix"
        " is /auth; got /auth/x, before a restart"
    )


def test_every_file_is_found(tmp_path: Path) -> None:
    """Every file is listed, including those that the tables name."""
    (tmp_path / "s").write_text("abcdefgh" * 4)
    (tmp_path / "k.pem").touch()
    (tmp_path / "u").touch()
    (tmp_path / "c.toml").write_text(
        'jwt_secret_file = "s"\n[[issuer]]\nissuer = "x"\naudience = "a"\nkey_file = "k.pem"\n'
    )
    refresh = {"REFRESH_SECRET": SECRETS["REFRESH_SECRET"], "USERS_FILE": f"{tmp_path}/u"}
    found = settings_from(env=refresh, file=tmp_path / "c.toml")
    assert set(files_of(found)) == {f"{tmp_path}/s", f"{tmp_path}/k.pem", f"{tmp_path}/u"}


def test_the_manual_names_those_that_wait() -> None:
    """The manual lists exactly the settings that need a restart."""
    manual = (Path(__file__).parents[2] / "docs/operating.md").read_text("utf-8")
    told = manual.partition("These wait for a restart:")[2].partition("\n\n")[0]
    names = {name.lower() for name in re.findall(r"`\[?([A-Za-z_]+)\]?`", told)}
    assert names == FIXED
    assert set(Settings.__struct_fields__) >= FIXED
