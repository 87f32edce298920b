"""Makes what tells whose tokens are believed: keys, the issuer and the verifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.app.build.config_errors import config_errors_at
from sidecar.auth.issue import Issuer
from sidecar.auth.keys import Key, KeyRing
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import ACCESS_TYPES, FOREIGN_TYPES, IssuerConfig, SessionMode, Verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.issuers.jwks_fetch import JwksFetcher
    from sidecar.settings import Settings


class Keys:
    """Our own keys: the first of each kind signs, all of them verify. Raises ConfigError."""

    def __init__(self, settings: Settings) -> None:
        self.access = _access_keys(settings)
        self.refresh = _secret_keys(settings, "HS256", "refresh_secret", "refresh_secret_previous")

    def __repr__(self) -> str:
        return f"<Keys {len(self.access)} for access, {len(self.refresh)} for refresh>"


def _access_keys(settings: Settings) -> list[Key]:
    algorithm = settings.jwt_algorithm
    keys = []
    if settings.jwt_private_key_file:
        place = "jwt_private_key_file"
        keys.append(_read_key(place, settings.jwt_issuer, settings.jwt_private_key_file, algorithm))
        algorithm = ""
    secrets = _secret_keys(settings, algorithm or "HS256", "jwt_secret", "jwt_secret_previous")
    return keys + secrets


def _secret_keys(settings: Settings, algorithm: str, *names: str) -> list[Key]:
    """The keys of those of these settings that are set."""
    keys = []
    for name in names:
        secret = getattr(settings, name).reveal().encode()
        if secret:
            with config_errors_at(name):
                weak = settings.allow_weak_secrets
                keys.append(secret_key(settings.jwt_issuer, secret, algorithm, allow_weak=weak))
    return keys


def _read_key(name: str, issuer: str, file: str, algorithm: str, kid: str | None = None) -> Key:
    # 9 MiB and 120 ms, for those who have such keys.
    from sidecar.auth.asymmetric import pem_key  # noqa: PLC0415

    with config_errors_at(f"{name} {file}"):
        return pem_key(issuer, Path(file).read_bytes(), algorithm, kid=kid)


def make_issuer(settings: Settings, keys: Keys) -> Issuer:
    """Who signs what is issued here. Raises ConfigError for keys that cannot."""
    with config_errors_at(
        "jwt_private_key_file" if settings.jwt_private_key_file else "jwt_secret"
    ):
        return Issuer(
            keys.access[0],
            keys.refresh[0],
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            access_ttl=settings.access_token_expiry,
            refresh_ttl=settings.refresh_token_expiry,
            max_age=settings.session_max_age,
        )


def make_verifier(settings: Settings, keys: Keys, foreign: KeyRing) -> Verifier:
    """Who is believed: ourselves, and the configured issuers with the keys known of them now."""
    own = IssuerConfig(
        issuer=settings.jwt_issuer,
        audiences=_audiences(settings.jwt_audience),
        types=FOREIGN_TYPES if settings.jwks_url else ACCESS_TYPES,
        session_mode=SessionMode(settings.session_mode),
    )
    others = [
        IssuerConfig(
            issuer=each.issuer,
            audiences=_audiences(each.audience),
            algorithms=frozenset(each.algorithms),
            types=FOREIGN_TYPES,
            session_mode=SessionMode(each.session_mode),
        )
        for each in settings.issuer
    ]
    refresh = IssuerConfig(
        issuer=settings.jwt_issuer,
        audiences=_audiences(settings.jwt_audience),
        types=frozenset(("refresh+jwt",)),
    )
    return Verifier(
        [own, *others],
        KeyRing((*keys.access, *foreign.keys), foreign.generation),
        refresh,
        KeyRing(keys.refresh),
        leeway=settings.jwt_leeway,
    )


def _audiences(audience: str) -> frozenset[str]:
    return frozenset((audience,)) if audience else frozenset()


def read_foreign_keys(settings: Settings) -> list[Key]:
    """The keys of other issuers that stand in files. Raises ConfigError."""
    return [
        _read_key(
            f"issuer[{number}].key_file",
            each.issuer,
            each.key_file,
            each.algorithms[0] if each.algorithms else "",
            kid="",  # the issuer's own name for it is not known: it serves any
        )
        for number, each in enumerate(settings.issuer, 1)
        if each.key_file
    ]


def make_jwks_fetcher(
    settings: Settings, install: Callable[[str, Sequence[Key]], None]
) -> JwksFetcher | None:
    """Who fetches the keys that are published by URL; None when there are none."""
    places = [(each.issuer, each.jwks_url, each.algorithms) for each in settings.issuer]
    places.append((settings.jwt_issuer, settings.jwks_url, ()))
    if not any(url for _, url, _ in places):
        return None
    # 9 MiB, for the keys that are found there.
    from sidecar.issuers.jwks_fetch import JwksEndpoint, JwksFetcher  # noqa: PLC0415

    return JwksFetcher([JwksEndpoint(*place) for place in places if place[1]], install)
