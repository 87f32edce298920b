"""Finds settings that are valid but let nobody in, or everybody: what settings alone show.

`app.build.warnings` adds what takes files. No message contains a secret.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sidecar.errors import ConfigWarning
from sidecar.settings.entropy import ENOUGH, estimate_bits
from sidecar.settings.kinds import show_seconds
from sidecar.settings.model import ANY_AUDIENCE
from sidecar.settings.net import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.settings.model import Settings
    from sidecar.settings.net import Network

# A wider network than the largest private one contains public addresses.
_WIDEST_V4: Final = 8  # 10.0.0.0/8
_WIDEST_V6: Final = 7  # fc00::/7
# Public issuers, where the audience does not say whose token it is: who gets in, and the claim that
# says so
_FOR_ANYBODY: Final = {
    "https://accounts.google.com": ("any Google account", 'hd = "example.com"'),
    "https://token.actions.githubusercontent.com": (
        "any workflow on GitHub",
        'repository_owner_id = "65"',
    ),
}
_SECRETS: Final = (
    *("jwt_secret", "jwt_secret_previous"),
    *("refresh_secret", "refresh_secret_previous"),
)


def find_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield every warning that settings alone show."""
    for find in FINDERS:
        yield from find(settings)


def _no_way_in(settings: Settings) -> Iterator[ConfigWarning]:
    """No users here, and no sign that another service issues tokens or writes sessions."""
    elsewhere = (
        settings.login_url
        or settings.jwks_url
        or settings.issuer
        or settings.session_key == "token"
        or settings.session_mode != "required"
    )
    if not settings.users_file and not elsewhere:
        yield ConfigWarning(
            "users_file",
            "nobody can log in, because there are no users here and no other issuer of tokens",
            "set users_file, or jwks_url or an [[issuer]] if another service logs users in",
        )


def _proxies(settings: Settings) -> Iterator[ConfigWarning]:
    # Collapsed, because 0.0.0.0/1 and 128.0.0.0/1 are everybody as well.
    four = [each for each in settings.trusted_proxies if isinstance(each, IPv4Network)]
    six = [each for each in settings.trusted_proxies if isinstance(each, IPv6Network)]
    wide: list[Network] = [
        *(each for each in collapse_addresses(four) if each.prefixlen < _WIDEST_V4),
        *(each for each in collapse_addresses(six) if each.prefixlen < _WIDEST_V6),
    ]
    for network in wide:
        yield ConfigWarning(
            "trusted_proxies",
            f"{network} contains public addresses, so that any client there can claim another "
            "address, scheme and host",
            "list only the networks of your own proxies",
        )


def _plain_jwks(settings: Settings) -> Iterator[ConfigWarning]:
    urls = [("jwks_url", settings.jwks_url)]
    for number, each in enumerate(settings.issuer, 1):
        if each.jwks_url:
            urls.append((f"issuer[{number}].jwks_url", each.jwks_url))
        elif not each.key_file:  # found by the issuer's metadata
            urls.append((f"issuer[{number}].issuer", each.issuer))
    for where, url in urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            yield ConfigWarning(
                where,
                "the keys are fetched over plain HTTP, so that anyone on the way can replace them "
                "and sign tokens for any user",
                "use the https:// address of the issuer",
            )


def _audience(settings: Settings) -> Iterator[ConfigWarning]:
    if not settings.jwt_audience:
        yield ConfigWarning(
            "jwt_audience",
            "tokens are accepted whatever application they were issued for, because no "
            "audience is set",
            "set it to the name of this application in the issuer's tokens, "
            f'or to "{ANY_AUDIENCE}" if all applications may share tokens',
        )


def _namesakes(settings: Settings) -> Iterator[ConfigWarning]:
    if settings.jwks_url and settings.users_file:
        yield ConfigWarning(
            "jwks_url",
            "the application takes users of this issuer and of users_file with equal names for the "
            f'same people, because the tokens of both have the issuer "{settings.jwt_issuer}"',
            "move the other service into an [[issuer]] table with its own name",
        )


