"""Makes what decides whose tokens are accepted: keys, the issuer and the verifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.app.build.config_errors import config_errors_at
from sidecar.auth.issue import Issuer
from sidecar.auth.keys import Key, KeyRing, with_names
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import ACCESS_TYPES, FOREIGN_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import SessionMode
from sidecar.claim_path import ClaimPath
from sidecar.errors import ConfigError, Problem
from sidecar.settings import ANY_AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.issuers.jwks_fetch import JwksFetcher
    from sidecar.secret import Secret
    from sidecar.settings import Settings


class Keys:
    """The sidecar's own keys: the first of each kind signs, all verify. Raises ConfigError."""

    def __init__(self, settings: Settings) -> None:
        self.access = _access_keys(settings)
        self.refresh = _secret_keys(
            settings,
            "HS256",
            {
                "refresh_secret": settings.refresh_secret,
                "refresh_secret_previous": settings.refresh_secret_previous,
            },
        )

    def __repr__(self) -> str:
        return f"<Keys {len(self.access)} for access, {len(self.refresh)} for refresh>"


def _access_keys(settings: Settings) -> list[Key]:
    algorithm = settings.jwt_algorithm
    keys = []
    if settings.jwt_private_key_file:
        place = "jwt_private_key_file"
        keys.append(_read_key(place, settings.jwt_issuer, settings.jwt_private_key_file, algorithm))
        algorithm = ""
    secrets = {
        "jwt_secret": settings.jwt_secret,
        "jwt_secret_previous": settings.jwt_secret_previous,
    }
    keys += _secret_keys(settings, algorithm or "HS256", secrets)
    previous = settings.jwt_private_key_previous_file
    if previous and Path(previous).exists():
        place = "jwt_private_key_previous_file"
        key = _read_key(place, settings.jwt_issuer, previous, "")
        if not key.can_sign:
            # Its tokens would not count as issued here: the users file would not decide about them.
            problem = "expected a private key; this is a public one"
            raise ConfigError([Problem(f"{place} {previous}", problem)])
        keys.append(key)
    return keys


def _secret_keys(settings: Settings, algorithm: str, secrets: Mapping[str, Secret]) -> list[Key]:
    """A key for each secret that is not empty; `secrets` maps the setting's name to its value."""
    keys = []
    for name, secret in secrets.items():
        value = secret.reveal().encode()
        if value:
            with config_errors_at(name):
                weak = settings.allow_weak_secrets
                keys.append(secret_key(settings.jwt_issuer, value, algorithm, allow_weak=weak))
    return keys


def _read_key(name: str, issuer: str, file: str, algorithm: str, kid: str | None = None) -> Key:
    # The library takes 9 MiB and 120 ms, so it is imported only where there are such keys.
    from sidecar.auth.asymmetric import pem_key  # noqa: PLC0415

    with config_errors_at(f"{name} {file}"):
        return pem_key(issuer, Path(file).read_bytes(), algorithm, kid=kid)


def make_issuer(settings: Settings, keys: Keys) -> Issuer:
    """The issuer, which signs tokens. Raises ConfigError for keys that cannot sign."""
    with config_errors_at(
        "jwt_private_key_file" if settings.jwt_private_key_file else "jwt_secret"
    ):
        return Issuer(
            keys.access[0],
            keys.refresh[0],
            issuer=settings.jwt_issuer,
            audience="" if settings.jwt_audience == ANY_AUDIENCE else settings.jwt_audience,
            access_ttl=settings.access_token_expiry,
            refresh_ttl=settings.refresh_token_expiry,
            max_age=settings.session_max_age,
            max_token=settings.max_token_size,
        )


def make_verifier(settings: Settings, keys: Keys, foreign: KeyRing) -> Verifier:
    """The verifier of own tokens and of the configured issuers', with the keys known now."""
    own = IssuerConfig(
        issuer=settings.jwt_issuer,
        audiences=_audiences(settings.jwt_audience),
        types=FOREIGN_TYPES if settings.jwks_url else ACCESS_TYPES,
        session_mode=SessionMode(settings.session_mode),
        foreign=bool(settings.jwks_url),
        subject_claim=_claim(settings.jwt_subject_claim),
        roles_claims=tuple(map(ClaimPath, settings.jwt_roles_claim)),
        scopes_claims=tuple(map(ClaimPath, settings.jwt_scopes_claim)),
    )
    others = [
        IssuerConfig(
            issuer=each.issuer,
            audiences=_audiences(each.audience),
            algorithms=frozenset(with_names(each.algorithms)),
            types=FOREIGN_TYPES,
            session_mode=SessionMode(each.session_mode),
            foreign=True,
            id_tokens=each.id_tokens,
            claims=tuple((ClaimPath(path), values) for path, values in each.claims.items()),
            audience_claim=_claim(each.audience_claim),
            subject_claim=_claim(each.subject_claim),
            user_claim=_claim(each.user_claim),
            roles_claims=tuple(map(ClaimPath, each.roles_claim)),
            scopes_claims=tuple(map(ClaimPath, each.scopes_claim)),
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
        max_token=settings.max_token_size,
    )


def _audiences(audience: str) -> frozenset[str]:
    """The audiences to accept; empty means all."""
    return frozenset() if audience in {"", ANY_AUDIENCE} else frozenset((audience,))


def _claim(path: str) -> ClaimPath | None:
    return ClaimPath(path) if path else None


def read_foreign_keys(settings: Settings) -> list[Key]:
    """The keys of other issuers that are in files. Raises ConfigError."""
    return [
        _read_key(
            f"issuer[{number}].key_file",
            each.issuer,
            each.key_file,
            each.algorithms[0] if each.algorithms else "",
            kid="",  # how the issuer names it is not known, so it verifies tokens of any kid
        )
        for number, each in enumerate(settings.issuer, 1)
        if each.key_file
    ]


def make_jwks_fetcher(
    settings: Settings, install: Callable[[str, Sequence[Key]], None]
) -> JwksFetcher | None:
    """The fetcher of keys that issuers publish by URL; None if no URL is configured."""
    if not settings.jwks_url and all(each.key_file for each in settings.issuer):
        return None
    # Reading the keys takes a library of 9 MiB.
    from sidecar.issuers.documents import Access  # noqa: PLC0415
    from sidecar.issuers.jwks_fetch import JwksEndpoint, JwksFetcher  # noqa: PLC0415
    from sidecar.issuers.key_copies import KeyCopies  # noqa: PLC0415

    endpoints = []
    for each in settings.issuer:
        if each.key_file:
            continue
        access = Access(each.ca_file, each.token_file)
        with config_errors_at(f"ca_file {each.ca_file}"):
            access.tls()
        endpoints.append(JwksEndpoint(each.issuer, each.jwks_url, each.algorithms, access))
    if settings.jwks_url:
        endpoints.append(JwksEndpoint(settings.jwt_issuer, settings.jwks_url))
    copies = KeyCopies(Path(settings.state_dir) / "keys") if settings.state_dir else None
    return JwksFetcher(endpoints, install, copies=copies)
