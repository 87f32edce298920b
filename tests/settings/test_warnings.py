"""Warnings about valid settings that let nobody in, or everybody."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from msgspec import structs

from sidecar.secret import Secret
from sidecar.settings import Address, CorsSettings, IssuerSettings, Settings, find_warnings

ACCESS = "yB3vYl0b6kQ9mEo2uT7xWc5ZrHs8Jd1fNgPaKqXi4LtR"
REFRESH = "Q2wCz8Vn5GhT0yJb7LsXf3RkPd9MuAe6WoHq1IxNr4Zt"
TEXT = "the-secret-of-our-company-for-signing"
# A deployment that nothing can be said about.
SOUND = Settings(
    jwt_secret=Secret(ACCESS),
    refresh_secret=Secret(REFRESH),
    users_file="users.toml",
    tls_cert_file="cert.pem",
    tls_key_file="key.pem",
)


def issuer(**changes: Any) -> tuple[IssuerSettings, ...]:
    """A sound issuer, and one with these changes."""
    sound = IssuerSettings(issuer="a", audience="app", jwks_url="https://id.example/keys")
    return (sound, structs.replace(sound, **{"issuer": "b", **changes}))


def places(**changes: Any) -> list[str]:
    """The places of the warnings about a sound deployment with these changes."""
    return [each.where for each in find_warnings(structs.replace(SOUND, **changes))]


def networks(*texts: str) -> tuple[Any, ...]:
    """The networks of these texts."""
    return tuple(map(ip_network, texts))


@pytest.mark.parametrize(
    ("changes", "where", "message", "remedy"),
    [
        pytest.param(
            {"users_file": ""}, "users_file", "nobody can log in", "set users_file", id="no-way-in"
        ),
        pytest.param(
            {"cors": CorsSettings(origins=("https://*.example.com",), credentials=True)},
            "cors.origins",
            "every sub-domain that matches https://*.example.com can act as a user",
            "list the origins by name",
            id="subdomains-with-credentials",
        ),
        pytest.param(
            {"cors": CorsSettings(origins=("http://app.example.com",), credentials=True)},
            "cors.origins",
            "http://app.example.com is not encrypted",
            "list its https:// origin",
            id="plain-origin-with-credentials",
        ),
        pytest.param(
            {"trusted_proxies": networks("10.0.0.0/8", "0.0.0.0/0")},
            "trusted_proxies",
            "0.0.0.0/0 contains public addresses",
            "list only the networks of your own proxies",
            id="everybody",
        ),
        pytest.param(
            {"trusted_proxies": networks("0.0.0.0/1", "128.0.0.0/1")},
            "trusted_proxies",
            "0.0.0.0/0 contains public addresses",
            "list only",
            id="everybody-in-two-halves",
        ),
        pytest.param(
            {"trusted_proxies": networks("::/0")},
            "trusted_proxies",
            "::/0 contains public addresses",
            "list only",
            id="everybody-in-ipv6",
        ),
        pytest.param(
            {"jwks_url": "http://id.example/keys", "users_file": ""},
            "jwks_url",
            "the keys are fetched over plain HTTP",
            "use the https:// address",
            id="plain-keys",
        ),
        pytest.param(
            {"issuer": issuer(jwks_url="HTTP://id.example/keys")},
            "issuer[2].jwks_url",
            "the keys are fetched over plain HTTP",
            "use the https:// address",
            id="plain-keys-of-an-issuer",
        ),
        *(
            pytest.param(
                {"issuer": issuer(issuer=name)},
                "issuer[2].claims",
                f"{who} may get a token for this audience",
                f"require a claim that only your own have, such as claims = {{{claim} = ",
                id=who,
            )
            for name, who, claim in (
                ("https://accounts.google.com", "any Google account", "hd"),
                (
                    *("https://token.actions.githubusercontent.com", "any workflow on GitHub"),
                    "repository_owner_id",
                ),
            )
        ),
        pytest.param(
            {"jwt_audience": ""},
            "jwt_audience",
            "tokens are accepted whatever application they were issued for",
            "set it to the name of this application",
            id="no-audience",
        ),
        pytest.param(
            {"jwks_url": "https://id.example/keys"},
            "jwks_url",
            "the application takes users of this issuer and of users_file with equal names",
            "move the other service into an [[issuer]] table",
            id="namesakes",
        ),
        *(
            pytest.param(
                {name: Secret(TEXT)},
                name,
                "the secret looks like words",
                "openssl rand -base64 48",
                id=name,
            )
            for name in (
                *("jwt_secret", "jwt_secret_previous"),
                *("refresh_secret", "refresh_secret_previous"),
            )
        ),
        pytest.param(
            {"allow_weak_secrets": True},
            "allow_weak_secrets",
            "secrets that can be guessed are accepted",
            "remove it once every secret is random",
            id="weak-secrets",
        ),
        pytest.param(
            {"session_max_age": 86400.0},
            "session_max_age",
            "a login ends after 1d, so that refresh_token_expiry (7d) never takes effect",
            "set refresh_token_expiry to at most 1d",
            id="max-age",
        ),
        pytest.param(
            {"max_connections": 1000},
            "max_connections_per_address",
            "one address can take all 1000 connections of max_connections",
            "set it to 250, a quarter of max_connections",
            id="one-address",
        ),
        pytest.param(
            {"tls_cert_file": "", "tls_key_file": ""},
            "session_cookie",
            "browsers do not keep the cookie over plain HTTP",
            "set tls_cert_file and tls_key_file, or trusted_proxies",
            id="plain-sign-in",
        ),
    ],
)
def test_a_warning_names_place_and_way_out(
    changes: dict[str, Any], where: str, message: str, remedy: str
) -> None:
    """Each finding is one warning, with what follows and what to do, and without a secret."""
    [warning] = find_warnings(structs.replace(SOUND, **changes))
    assert warning.where == where
    assert message in warning.message
    assert remedy in warning.remedy
    assert str(warning) == f"{where}: {warning.message}; {warning.remedy}"
    assert not {TEXT, ACCESS, REFRESH} & set(str(warning).split())
    assert TEXT not in str(warning)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="sound"),
        pytest.param({"users_file": "", "issuer": issuer()}, id="users-of-an-issuer"),
        pytest.param({"users_file": "", "jwks_url": "https://id.example/keys"}, id="own-issuer"),
        pytest.param({"users_file": "", "login_url": "https://id.example/"}, id="other-page"),
        pytest.param({"users_file": "", "session_key": "token"}, id="shared-with-services"),
        pytest.param({"users_file": "", "session_mode": "denylist"}, id="tokens-suffice"),
        pytest.param(
            {"trusted_proxies": networks("10.0.0.0/8", "fc00::/7", "127.0.0.1/32")},
            id="private-networks",
        ),
        pytest.param(
            {"jwks_url": "http://127.0.0.1:8081/keys", "users_file": ""},
            id="keys-from-the-same-pod",
        ),
        pytest.param(
            {"issuer": issuer(issuer="https://accounts.google.com", claims={"hd": ("x.example",)})},
            id="public-issuer-of-own-accounts",
        ),
        pytest.param({"session_max_age": 7 * 86400.0}, id="max-age-equal"),
        pytest.param({"max_connections": 0}, id="no-limit-of-connections"),
        pytest.param(
            {"max_connections": 100, "max_connections_per_address": 0}, id="no-limit-per-address"
        ),
        pytest.param(
            {"tls_cert_file": "", "listen": Address("127.0.0.1", 5005)}, id="plain-on-loopback"
        ),
        pytest.param(
            {"tls_cert_file": "", "trusted_proxies": networks("10.1.2.0/24")}, id="behind-a-proxy"
        ),
        pytest.param(
            {"tls_cert_file": "", "users_file": "", "issuer": issuer()}, id="no-sign-in-page"
        ),
    ],
)
def test_a_sound_deployment_has_no_warning(changes: dict[str, Any]) -> None:
    """What is usual in production gives no warning, because nobody would read the others."""
    assert places(**changes) == []


def test_the_eight_variables_alone_let_nobody_in() -> None:
    """The settings that the project began with are not enough to log in."""
    settings = Settings(jwt_secret=Secret(ACCESS), refresh_secret=Secret(REFRESH))
    assert [each.where for each in find_warnings(settings)] == ["users_file"]


def test_any_audience_said_aloud() -> None:
    """Accepting tokens for any application gives no warning if the configuration says so."""
    assert places(jwt_audience="*", issuer=issuer(audience="*")) == []


def test_all_at_once() -> None:
    """Every finding is reported, in the order of the table."""
    found = places(
        users_file="",
        trusted_proxies=networks("0.0.0.0/0", "::/0"),
        jwt_audience="",
        jwt_secret=Secret(TEXT),
        session_max_age=86400.0,
    )
    expected = ["users_file", "trusted_proxies", "trusted_proxies", "jwt_audience", "jwt_secret"]
    assert found == [*expected, "session_max_age"]
