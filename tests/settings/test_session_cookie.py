"""The attributes of the session cookie: which values and combinations browsers would accept."""

from __future__ import annotations

import pytest

from sidecar.errors import ConfigError
from sidecar.settings import settings_from

SECRETS = {
    "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
    "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmn",
}


@pytest.mark.parametrize("name", ["__Host-session", "__host-session", "__HOST-x"])
def test_a_domain_and_a_name_bound_to_its_host(name: str) -> None:
    """Browsers refuse this combination; the message names a name that they accept."""
    env = {"SESSION_COOKIE": name, "SESSION_COOKIE_DOMAIN": "example.com"}
    with pytest.raises(ConfigError) as caught:
        settings_from(env=SECRETS | env)
    (problem,) = map(str, caught.value.problems)
    assert problem == (
        "environment SESSION_COOKIE_DOMAIN: expected session_cookie to be another name than "
        f"{name}, such as __Secure-{name[7:]}, because browsers refuse a Domain for names that "
        "begin with __Host-"
    )


def test_a_domain() -> None:
    """With another name, the cookie may have a domain."""
    env = {"SESSION_COOKIE": "__Secure-session", "SESSION_COOKIE_DOMAIN": "Example.com"}
    assert settings_from(env=SECRETS | env).session_cookie_domain == "example.com"


@pytest.mark.parametrize(
    "domain",
    [
        *(".example.com", "example.com.", "com", "192.0.2.7", "::1", "[::1]", "example.com:80"),
        *("https://example.com", "exa mple.com", "example.com; Path=/x", "*.example.com"),
    ],
)
def test_what_is_no_domain(domain: str) -> None:
    """A domain that browsers refuse, or read in another way, is a problem."""
    env = {"SESSION_COOKIE": "__Secure-session", "SESSION_COOKIE_DOMAIN": domain}
    with pytest.raises(ConfigError, match=r"expected a domain such as example\.com"):
        settings_from(env=SECRETS | env)


def test_samesite() -> None:
    """The three values that browsers know, and no other."""
    for value in ("lax", "strict", "none"):
        settings = settings_from(env=SECRETS | {"SESSION_COOKIE_SAMESITE": value})
        assert settings.session_cookie_samesite == value
    with pytest.raises(ConfigError, match="expected one of lax, strict, none"):
        settings_from(env=SECRETS | {"SESSION_COOKIE_SAMESITE": "off"})
