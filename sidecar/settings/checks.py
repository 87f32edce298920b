"""Checks the relations between settings that are each well-formed, and the strength of secrets."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sidecar.settings.model import ANY_AUDIENCE, SECRET_BYTES, TOKEN_ROOM
from sidecar.settings.net import LOOPBACK, WILDCARD
from sidecar.settings.routes import TRUST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.secret import Secret
    from sidecar.settings.model import Settings

MIN_DISTINCT_BYTES: Final = 8  # a random secret of the required length never has fewer
MAKE_ONE: Final = "make one with: openssl rand -base64 48"


def check(settings: Settings, unread: set[str]) -> Iterator[tuple[str, str]]:
    """Yield every problem as the name of a setting and a message.

    `unread` names the settings whose value could not be read; checks that need them are skipped.
    """
    for names, find in CHECKS:
        if not unread.intersection(names) and (problem := find(settings)):
            yield names[0], problem


def _jwt_secret(settings: Settings) -> str | None:
    if settings.jwt_secret.reveal() or settings.jwt_private_key_file:
        return _weak(settings.jwt_secret, settings, settings.jwt_algorithm)
    return f"expected a secret, in JWT_SECRET or a file named by JWT_SECRET_FILE; {MAKE_ONE}"


def _refresh_secret(settings: Settings) -> str | None:
    if settings.refresh_secret.reveal():
        return _weak(settings.refresh_secret, settings)
    return (
        f"expected a secret, in REFRESH_SECRET or a file named by REFRESH_SECRET_FILE; {MAKE_ONE}"
    )


def _jwt_secret_previous(settings: Settings) -> str | None:
    return _weak(settings.jwt_secret_previous, settings, settings.jwt_algorithm)


def _refresh_secret_previous(settings: Settings) -> str | None:
    return _weak(settings.refresh_secret_previous, settings)


def _weak(secret: Secret, settings: Settings, algorithm: str = "HS256") -> str | None:
    shortest = SECRET_BYTES.get(algorithm, SECRET_BYTES["HS256"])
    value = secret.reveal().encode()
    if not value or settings.allow_weak_secrets:
        return None
    if len(value) < shortest:
        return f"expected at least {shortest} bytes; it has {len(value)}; {MAKE_ONE}"
    if len(set(value)) < MIN_DISTINCT_BYTES:
        return f"expected a random text; it repeats a few characters; {MAKE_ONE}"
    return None


def _secrets_differ(settings: Settings) -> str | None:
    access = (settings.jwt_secret, settings.jwt_secret_previous)
    refresh = (settings.refresh_secret, settings.refresh_secret_previous)
    if any(_same(one, other) for one in access for other in refresh):
        return (
            "expected a secret that differs from JWT_SECRET, because otherwise an access token "
            f"would pass for a refresh token; {MAKE_ONE}"
        )
    return None


def _same(one: Secret, other: Secret) -> bool:
    value = one.reveal().encode()
    return bool(value) and hmac.compare_digest(value, other.reveal().encode())


def _algorithm(settings: Settings) -> str | None:
    algorithm = settings.jwt_algorithm
    symmetric = algorithm in SECRET_BYTES
    if symmetric and settings.jwt_private_key_file:
        return f"expected an algorithm for the key in jwt_private_key_file; got {algorithm}"
    if algorithm and not symmetric and not settings.jwt_private_key_file:
        return (
            f"expected jwt_private_key_file to be set, because {algorithm} signs with a private key"
        )
    return None


def _expiries(settings: Settings) -> str | None:
    if settings.access_token_expiry > settings.refresh_token_expiry:
        return "expected at most refresh_token_expiry"
    return None


def _max_age(settings: Settings) -> str | None:
    if settings.session_max_age < settings.access_token_expiry:
        return "expected at least access_token_expiry"
    return None


def _listeners(settings: Settings) -> str | None:
    one, other = settings.listen, settings.admin_listen
    overlap = one.host == other.host or {one.host, other.host} & WILDCARD
    if one.port == other.port and one.port and overlap:
        return f"expected a port that differs from that of listen ({one})"
    return None


def _loop(settings: Settings) -> str | None:
    upstream = settings.upstream_url
    if upstream.host not in LOOPBACK | WILDCARD:
        return None
    for name, own in (("listen", settings.listen), ("admin_listen", settings.admin_listen)):
        if upstream.port == own.port and own.host in LOOPBACK | WILDCARD:
            return f"expected the application's address; {upstream} is this sidecar's own ({name})"
    return None


def _own_issuer(settings: Settings) -> str | None:
    if any(issuer.issuer == settings.jwt_issuer for issuer in settings.issuer):
        return f'expected issuers other than jwt_issuer ("{settings.jwt_issuer}")'
    return None


def _foreign_audience(settings: Settings) -> str | None:
    if settings.jwks_url and not settings.jwt_audience:
        return (
            'expected the name of this application in the issuer\'s tokens (their "aud"), because '
            f'jwks_url is set; or "{ANY_AUDIENCE}" to accept tokens for any application'
        )
    return None


def _token_size(settings: Settings) -> str | None:
    most = settings.max_head_size - TOKEN_ROOM
    if settings.max_token_size > most:
        return (
            f"expected at most {most}: a token is part of a head, so that max_head_size "
            f"({settings.max_head_size}) limits it; got {settings.max_token_size}"
        )
    return None


def _claims_elsewhere(settings: Settings) -> str | None:
    for name in ("jwt_subject_claim", "jwt_roles_claim", "jwt_scopes_claim"):
        if getattr(settings, name) and not settings.jwks_url:
            return (
                f"expected jwks_url to be set, because {name} is about the tokens of another "
                "service; for an [[issuer]], set it in its table"
            )
    return None


def _redis_certificate(settings: Settings) -> str | None:
    return _pair("redis", settings.redis_cert_file, settings.redis_key_file)


def _redis_password(settings: Settings) -> str | None:
    if not settings.redis_password_command:
        return None
    for name in ("redis_password_file", "redis_password"):
        if getattr(settings, name):
            return f"expected no {name}, because redis_password_command is set"
    if urlsplit(settings.redis_url.reveal()).password is not None:
        return "expected no password in redis_url, because redis_password_command is set"
    return None


def _sentinels(settings: Settings) -> str | None:
    if "+sentinel:" in settings.redis_url.reveal():
        return None
    for name in ("redis_sentinel_username", "redis_sentinel_password"):
        if getattr(settings, name):
            return f"expected redis+sentinel:// or rediss+sentinel://, because {name} is set"
    return None


def _sentinel_user(settings: Settings) -> str | None:
    if settings.redis_sentinel_username and not settings.redis_sentinel_password:
        return (
            "expected redis_sentinel_password or redis_sentinel_password_file to be set, because "
            "redis_sentinel_username is"
        )
    return None


def _certificate(settings: Settings) -> str | None:
    return _pair("tls", settings.tls_cert_file, settings.tls_key_file)


def _client_auth(settings: Settings) -> str | None:
    if settings.tls_client_auth == "off":
        if settings.tls_client_ca_file:
            return "expected optional or required, because tls_client_ca_file is set; got off"
        return None
    if not settings.tls_cert_file:
        return f"expected off, because tls_cert_file is not set; got {settings.tls_client_auth}"
    if not settings.tls_client_ca_file:
        return "expected tls_client_ca_file to be set: the CAs that sign client certificates"
    return None


def _upstream_certificate(settings: Settings) -> str | None:
    return _pair("upstream", settings.upstream_cert_file, settings.upstream_key_file)


def _pair(whose: str, cert_file: str, key_file: str) -> str | None:
    if bool(cert_file) == bool(key_file):
        return None
    return f"expected {whose}_cert_file and {whose}_key_file together; only one is set"


def _upstream_tls(settings: Settings) -> str | None:
    names = ("upstream_ca_file", "upstream_cert_file", "upstream_server_name")
    given = [name for name in names if getattr(settings, name)]
    if given and settings.upstream_url.scheme != "https":
        return f"expected https, because {given[0]} is set; got {settings.upstream_url}"
    return None


def _cookie_domain(settings: Settings) -> str | None:
    name = settings.session_cookie
    if settings.session_cookie_domain and name.lower().startswith("__host-"):
        other = f"__Secure-{name[7:]}"
        return (
            f"expected session_cookie to be another name than {name}, such as {other}, because "
            "browsers refuse a Domain for names that begin with __Host-"
        )
    return None


def _outages(settings: Settings) -> str | None:
    everywhere = settings.session_outage
    for number, route in enumerate(settings.route, 1):
        if route.session_outage and TRUST[route.session_outage] > TRUST[everywhere]:
            return (
                f"expected route[{number}].session_outage no less strict than {everywhere};"
                f" got {route.session_outage}"
            )
    return None


CHECKS: Final[tuple[tuple[tuple[str, ...], Callable[[Settings], str | None]], ...]] = (
    (("jwt_secret", "jwt_private_key_file", "jwt_algorithm", "allow_weak_secrets"), _jwt_secret),
    (("jwt_secret_previous", "jwt_algorithm", "allow_weak_secrets"), _jwt_secret_previous),
    (("refresh_secret", "allow_weak_secrets"), _refresh_secret),
    (("refresh_secret_previous", "allow_weak_secrets"), _refresh_secret_previous),
    (("refresh_secret", "jwt_secret"), _secrets_differ),
    (("jwt_algorithm", "jwt_private_key_file"), _algorithm),
    (("access_token_expiry", "refresh_token_expiry"), _expiries),
    (("session_max_age", "access_token_expiry"), _max_age),
    (("session_outage", "route"), _outages),
    (("session_cookie_domain", "session_cookie"), _cookie_domain),
    (("max_token_size", "max_head_size"), _token_size),
    (("redis_cert_file", "redis_key_file"), _redis_certificate),
    (("redis_password_command", "redis_password_file", "redis_url"), _redis_password),
    (("redis_url", "redis_sentinel_username", "redis_sentinel_password"), _sentinels),
    (("redis_sentinel_username", "redis_sentinel_password"), _sentinel_user),
    (("tls_cert_file", "tls_key_file"), _certificate),
    (("tls_client_auth", "tls_client_ca_file", "tls_cert_file"), _client_auth),
    (("upstream_cert_file", "upstream_key_file"), _upstream_certificate),
    (
        ("upstream_url", "upstream_ca_file", "upstream_cert_file", "upstream_server_name"),
        _upstream_tls,
    ),
    (("admin_listen", "listen"), _listeners),
    (("upstream_url", "listen", "admin_listen"), _loop),
    (("issuer", "jwt_issuer"), _own_issuer),
    (("jwt_audience", "jwks_url"), _foreign_audience),
    (
        ("jwks_url", "jwt_subject_claim", "jwt_roles_claim", "jwt_scopes_claim"),
        _claims_elsewhere,
    ),
)