def _weak_secrets(settings: Settings) -> Iterator[ConfigWarning]:
    if settings.allow_weak_secrets:
        yield ConfigWarning(
            "allow_weak_secrets",
            "secrets that can be guessed are accepted, and with them tokens that anyone made",
            "remove it once every secret is random",
        )
    for name in _SECRETS:
        secret = getattr(settings, name).reveal()
        if secret and estimate_bits(secret) < ENOUGH:
            yield ConfigWarning(
                name,
                "the secret looks like words or a pattern, so that it can be guessed from one "
                f"token (estimated below {ENOUGH:.0f} bits)",
                "make a random one with: openssl rand -base64 48",
            )


def _max_age(settings: Settings) -> Iterator[ConfigWarning]:
    if settings.session_max_age < settings.refresh_token_expiry:
        longest = show_seconds(settings.session_max_age)
        yield ConfigWarning(
            "session_max_age",
            f"a login ends after {longest}, so that refresh_token_expiry "
            f"({show_seconds(settings.refresh_token_expiry)}) never takes effect",
            f"set refresh_token_expiry to at most {longest}, or session_max_age to more",
        )


def _one_address(settings: Settings) -> Iterator[ConfigWarning]:
    most, of_one = settings.max_connections, settings.max_connections_per_address
    if 0 < most <= of_one:
        yield ConfigWarning(
            "max_connections_per_address",
            f"one address can take all {most} connections of max_connections, so that no other "
            "client is let in",
            f"set it to {max(1, most // 4)}, a quarter of max_connections, or to 0 behind a proxy "
            "that limits its clients",
        )


def _plain_sign_in(settings: Settings) -> Iterator[ConfigWarning]:
    """The sign-in page is served, and as far as the settings show over plain HTTP only."""
    encrypted = settings.tls_cert_file or settings.trusted_proxies
    if settings.users_file and not encrypted and settings.listen.host not in LOOPBACK:
        yield ConfigWarning(
            "session_cookie",
            "browsers do not keep the cookie over plain HTTP, so that signing in leads back to "
            "the sign-in page, except at localhost",
            "set tls_cert_file and tls_key_file, or trusted_proxies to the proxy that serves HTTPS",
        )


def _cors(settings: Settings) -> Iterator[ConfigWarning]:
    """Origins that others than the operator may control, and that may use the session cookie."""
    if settings.cors is None or not settings.cors.credentials:
        return
    for origin in settings.cors.origins:
        host = urlsplit(origin).hostname or ""
        if "*" in origin:
            yield ConfigWarning(
                "cors.origins",
                f"every sub-domain that matches {origin} can act as a user who visits it, also one "
                "that was taken over or that serves the content of users",
                "list the origins by name",
            )
        if origin.startswith("http://") and host not in LOOPBACK:
            yield ConfigWarning(
                "cors.origins",
                f"{origin} is not encrypted, so that anyone on the way can act as a user there",
                "serve that page over HTTPS and list its https:// origin",
            )


def _open_issuers(settings: Settings) -> Iterator[ConfigWarning]:
    for number, each in enumerate(settings.issuer, 1):
        if each.issuer in _FOR_ANYBODY and not each.claims:
            who, claim = _FOR_ANYBODY[each.issuer]
            yield ConfigWarning(
                f"issuer[{number}].claims",
                f"{who} may get a token for this audience, and with it is let in",
                f"require a claim that only your own have, such as claims = {{{claim}}}",
            )


FINDERS: Final[tuple[Callable[[Settings], Iterator[ConfigWarning]], ...]] = (
    _no_way_in,
    _proxies,
    _plain_jwks,
    _audience,
    _open_issuers,
    _namesakes,
    _weak_secrets,
    _max_age,
    _one_address,
    _plain_sign_in,
    _cors,
)
