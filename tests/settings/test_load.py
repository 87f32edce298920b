"""The sources of settings, their precedence, and the report of all problems at once."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import ConfigError
from sidecar.secret import Secret
from sidecar.settings import Address, Settings, load, secrets_of, settings_from
from sidecar.settings.kinds import InvalidValue
from sidecar.settings.model import kinds_of
from sidecar.settings.secret_files import read_secret
from sidecar.settings.sources import EMPTY_IS_A_VALUE

if TYPE_CHECKING:
    from pathlib import Path

ACCESS = "access-secret-0123456789abcdefghijklmnop"
REFRESH = "refresh-secret-0123456789abcdefghijklmn"
SECRETS = {"JWT_SECRET": ACCESS, "REFRESH_SECRET": REFRESH}
PLAIN = Settings(jwt_secret=Secret(ACCESS), refresh_secret=Secret(REFRESH))
SENTINEL = "redis+sentinel://one,two/service"
# Settings whose empty text is their default, each set in a file.
SET = {
    "jwt_secret": '"a secret of sixty-four bytes, which is long enough for a SHA-512 MAC"',
    "refresh_secret": '"another secret of at least thirty-two bytes"',
    "tls_cert_file": '"cert.pem"',
    "tls_key_file": '"key.pem"',
    "tls_client_auth": '"required"',
    "tls_client_ca_file": '"cert.pem"',
    "users_file": '"cert.pem"',
    "jwt_algorithm": '"HS512"',
    "allow_weak_secrets": "true",
    "login_url": '"https://login.example/"',
    "jwks_url": '"https://login.example/keys"',
    "redis_username": '"sidecar"',
    "redis_url": '"redis+sentinel://redis:26379/service"',
    "redis_password": '"hunter2"',
    "redis_sentinel_username": '"watcher"',
    "redis_sentinel_password": '"hunter3"',
    "redis_ca_file": '"cert.pem"',
    "state_dir": '"state"',
}


def write(folder: Path, text: str) -> Path:
    """Write a configuration file with this text."""
    path = folder / "sidecar.toml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def problems(
    *, env: dict[str, str], file: Path | None = None, flags: dict[str, str] | None = None
) -> list[str]:
    """Return the problems line by line, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        settings_from(env=env, file=file, flags=flags)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    prefix = f"{file.parent}/" if file else ""
    return [str(problem).replace(prefix, "") for problem in caught.value.problems]


# ── Precedence ──


def test_two_secrets_are_enough() -> None:
    """Every other setting has a default."""
    settings = settings_from(env=SECRETS)
    assert settings == Settings(jwt_secret=Secret(ACCESS), refresh_secret=Secret(REFRESH))


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param("", id="empty"),  # in the file; an empty variable is not set
        pytest.param("a b:", id="space"),
        pytest.param("a*", id="pattern"),
        pytest.param("a?", id="any-character"),
        pytest.param("[ab]:", id="class"),
        pytest.param("a\\", id="escape"),
        pytest.param("{a}:", id="hash-tag"),
        pytest.param("é:", id="not-ascii"),
        pytest.param("a" * 65, id="long"),
    ],
)
def test_a_prefix_that_is_a_pattern(prefix: str, tmp_path: Path) -> None:
    """The prefix of keys is part of patterns, and must not put a cluster's keys on one node."""
    file = write(tmp_path, f"redis_key_prefix = '{prefix}'")
    with pytest.raises(ConfigError, match="redis_key_prefix: expected 1 to 64 of the characters"):
        settings_from(env=SECRETS, file=file)
    assert (
        settings_from(env=SECRETS | {"REDIS_KEY_PREFIX": "orders:"}).redis_key_prefix == "orders:"
    )


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param("", id="empty"),  # in the file; an empty variable is not set
        pytest.param("/", id="root"),
        pytest.param("auth", id="no-slash"),
        pytest.param("/auth/", id="slash-at-the-end"),
        pytest.param("//auth", id="empty-segment"),
        pytest.param("/a//b", id="empty-segment-inside"),
        pytest.param("/a/../b", id="dots"),
        pytest.param("/.", id="dot"),
        pytest.param("/%61uth", id="escape"),
        pytest.param("/a;b", id="parameter"),
        pytest.param("/a?b", id="query"),
        pytest.param("/a#b", id="fragment"),
        pytest.param("/auth/*", id="pattern"),
        pytest.param("/{auth}", id="braces"),
        pytest.param("/a b", id="space"),
        pytest.param("/ä", id="not-ascii"),
        pytest.param("https://x/auth", id="url"),
    ],
)
def test_a_prefix_that_two_servers_could_read_differently(prefix: str, tmp_path: Path) -> None:
    """The prefix is a normalised path without escapes; nothing else is reported because of it."""
    file = write(tmp_path, f"auth_prefix = '{prefix}'\n[[route]]\npath = '/auth/x'\n")
    [problem] = problems(env=SECRETS, file=file)
    assert problem.startswith(
        "sidecar.toml: auth_prefix: expected a path such as /auth or /_sign-i"
    )
    assert problem.endswith(f'; got "{prefix}"')


@pytest.mark.parametrize("prefix", ["/.well-known", "/.well-known/jwks.json"])
def test_a_prefix_of_the_public_keys(prefix: str) -> None:
    """The prefix must not cover the path of the public keys, which does not move."""
    [problem] = problems(env=SECRETS | {"AUTH_PREFIX": prefix})
    assert problem == (
        "environment AUTH_PREFIX: expected a path other than those of /.well-known/jwks.json; "
        f'got "{prefix}"'
    )


