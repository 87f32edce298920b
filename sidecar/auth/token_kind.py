"""Recognises tokens of an issuer that are not access tokens, by their claims. Pure.

An issuer signs ID tokens, logout tokens and access tokens with the same keys, and mostly under the
same `typ: JWT`, so only claims tell them apart (RFC 8725 section 3.12). Knows what issuers put into
each kind; knows no keys. `tests/auth/providers.py` has the tokens that each provider issues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGOUT_TYPE: Final = "logout+jwt"  # OpenID Connect Back-Channel Logout 1.0 section 2.4
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

# Claims that name the token's kind: Keycloak, Cognito, ForgeRock (two), and common libraries.
_KIND: Final = ("typ", "token_use", "tokenName", "token_type", "type")
_KINDS: Final = {
    **dict.fromkeys(("id", "id_token"), Reason.ID_TOKEN),
    **dict.fromkeys(("logout", "logout_token"), Reason.LOGOUT_TOKEN),
    **dict.fromkeys(("refresh", "refresh_token", "offline"), Reason.TOKEN_TYPE),
}
_ACCESS: Final = frozenset(("access", "access_token", "bearer", "dpop"))
# Hashes of what was issued with an ID token (OpenID Connect Core section 3.3.2.11; FAPI 1.0).
_HASHES: Final = ("at_hash", "c_hash", "s_hash")
# What the bearer may do: an ID token permits nothing.
_PERMISSIONS: Final = ("scope", "scp")
# authentik's access tokens are its ID tokens with these two claims.
_ADDED: Final = frozenset(("azp", "uid"))
# To which client an access token was issued (RFC 9068; Okta; Entra version 1).
_CLIENTS: Final = ("client_id", "cid", "appid")


def find_other_kind(claims: Mapping[str, Any], *, id_tokens: bool = False) -> Reason | None:
    """Return why a token with these claims is not an access token; None if it may be one.

    With `id_tokens`, an ID token passes.
    """
    events = claims.get("events")
    if isinstance(events, dict) and events:
        if LOGOUT_EVENT in events:
            return Reason.LOGOUT_TOKEN
        if all(":" in name for name in events):  # a security event (RFC 8417): its names are URIs
            return Reason.TOKEN_TYPE
    stated = _stated_kinds(claims)
    for kind in stated:
        reason = _KINDS.get(kind)
        if reason is not None and not (id_tokens and reason is Reason.ID_TOKEN):
            return reason
    if not id_tokens and _is_id_token(claims, stated):
        return Reason.ID_TOKEN
    return None


def _stated_kinds(claims: Mapping[str, Any]) -> list[str]:
    values = (claims.get(name) for name in _KIND)
    return [value.lower() for value in values if isinstance(value, str)]


def _is_id_token(claims: Mapping[str, Any], stated: list[str]) -> bool:
    """Whether a token that does not name its kind has the marks of an ID token."""
    if any(name in claims for name in _HASHES):
        return True
    # Keycloak before version 25, ForgeRock and Azure AD B2C copy `nonce` into access tokens.
    if not _ACCESS.isdisjoint(stated) or any(claims.get(name) for name in _PERMISSIONS):
        return False
    if claims.keys() >= _ADDED:
        return False
    if "nonce" in claims:
        return True
    if any(name in claims for name in _CLIENTS):
        return False
    # Okta's access tokens have `auth_time` as well, and Spring's ID tokens `azp`.
    if "auth_time" in claims:
        return True
    # Entra names the client in every access token, in version 2 as `azp`.
    return "tid" in claims and claims.get("ver") in ("1.0", "2.0") and "azp" not in claims
