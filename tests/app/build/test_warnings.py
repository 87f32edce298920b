"""Warnings that take the files which settings name: users and certificates."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from sidecar.app import build
from sidecar.app.build.warnings import DEMO_HASHES, SOON
from sidecar.demo.stack import USERS, demo_settings
from sidecar.settings import find_warnings
from tests.peers.certificates import certificate
from tests.peers.stack import configure

if TYPE_CHECKING:
    from sidecar.settings import Settings

ROOT = Path(__file__).parents[3]
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMQ"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Usable settings with users of the tests."""
    return configure(tmp_path, "http://127.0.0.1:8080")


def found(settings: Settings, *, later: float = 0.0, **changes: Any) -> list[str]:
    """The warnings that take files, as if `later` seconds had passed."""
    changed = structs.replace(settings, **changes)
    components = build.make_components(changed)
    warnings = build.config_warnings(changed, components, time.time() + later)
    alone = set(find_warnings(changed))
    return [str(each) for each in warnings if each not in alone]


def users(folder: Path, text: str) -> str:
    """The path of a users file with this text."""
    file = folder / "people.toml"
    file.write_text(text)
    return str(file)


def user(name: str, encoded: str, *, disabled: bool = False) -> str:
    """A user's table."""
    off = str(disabled).lower()
    return f'[[user]]\nname = "{name}"\npassword_hash = "{encoded}"\ndisabled = {off}\n'


def test_other_users_are_no_warning(settings: Settings) -> None:
    """Users with their own passwords, and no certificates."""
    assert found(settings) == []


@pytest.mark.parametrize("file", ["config/users.toml", "k8s/example/users.toml"])
def test_the_demo_s_passwords(settings: Settings, file: str) -> None:
    """Each user of the delivered files is named."""
    path = str(ROOT / file)
    rest = "replace its password_hash with one from: sidecar hash-password"
    assert found(settings, users_file=path) == [
        f"users_file {path}: anyone can log in as {name}, because the password is that of the "
        f"demo; {rest}"
        for name in ("alice", "admin")
    ]


def test_every_delivered_hash_is_known() -> None:
    """The list of known hashes is that of every delivered users file, and of the demo."""
    texts = [
        (ROOT / "config/users.toml").read_text(),
        (ROOT / "k8s/example/users.toml").read_text(),
    ]
    for text in (*texts, USERS):
        assert set(re.findall(r'password_hash = "([^"]+)"', text)) == DEMO_HASHES


def test_a_demo_password_of_another_user(settings: Settings, tmp_path: Path) -> None:
    """A copied hash is found under any name; that of a disabled user does no harm."""
    [one, other] = sorted(DEMO_HASHES)
    text = user("root", one) + user("old", other, disabled=True)
    [warning] = found(settings, users_file=users(tmp_path, text))
    assert "anyone can log in as root, " in warning


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        pytest.param("alice", "Alice", "'alice' and 'Alice'", id="case"),
        pytest.param("ren\u00e9", "rene\u0301", r"'ren\xe9' and 'rene\u0301'", id="form"),
        pytest.param("bob", "\uff22ob", r"'bob' and '\uff22ob'", id="width"),
        pytest.param("stra\u00dfe", "STRASSE", r"'stra\xdfe' and 'STRASSE'", id="folding"),
        pytest.param("alice", "alicia", "", id="other"),
    ],
)
def test_users_who_look_alike(
    settings: Settings, tmp_path: Path, one: str, other: str, shown: str
) -> None:
    """An application that compares names loosely would give one user the data of the other."""
    told = found(settings, users_file=users(tmp_path, user(one, HASH) + user(other, HASH)))
    assert len(told) == bool(shown)
    assert all(f"may take {shown} for one user" in warning for warning in told)


@pytest.mark.parametrize(
    "text",
    [pytest.param("", id="empty"), pytest.param(user("a", HASH, disabled=True), id="disabled")],
)
def test_a_file_without_users(settings: Settings, tmp_path: Path, text: str) -> None:
    """A users file that lets nobody in."""
    [warning] = found(settings, users_file=users(tmp_path, text))
    assert "nobody can log in, because the file has no user who is not disabled" in warning
    assert "sidecar hash-password" in warning


@pytest.mark.parametrize(
    ("hours", "later", "expected"),
    [
        pytest.param(-1.0, 0.0, r"expired at .*; peers reject it; replace the file", id="expired"),
        pytest.param(1.0, 0.0, r"expires at .*; replace the file before that", id="soon"),
        pytest.param(24 * 30, 0.0, "", id="a-month"),
        pytest.param(24 * 30, 30 * 86400 - SOON + 60, r"expires at .*", id="a-month-later"),
    ],
)
def test_certificates(
    settings: Settings, tmp_path: Path, hours: float, later: float, expected: str
) -> None:
    """An expired certificate, and one that expires within a week; the date is in UTC."""
    pem = str(certificate(tmp_path, "localhost", hours=hours))
    warnings = found(settings, later=later, tls_cert_file=pem, tls_key_file=pem)
    if not expected:
        assert warnings == []
        return
    [warning] = warnings
    assert re.match(f"tls_cert_file: the certificate {expected}", warning)
    assert re.search(r" at \d{4}-\d\d-\d\d \d\d:\d\d UTC", warning)


def test_the_limit_is_that_of_the_alert() -> None:
    """`SidecarCertificateEnds` and the warning say the same."""
    text = (ROOT / "config" / "alerts.yaml").read_text()
    assert (
        f"sidecar_certificate_expiry_timestamp_seconds) - time() < {SOON / 86400:.0f} * 86400"
        in text
    )


def test_the_demo_s_settings_give_no_warning_but_of_its_users() -> None:
    """The demo listens on loopback with random secrets, and adds its users when it runs."""
    assert [each.where for each in find_warnings(demo_settings(0, 0))] == ["users_file"]