@pytest.mark.parametrize("prefix", ["/auth", "/_sign-in", "/a/b-c/D.e~1", "/.well-known/auth"])
def test_a_good_prefix(prefix: str) -> None:
    """Any number of segments of unreserved characters is accepted."""
    assert settings_from(env=SECRETS | {"AUTH_PREFIX": prefix}).auth_prefix == prefix


def test_a_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    """The first source that has a setting wins, and is reported as its origin."""
    file = write(
        tmp_path,
        """
        listen = "127.0.0.1:1"
        log_level = "error"
        redis_port = 1000
        """,
    )
    env = SECRETS | {"LISTEN": "127.0.0.1:2", "LOG_LEVEL": "warning"}
    loaded = load(env=env, file=file, flags={"listen": "127.0.0.1:3"})
    settings = loaded.settings
    assert settings.listen == Address("127.0.0.1", 3)
    assert settings.log_level == "warning"
    assert settings.redis_port == 1000
    assert settings.redis_host == "localhost"
    assert loaded.origins["listen"] == "flag --listen"
    assert loaded.origins["log_level"] == "environment LOG_LEVEL"
    assert loaded.origins["redis_port"] == f"{file}: redis_port"
    assert "redis_host" not in loaded.origins


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    """SIDECAR_CONFIG names the file, and an argument takes precedence."""
    file = write(tmp_path, "redis_port = 1000")
    env = SECRETS | {"SIDECAR_CONFIG": str(file)}
    assert settings_from(env=env).redis_port == 1000
    other = tmp_path / "other.toml"
    other.write_text("redis_port = 2000")
    assert settings_from(env=env, file=other).redis_port == 2000


@pytest.mark.parametrize("name", kinds_of(Settings))
def test_every_setting_can_come_from_the_environment(name: str, tmp_path: Path) -> None:
    """A variable is a field's name in upper case; an invalid value names the variable."""
    kind = kinds_of(Settings)[name]
    if kind.secret or kind.expected in ("a string on one line", "a non-empty string"):
        env = SECRETS | {name.upper(): f"{tmp_path}-{'x' * 32}"}
        if name == "redis_url":
            env["REDIS_URL"] = "redis://r"
        if name.startswith("redis_sentinel_"):
            env = {"REDIS_SENTINEL_PASSWORD": "pw", "REDIS_URL": SENTINEL, **env}
        assert getattr(settings_from(env=env), name) != getattr(settings_from(env=SECRETS), name)
        return
    found = problems(env=SECRETS | {name.upper(): f"{tmp_path}/\u0000absent"})
    assert found[0].startswith(f"environment {name.upper()}: ")


def test_an_empty_variable_is_not_set_unless_empty_is_a_value(tmp_path: Path) -> None:
    """As in compose files, `REDIS_DB=` leaves the file's value; `JWT_AUDIENCE=` and lists count."""
    file = write(tmp_path, 'redis_db = 3\ntrusted_proxies = ["10.0.0.0/8"]\nusers_file = "u.toml"')
    (tmp_path / "u.toml").write_text("")
    names = ("REDIS_DB", "REDIS_PASSWORD", "JWT_SECRET_FILE", "JWT_ISSUER", "LISTEN", "USERS_FILE")
    env = SECRETS | dict.fromkeys(names, "")
    empty = dict.fromkeys(("JWT_AUDIENCE", "TRUSTED_PROXIES"), "")
    settings = settings_from(env=env | empty, file=file)
    assert settings.redis_db == 3
    assert not settings.redis_password
    assert settings.jwt_issuer == "auth-sidecar"
    assert settings.jwt_audience == ""
    assert settings.trusted_proxies == ()
    assert settings.users_file == str(tmp_path / "u.toml")


@pytest.mark.parametrize("name", sorted(kinds_of(Settings).keys() - EMPTY_IS_A_VALUE))
def test_no_empty_variable_overrides_the_file(name: str, tmp_path: Path) -> None:
    """Except for audience and lists, it is as if not set: `TLS_CERT_FILE=` leaves TLS on."""
    for pem in ("cert.pem", "key.pem"):
        (tmp_path / pem).write_text("")
    text = "".join(f"{key} = {value}\n" for key, value in SET.items())
    file = write(tmp_path, text)
    expected = settings_from(env={}, file=file)
    assert name not in SET or getattr(expected, name) != getattr(PLAIN, name)
    assert settings_from(env={name.upper(): ""}, file=file) == expected


@pytest.mark.parametrize("name", ["jwt_secret", "refresh_secret", "redis_password", "redis_url"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_line_break_after_a_secret_is_not_part_of_it(
    name: str, ending: str, tmp_path: Path
) -> None:
    """A secret is the same from a variable as from a file with these contents."""
    value = "redis://:x@redis" if name == "redis_url" else "a secret of 48 bytes" * 3
    settings = settings_from(env=SECRETS | {name.upper(): value + ending})
    assert getattr(settings, name) == Secret(value)
    (tmp_path / "secret").write_bytes((value + ending).encode())
    assert read_secret(str(tmp_path / "secret")) == Secret(value)


def test_a_variable_with_only_a_line_break_is_not_set() -> None:
    """As an empty one is."""
    [problem] = problems(env=SECRETS | {"JWT_SECRET": "\n"})
    assert problem.startswith("jwt_secret: expected a secret")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        pytest.param(
            "REDIS_HOTS",
            "redis",
            "is ignored, because there is no such setting; "
            "rename it to REDIS_HOST if you meant that, or remove it",
            id="misspelt",
        ),
        pytest.param("redis_host", "redis", "rename it to REDIS_HOST if", id="small-letters"),
        pytest.param("JWT_SECRETS", "x", "rename it to JWT_SECRET if", id="plural"),
        pytest.param(
            "ACCES_TOKEN_EXPIRY", "1h", "rename it to ACCESS_TOKEN_EXPIRY if", id="letter"
        ),
        pytest.param("TRUSTED_PROXYS", "", "rename it to TRUSTED_PROXIES if", id="empty"),
        pytest.param(
            "REDIS_PORT",
            "tcp://10.0.0.1:6379",
            "is ignored, because Kubernetes sets it to tcp://… for a Service of that name; "
            "set enableServiceLinks: false in the pod, or REDIS_PORT to a port",
            id="service-link",
        ),
        pytest.param(
            "REDIS_DB",
            "",
            "is empty and therefore ignored; sidecar.toml: redis_db applies; "
            "remove the variable, or the key from the file",
            id="hides-nothing",
        ),
    ],
)
def test_an_ignored_variable_is_a_warning(
    variable: str, value: str, expected: str, tmp_path: Path
) -> None:
    """A variable that its author takes for a setting is named, and changes nothing."""
    file = write(tmp_path, "redis_db = 3")
    loaded = load(env=SECRETS | {variable: value}, file=file)
    [warning] = loaded.warnings
    text = str(warning).replace(f"{tmp_path}/", "")
    assert text.startswith(f"environment {variable}: ")
    assert expected in text
    assert loaded.settings == settings_from(env=SECRETS, file=file)


@pytest.mark.parametrize(
    "variable",
    [
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LOGNAME",
        "HOSTNAME",
        "HTTP_PROXY",
        "REDIS_SERVICE_HOST",
        "REDIS_SERVICE_PORT",
        "REDIS_PORT_6379_TCP",
        "REDIS_PORT_6379_TCP_ADDR",
        "REDIS_PORT_6379_TCP_PORT",
        "REDIS_VERSION",
        "REDISCLI_AUTH",
        "SESSION_STORE_PORT",
        "SESSION_STORE_SERVICE_HOST",
        "PYTHONUNBUFFERED",
    ],
)
def test_variables_of_other_programs_are_no_warning(variable: str) -> None:
    """OpenSSL, systemd, Kubernetes and shells set variables that resemble settings."""
    assert load(env=SECRETS | {variable: "1"}).warnings == ()


def test_other_variables_are_not_looked_at() -> None:
    """Unrelated variables are ignored, including those that Kubernetes sets for Services."""
    strangers = {
        "REDIS_SERVICE_HOST": "10.0.0.1",
        "REDIS_PORT": "tcp://10.0.0.1:6379",
        "REDIS_PORT_6379_TCP": "tcp://10.0.0.1:6379",
        "SIDECAR_SERVICE_HOST": "10.0.0.2",
        "SIDECAR_PORT": "tcp://10.0.0.2:5005",
        "JWT_SECRETS": "x",
        "ROUTE": "/x",
    }
    assert settings_from(env=SECRETS | strangers) == settings_from(env=SECRETS)


def test_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    """A path in the file is relative to its folder; one in the environment is as given."""
    (tmp_path / "users.toml").write_text("")
    file = write(tmp_path, 'users_file = "users.toml"')
    users = str(tmp_path / "users.toml")
    assert settings_from(env=SECRETS, file=file).users_file == users
    assert settings_from(env=SECRETS | {"USERS_FILE": users}).users_file == users


# ── Secrets ──


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(f"{ACCESS}\n", ACCESS, id="line-break"),
        pytest.param(f"{ACCESS}\r\n", ACCESS, id="windows-line-break"),
        pytest.param(f" {ACCESS} \n\n", f" {ACCESS} \n", id="the-last-line-break-alone"),
        pytest.param(ACCESS, ACCESS, id="none"),
    ],
)
def test_a_secret_may_stand_in_a_file(tmp_path: Path, content: str, expected: str) -> None:
    """A secret is read from a file without the last line break."""
    mounted = tmp_path / "jwt"
    mounted.write_bytes(content.encode())
    env = {"REFRESH_SECRET": REFRESH, "JWT_SECRET_FILE": str(mounted)}
    loaded = load(env=env)
    assert loaded.settings.jwt_secret == Secret(expected)
    assert loaded.settings.jwt_secret_file == str(mounted)
    assert loaded.origins["jwt_secret"] == "environment JWT_SECRET_FILE"


@pytest.mark.parametrize(
    "name",
    [
        "jwt_secret",
        "jwt_secret_previous",
        "refresh_secret",
        "refresh_secret_previous",
        "redis_password",
        "redis_sentinel_password",
    ],
)
def test_every_secret_has_its_file(tmp_path: Path, name: str) -> None:
    """Every secret has a `*_FILE` variable, and a `*_file` key in the configuration file."""
    secret = "another-secret-0123456789abcdefghijklm"
    (tmp_path / "secret").write_text(secret)
    env = {key: value for key, value in SECRETS.items() if key != name.upper()}
    env["REDIS_URL"] = SENTINEL
    by_variable = settings_from(env=env | {f"{name.upper()}_FILE": str(tmp_path / "secret")})
    by_file = settings_from(env=env, file=write(tmp_path, f'{name}_file = "secret"'))
    assert getattr(by_variable, name) == getattr(by_file, name) == Secret(secret)


def test_the_source_that_wins_hides_the_other_form_of_a_secret(tmp_path: Path) -> None:
    """A secret in the environment replaces its file in the configuration, and vice versa."""
    mounted = tmp_path / "password"
    mounted.write_text("from-file")
    file = write(tmp_path, 'redis_password_file = "password"')
    settings = settings_from(env=SECRETS | {"REDIS_PASSWORD": "from-environment"}, file=file)
    assert settings.redis_password == Secret("from-environment")
    assert settings.redis_password_file == ""
    file = write(tmp_path, 'redis_password = "from-configuration"')
    settings = settings_from(env=SECRETS | {"REDIS_PASSWORD_FILE": str(mounted)}, file=file)
    assert settings.redis_password == Secret("from-file")


def test_a_private_key_stands_in_for_the_access_secret(tmp_path: Path) -> None:
    """With jwt_private_key_file, JWT_SECRET is not required."""
    (tmp_path / "key.pem").write_text("-")
    env = {"REFRESH_SECRET": REFRESH, "JWT_PRIVATE_KEY_FILE": str(tmp_path / "key.pem")}
    assert not settings_from(env=env).jwt_secret
    assert settings_from(env=env | {"JWT_ALGORITHM": "ES256"}).jwt_algorithm == "ES256"


def test_weak_secrets_pass_when_they_are_allowed() -> None:
    """ALLOW_WEAK_SECRETS accepts short secrets, for migrating from another system."""
    env = {"JWT_SECRET": "a", "REFRESH_SECRET": "b", "ALLOW_WEAK_SECRETS": "true"}
    assert settings_from(env=env).jwt_secret == Secret("a")


MAKE = "make one with: openssl rand -base64 48"
NO_ACCESS = f"expected a secret, in JWT_SECRET or a file named by JWT_SECRET_FILE; {MAKE}"
NO_REFRESH = f"expected a secret, in REFRESH_SECRET or a file named by REFRESH_SECRET_FILE; {MAKE}"
SHORT = f"expected at least 32 bytes; it has 3; {MAKE}"
EQUAL = (
    "expected a secret that differs from JWT_SECRET, because otherwise an access token would pass "
    f"for a refresh token; {MAKE}"
)
DURATION = "expected a duration such as 15m, 12h, 7d, 900 or 100ms"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param(
            {},
            [
                f"jwt_secret: {NO_ACCESS}",
                f"refresh_secret: {NO_REFRESH}",
            ],
            id="none",
        ),
        pytest.param(
            {"JWT_SECRET": "", "REFRESH_SECRET": REFRESH},
            [f"jwt_secret: {NO_ACCESS}"],
            id="empty",
        ),
        pytest.param(
            {"JWT_SECRET": "x" * 31, "REFRESH_SECRET": REFRESH},
            [f"environment JWT_SECRET: expected at least 32 bytes; it has 31; {MAKE}"],
            id="short",
        ),
        pytest.param(
            SECRETS | {"JWT_ALGORITHM": "HS512"},
            [f"environment JWT_SECRET: expected at least 64 bytes; it has 40; {MAKE}"],
            id="short-for-its-algorithm",
        ),
        pytest.param(
            {"JWT_SECRET": "change-it" * 5, "REFRESH_SECRET": "ab" * 40},
            [
                "environment REFRESH_SECRET: expected a random text; it repeats a few characters; "
                + MAKE
            ],
            id="repetitive",
        ),
        pytest.param(
            SECRETS | {"JWT_SECRET_PREVIOUS": "old", "REFRESH_SECRET_PREVIOUS": "old"},
            [
                f"environment JWT_SECRET_PREVIOUS: {SHORT}",
                f"environment REFRESH_SECRET_PREVIOUS: {SHORT}",
                f"environment REFRESH_SECRET: {EQUAL}",
            ],
            id="weak-previous",
        ),
        pytest.param(
            {"JWT_SECRET": ACCESS, "REFRESH_SECRET": ACCESS, "ALLOW_WEAK_SECRETS": "yes"},
            [f"environment REFRESH_SECRET: {EQUAL}"],
            id="equal-even-when-weak-ones-are-allowed",
        ),
    ],
)
def test_a_bad_secret_is_refused_with_the_command_for_a_good_one(
    env: dict[str, str], expected: list[str]
) -> None:
    """A missing, short, repetitive or equal secret is refused, and never shown."""
    assert problems(env=env) == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param(
            {"TLS_CERT_FILE": "a"},
            "environment TLS_CERT_FILE: expected tls_cert_file and tls_key_file together; only one"
            " is set",
            id="half-a-pair",
        ),
        pytest.param(
            {"TLS_CLIENT_AUTH": "required", "TLS_CLIENT_CA_FILE": "a"},
            "environment TLS_CLIENT_AUTH: expected off, because tls_cert_file is not set; got"
            " required",
            id="without-tls",
        ),
        pytest.param(
            {"TLS_CERT_FILE": "a", "TLS_KEY_FILE": "a", "TLS_CLIENT_AUTH": "optional"},
            "environment TLS_CLIENT_AUTH: expected tls_client_ca_file to be set: the CAs that sign"
            " client certificates",
            id="without-an-authority",
        ),
        pytest.param(
            {"TLS_CERT_FILE": "a", "TLS_KEY_FILE": "a", "TLS_CLIENT_CA_FILE": "a"},
            "tls_client_auth: expected optional or required, because tls_client_ca_file is set; got"
            " off",
            id="an-authority-for-nothing",
        ),
    ],
)
def test_what_does_not_go_together_in_tls(
    tmp_path: Path, env: dict[str, str], expected: str
) -> None:
    """Contradictory TLS settings are refused."""
    (tmp_path / "a").touch()
    paths = {name: str(tmp_path / "a") for name, value in env.items() if value == "a"}
    assert problems(env={**SECRETS, **env, **paths}) == [expected]


def test_the_file_of_a_previous_secret_may_be_missing(tmp_path: Path) -> None:
    """Only the file of a previous secret may be missing, and if present it must have a secret."""
    file = tmp_path / "previous"
    env = {**SECRETS, "JWT_SECRET_PREVIOUS_FILE": str(file)}
    found = settings_from(env=env)
    assert (found.jwt_secret_previous, found.jwt_secret_previous_file) == (Secret(""), str(file))
    file.write_text("")
    where = "environment JWT_SECRET_PREVIOUS_FILE"
    assert problems(env=env) == [f"{where}: expected a secret in the file; it is empty"]
    file.write_text(ACCESS[::-1])
    assert settings_from(env=env).jwt_secret_previous == Secret(ACCESS[::-1])
    unreadable = problems(env={**SECRETS, "JWT_SECRET_PREVIOUS_FILE": str(tmp_path / ("n" * 300))})
    assert "cannot be read: File name too long" in unreadable[0]
    missing = {"REFRESH_SECRET": REFRESH, "JWT_SECRET_FILE": str(tmp_path / "none")}
    assert "cannot be read" in problems(env=missing)[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "expected a secret in the file; it is empty", id="empty"),
        pytest.param(b"\n", "expected a secret in the file; it is empty", id="line-break"),
        pytest.param(b"\xff" * 40, "expected a file of UTF-8 text", id="not-utf-8"),
        pytest.param(b"x" * 70000, "expected a file of at most 65536 bytes", id="large"),
    ],
)
def test_a_bad_secret_file_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    """The problem names the setting of the file, and does not also report a missing secret."""
    mounted = tmp_path / "jwt"
    mounted.write_bytes(content)
    env = {"REFRESH_SECRET": REFRESH, "JWT_SECRET_FILE": str(mounted)}
    assert problems(env=env) == [f"environment JWT_SECRET_FILE: {expected}"]


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    """A secret that is set both directly and by a file is refused."""
    (tmp_path / "jwt").write_text(ACCESS)
    env = SECRETS | {"JWT_SECRET_FILE": str(tmp_path / "jwt")}
    both = "JWT_SECRET and JWT_SECRET_FILE"
    assert problems(env=env) == [
        f"environment JWT_SECRET_FILE: expected only one of {both}; both are set"
    ]


def test_no_problem_shows_a_secret(tmp_path: Path) -> None:
    """No problem shows the value of a secret, or of a URL with a password."""
    file = write(tmp_path, 'jwt_secret = ["hunter2"]\nupstream_url = "http://u:hunter2@app"')
    env = {
        "REFRESH_SECRET": "hunter2",
        "REDIS_PASSWORD": "hunter2\udcff",
        "REDIS_URL": "http://:hunter2@r",
        "JWKS_URL": "ftp://u:hunter2@id",
    }
    found = problems(env=env, file=file)
    assert len(found) == 6
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://u:hunter2/x@app", id="slash"),
        pytest.param("http://u:x/hunter2@app", id="behind-a-slash"),
        pytest.param("http://u:x?hunter2@app", id="behind-a-question-mark"),
        pytest.param("http://u:x@hunter2@app", id="behind-an-at-sign"),
        pytest.param("u:hunter2@app:80", id="no-scheme"),
        pytest.param("//u:hunter2@app:80", id="no-scheme-but-slashes"),
        pytest.param("HTTP://u:hunter2\n@app:80", id="line"),
    ],
)
def test_a_password_in_a_url_is_not_shown(url: str) -> None:
    """The password is not shown even if it makes the URL invalid."""
    env = SECRETS | dict.fromkeys(("UPSTREAM_URL", "JWKS_URL", "REDIRECT_ORIGINS"), url)
    with pytest.raises(ConfigError) as caught:
        settings_from(env=env)
    assert len(caught.value.problems) == 3
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_show_secrets() -> None:
    """No text that is made from settings shows a secret."""
    env = SECRETS | {"REDIS_PASSWORD": "hunter2", "REDIS_URL": "redis://:hunter2@r"}
    settings = settings_from(env=env)
    for text in (repr(settings), str(settings), f"{settings}"):
        assert not {ACCESS, REFRESH, "hunter2"} & set(text.replace("'", " ").split())
        assert "hunter2" not in text
        assert ACCESS not in text


def test_what_must_not_reach_a_log_is_listed() -> None:
    """Every secret that is set is listed, and a URL's password in both spellings."""
    env = SECRETS | {"REDIS_URL": "redis://u:hunter%402@r", "JWT_SECRET_PREVIOUS": "x" + ACCESS}
    found = {secret.reveal() for secret in secrets_of(settings_from(env=env))}
    assert found == {*env.values(), "hunter%402", "hunter@2"}
    assert secrets_of(settings_from(env=SECRETS)) == [Secret(ACCESS), Secret(REFRESH)]


def test_a_secret_file_that_went_away_is_a_problem(tmp_path: Path) -> None:
    """A file that disappears before it is read is a problem, also at a reload."""
    with pytest.raises(InvalidValue, match="cannot be read: No such file or directory"):
        read_secret(str(tmp_path / "absent"))


# ── Problems and their places ──


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """One start reports every problem of every source with its place."""
    file = write(
        tmp_path,
        """
        redis_prt = 6379
        header_timeout = "soon"
        trusted_proxies = ["10.1.0.0/8"]

        [[route]]
        path = "/health"
        access = "public"

        [[route]]
        path = "/admin"
        access = "pubic"
        """,
    )
    env = SECRETS | {"REDIS_PORT": "x", "SIDECAR_CONFG": "y", "JWT_LEEWAY": "2m"}
    assert problems(env=env, file=file, flags={"log_level": "loud"}) == [
        "sidecar.toml: redis_prt: unknown key; did you mean redis_port?",
        "environment SIDECAR_CONFG: unknown variable; did you mean SIDECAR_CONFIG?",
        f'sidecar.toml: header_timeout: {DURATION}, from 1ms to 3650d; got "soon"',
        (
            "sidecar.toml: trusted_proxies: expected a network without host bits: 10.0.0.0/8; "
            'got "10.1.0.0/8"'
        ),
        f'environment JWT_LEEWAY: {DURATION}, from 0 to 60s; got "2m"',
        'environment REDIS_PORT: expected a whole number 1–65535; got "x"',  # noqa: RUF001
        'flag --log-level: expected one of debug, info, warning, error; got "loud"',
        'sidecar.toml: route[2].access: expected one of public, optional, required; got "pubic"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("listen = 5005", "listen: expected an address such as 0.0.0.0:5005", id="int"),
        pytest.param("redis_port = true", "redis_port: expected a whole number", id="bool"),
        pytest.param("redis_port = 1979-05-27", "redis_port: expected a whole number", id="date"),
        pytest.param(
            "REDIS_PORT = 1", "REDIS_PORT: unknown key; did you mean redis_port?", id="case"
        ),
        pytest.param(
            "redis-port = 1", "redis-port: unknown key; did you mean redis_port?", id="dash"
        ),
        pytest.param("zebra = 1", "zebra: unknown key", id="nothing-near"),
        pytest.param('"a\\nb" = 1', '"a�b": unknown key', id="key-with-control"),
        pytest.param("[redis]\nport = 1", "redis: unknown key; did you mean redis_", id="table"),
        pytest.param(
            'session_outage = "strict"\n[[route]]\npath = "/a"\nsession_outage = "local"',
            "session_outage: expected route[1].session_outage no less strict than strict",
            id="outage-looser",
        ),
        pytest.param("route = 1", "route: expected tables under [[route]]; got 1", id="route-int"),
        pytest.param(
            '[route]\npath="/"', "route: expected tables under [[route]]; got a table", id="[]"
        ),
        pytest.param(
            "route = [1]", "route: expected tables under [[route]]; got [1]", id="route-1"
        ),
        pytest.param("[[route]]", "route[1].path: expected a path such as /x", id="route-no-path"),
        pytest.param(
            '[[route]]\npath = "/x"\nacess = "public"',
            "route[1].acess: unknown key; did you mean access?",
            id="route-key",
        ),
        pytest.param(
            '[[route]]\npath = "/x"\nmethods = ["GET", "post"]',
            'route[1].methods: expected a list of methods; "post" is not a method in upper case',
            id="route-method",
        ),
        pytest.param(
            '[[route]]\npath = "/*"\n[[route]]\npath = "/x"',
            "route[2].path: never reached: route[1] (/*) comes first and covers it",
            id="route-unreachable",
        ),
        pytest.param(
            '[[route]]\npath = "/x"\nroles = [1]',
            "route[1].roles: expected a list of words; 1 is not a word",
            id="route-role",
        ),
        pytest.param(
            '[[route]]\npath = "/x"\nclaims = {tenant = []}',
            "route[1].claims: expected a string, a number, true or false, or a list of them",
            id="route-claims",
        ),
        pytest.param(
            '[[route]]\npath = "/x"\nclaims = {a.b = "c"}',
            'route[1].claims: expected the path of a claim in quotes, such as "a.b"; got a table',
            id="route-claims-without-quotes",
        ),
        pytest.param(
            '[[route]]\npath = "/x"\nclaims = {"/a~2" = "c"}',
            'route[1].claims: expected "~" in a JSON pointer only as ~0 (itself) or ~1 ("/")',
            id="route-claims-pointer",
        ),
        pytest.param(
            "[identity]\nX-A = 'a..b'",
            "identity.X-A: expected a name on each side of every dot",
            id="identity-path",
        ),
        *(
            pytest.param(
                f"[[issuer]]\nissuer = 'a'\naudience = 'b'\njwks_url = 'https://a'\n{line}",
                f"issuer[1].{expected}",
                id=f"issuer-{line}",
            )
            for line, expected in (
                ("roles_claim = 7", "roles_claim: expected a claim, or a list of claims"),
                ("roles_claim = ['a', '']", "roles_claim: expected a claim, or a list of claims"),
                ("roles_claim = ['a..b']", "roles_claim: expected a name on each side of every"),
                ("scopes_claim = '/a~'", 'scopes_claim: expected "~" in a JSON pointer only as'),
                ("subject_claim = '.a'", "subject_claim: expected a name on each side of every"),
                ("user_claim = ['a']", "user_claim: expected the name of a claim, or a path"),
                ("audience_claim = '/~'", 'audience_claim: expected "~" in a JSON pointer only'),
            )
        ),
        pytest.param(
            "identity = 1", "identity: expected a table of headers and claims", id="identity"
        ),
        pytest.param(
            "[identity]\nX_A = 'x'", "identity.X_A: expected a header of letters", id="header"
        ),
        pytest.param(
            "[identity]\nHost = 'x'",
            "identity.Host: expected a header that has no other",
            id="taken",
        ),
        pytest.param(
            "[identity]\nX-A = 'x'\nx-a = 'y'",
            "identity.x-a: expected each header once",
            id="twice",
        ),
        pytest.param(
            "[identity]\nX-A = 1",
            "identity.X-A: expected the name of a claim, or a path",
            id="claim",
        ),
        pytest.param("issuer = 'x'", "issuer: expected tables under [[issuer]]", id="issuer-text"),
        pytest.param(
            "[[issuer]]\naudience = 'a'\nkey_file = ''",
            "issuer[1].issuer: expected a non-empty string",
            id="issuer-none",
        ),
        pytest.param(
            "[[issuer]]\nissuer = 'a'\njwks_url = 'https://a'",
            "issuer[1].audience: expected the name of this application in the issuer's tokens "
            '(their "aud"), or "*" to accept tokens for any application; not set',
            id="issuer-without-audience",
        ),
        pytest.param(
            "[[issuer]]\nissuer = 'a'\njwks_url = 'https://a'\naudience = ''",
            "issuer[1].audience: expected the name of this application in the issuer's tokens "
            '(their "aud"), or "*" to accept tokens for any application; got ""',
            id="issuer-with-empty-audience",
        ),
        pytest.param(
            "jwks_url = 'https://a'\njwt_audience = ''",
            "jwt_audience: expected the name of this application in the issuer's tokens (their "
            '"aud"), because jwks_url is set; or "*" to accept tokens for any application',
            id="published-keys-without-audience",
        ),
        pytest.param(
            "[[issuer]]\nissuer = 'a'\naudience = 'b'",
            "issuer[1]: expected jwks_url or key_file, because the issuer is no URL at which its "
            "metadata could be",
            id="no-keys",
        ),
        pytest.param(
            "[[issuer]]\nissuer = 'a'\naudience = 'b'\n"
            "jwks_url = 'https://a/k'\nkey_file = '/dev/null'",
            "issuer[1]: expected either jwks_url or key_file, not both",
            id="two-sources-of-keys",
        ),
        pytest.param(
            "[[issuer]]\nissuer = 'a'\naudience = 'b'\n"
            "key_file = '/dev/null'\nca_file = '/dev/null'",
            "issuer[1]: expected ca_file and token_file without key_file",
            id="nothing-to-fetch",
        ),
        pytest.param(
            "[[issuer]]\nissuer = 'a'\naudience = 'b'\nkey_file = 'absent.pem'",
            "issuer[1].key_file: cannot be read: No such file or directory",
            id="issuer-file",
        ),
        pytest.param(
            "[[issuer]]\nissuer='a'\naudience='b'\njwks_url='https://a'\n"
            "[[issuer]]\nissuer='a'\naudience='b'\njwks_url='https://b'",
            "issuer[2].issuer: expected each issuer once",
            id="issuer-twice",
        ),
        pytest.param(
            "[[issuer]]\nissuer='auth-sidecar'\naudience='b'\njwks_url='https://a'",
            'issuer: expected issuers other than jwt_issuer ("auth-sidecar")',
            id="issuer-own",
        ),
        pytest.param(
            "users_file = 'absent.toml'",
            "users_file: cannot be read: No such file",
            id="absent-file",
        ),
        pytest.param(
            "users_file = '/'", "users_file: cannot be read: Is a directory", id="directory"
        ),
        pytest.param(
            "upstream_url = 'http://127.0.0.1:5005'",
            "upstream_url: expected the application's address; http://127.0.0.1:5005 is this",
            id="loop",
        ),
        pytest.param(
            "upstream_url = 'http://localhost:9105'",
            "upstream_url: expected the app",
            id="admin-loop",
        ),
        pytest.param(
            "admin_listen = '127.0.0.1:5005'",
            "admin_listen: expected a port that differs from that of listen",
            id="same-port",
        ),
        pytest.param(
            "access_token_expiry = '8d'",
            "access_token_expiry: expected at most refresh",
            id="expiries",
        ),
        pytest.param(
            "session_max_age = '1m'",
            "session_max_age: expected at least access_token_expiry",
            id="age",
        ),
        pytest.param(
            "jwt_algorithm = 'RS256'",
            "jwt_algorithm: expected jwt_private_key_file to be set",
            id="alg",
        ),
        pytest.param(
            "jwt_algorithm = 'HS256'\njwt_private_key_file = 'sidecar.toml'",
            "jwt_algorithm: expected an algorithm for the key in jwt_private_key_file; got HS256",
            id="alg-of-key",
        ),
        pytest.param("listen = ", "sidecar.toml: expected TOML: Invalid value (at ", id="not-toml"),
    ],
)
def test_a_bad_file_is_one_problem_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    """Each mistake gives exactly one line, which names the key and what was expected."""
    found = problems(env=SECRETS, file=write(tmp_path, text))
    assert len(found) == 1
    assert (
        found[0].removeprefix("sidecar.toml: ").startswith(expected.removeprefix("sidecar.toml: "))
    )


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        pytest.param("SIDECAR_LISTEN", "did you mean LISTEN?", id="prefixed"),
        pytest.param("SIDECAR_REDIS_HOTS", "did you mean REDIS_HOST?", id="prefixed-and-wrong"),
        pytest.param("SIDECAR_CONFIG_", "did you mean SIDECAR_CONFIG?", id="config"),
    ],
)
def test_a_variable_that_nearly_is_ours_is_reported(variable: str, expected: str) -> None:
    """A variable with our prefix that resembles a setting is reported."""
    found = problems(env=SECRETS | {variable: "x"})
    assert found == [f"environment {variable}: unknown variable; {expected}"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, "cannot be read: No such file or directory", id="absent"),
        pytest.param(b"\xff", "expected UTF-8 text", id="not-utf-8"),
        pytest.param(b"a = 1\na = 2\n", "expected TOML: ", id="not-toml"),
    ],
)
def test_an_unreadable_file_is_named_and_nothing_is_called_missing(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    """The environment is still checked, and no setting of the file is reported missing."""
    file = tmp_path / "sidecar.toml"
    if content is not None:
        file.write_bytes(content)
    first, second = problems(env={"REDIS_PORT": "x"}, file=file)
    assert first.startswith(f"sidecar.toml: {expected}")
    assert second.startswith("environment REDIS_PORT: ")


def test_listeners_may_share_a_port_on_different_addresses() -> None:
    """Only overlapping addresses are refused, and port 0 never overlaps."""
    settings_from(env=SECRETS | {"LISTEN": "127.0.0.1:1", "ADMIN_LISTEN": "127.0.0.2:1"})
    settings_from(env=SECRETS | {"LISTEN": ":0", "ADMIN_LISTEN": ":0"})


def test_tables_are_read(tmp_path: Path) -> None:
    """Routes, issuers and identity headers are read from the file."""
    (tmp_path / "idp.pem").write_text("-")
    file = write(
        tmp_path,
        """
        [identity]
        X-Auth-Email = "email"

        [[route]]
        path = "/reports/*"
        name = "reports"
        methods = ["GET"]
        hosts = ["App.Example"]
        scopes = ["reports:read"]
        claims = {tenant = ["acme", "globex"], level = 3}
        upgrades = []

        [[issuer]]
        issuer = "https://id.example"
        audience = "app"
        key_file = "idp.pem"
        algorithms = ["RS256"]
        session_mode = "none"
        id_tokens = true
        user_claim = "email"
        roles_claim = ["realm_access.roles", "/a~1b/0"]
        scopes_claim = "permissions"
        """,
    )
    settings = settings_from(env=SECRETS, file=file)
    assert settings.identity == {"X-Auth-Email": "email"}
    (route,) = settings.route
    assert (route.path, route.name, route.access) == ("/reports/*", "reports", "required")
    assert (route.methods, route.hosts, route.upgrades) == (("GET",), ("app.example",), ())
    assert route.claims == {"tenant": ("acme", "globex"), "level": (3,)}
    (issuer,) = settings.issuer
    assert issuer.key_file == str(tmp_path / "idp.pem")
    assert (issuer.algorithms, issuer.session_mode) == (("RS256",), "none")
    assert (issuer.audience, issuer.id_tokens, issuer.user_claim) == ("app", True, "email")
    assert issuer.roles_claim == ("realm_access.roles", "/a~1b/0")
    assert issuer.scopes_claim == ("permissions",)


@pytest.mark.parametrize("name", ["JWT_SUBJECT_CLAIM", "JWT_ROLES_CLAIM", "JWT_SCOPES_CLAIM"])
def test_claims_elsewhere_need_another_service(name: str) -> None:
    """The sidecar knows where the claims of its own tokens are."""
    (problem,) = problems(env=SECRETS | {name: "a.b"})
    assert problem == (
        f"jwks_url: expected jwks_url to be set, because {name.lower()} is about the tokens of "
        "another service; for an [[issuer]], set it in its table"
    )
    loaded = load(env=SECRETS | {name: "a.b", "JWKS_URL": "https://id.example/keys"})
    assert getattr(loaded.settings, name.lower()) in {"a.b", ("a.b",)}


@pytest.mark.parametrize(
    ("given", "head", "token", "origin"),
    [
        pytest.param({}, 32768, 16384, {}, id="neither"),
        pytest.param({"MAX_TOKEN_SIZE": "8KiB"}, 32768, 8192, {}, id="shorter-token"),
        pytest.param(
            {"MAX_TOKEN_SIZE": "48KiB"},
            65536,
            49152,
            {"max_head_size": "follows max_token_size"},
            id="head-follows",
        ),
        pytest.param(
            {"MAX_TOKEN_SIZE": str((1 << 20) - 512)},
            1 << 20,
            (1 << 20) - 512,
            {"max_head_size": "follows max_token_size"},
            id="head-follows-to-its-bound",
        ),
        pytest.param({"MAX_HEAD_SIZE": "64KiB"}, 65536, 16384, {}, id="longer-head"),
        pytest.param(
            {"MAX_HEAD_SIZE": "1KiB"},
            1024,
            512,
            {"max_token_size": "follows max_head_size"},
            id="token-follows",
        ),
        pytest.param(
            {"MAX_HEAD_SIZE": "32KiB", "MAX_TOKEN_SIZE": "31KiB"}, 32768, 31744, {}, id="both"
        ),
    ],
)
def test_head_and_token_sizes(
    given: dict[str, str], head: int, token: int, origin: dict[str, str]
) -> None:
    """If only one of the two sizes is set, the other follows, and says so."""
    loaded = load(env=SECRETS | given)
    assert (loaded.settings.max_head_size, loaded.settings.max_token_size) == (head, token)
    names = {"max_head_size", "max_token_size"} - {name.lower() for name in given}
    assert {name: loaded.origins[name] for name in names & loaded.origins.keys()} == origin


def test_a_token_must_fit_into_a_head() -> None:
    """Two sizes that do not fit are refused with both of them."""
    env = SECRETS | {"MAX_HEAD_SIZE": "16KiB", "MAX_TOKEN_SIZE": "16000"}
    (problem,) = problems(env=env)
    assert problem == (
        "environment MAX_TOKEN_SIZE: expected at most 15872: a token is part of a head, so that "
        "max_head_size (16384) limits it; got 16000"
    )
    (problem,) = problems(env=SECRETS | {"MAX_HEAD_SIZE": "big", "MAX_TOKEN_SIZE": "16000"})
    assert problem.startswith("environment MAX_HEAD_SIZE: expected a size")
