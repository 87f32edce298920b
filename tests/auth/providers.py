"""Tokens of real identity providers, by their documentation and from decoded samples.

Each has the header type and the claims that the provider writes, apart from `iss`, `aud` and dates,
which the tests add. An access token is for an API, all others are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.auth.reason import Reason

USER: Final = "248289dc-1f2e-4a77-9c83-90c8a4f2f44a"
CLIENT: Final = "0oa1gjh63g214q0Hq0g4"
HASH: Final = "fPlsvVszI29LU2UhDyJ9vg"
NONCE: Final = "n-0S6_WzA2Mj"
AUTH_TIME: Final = 1_799_999_000
LOGOUT: Final[dict[str, Any]] = {"http://schemas.openid.net/event/backchannel-logout": {}}


@dataclass(frozen=True, slots=True)
class Issued:
    """One token as a provider issues it. `kind` is the reason to refuse it, or None."""

    name: str
    claims: dict[str, Any]
    kind: Reason | None = None
    typ: str | None = "JWT"  # None: the header has none
    gone: tuple[str, ...] = field(default=())  # registered claims that it lacks

    def __repr__(self) -> str:
        return f"<Issued {self.name}>"


_KEYCLOAK: Final = {
    "auth_time": AUTH_TIME,
    "sub": USER,
    "azp": "app",
    "sid": "5a2f0b1c-6a0e-4c43-8d0a-3a1f0c1f8b12",
    "acr": "1",
    "preferred_username": "alice",
    "name": "Alice Liddell",
    "email": "alice@example.org",
    "email_verified": True,
}
_KEYCLOAK_ACCESS: Final = {
    **_KEYCLOAK,
    "typ": "Bearer",
    "allowed-origins": ["https://app.example.com"],
    "realm_access": {"roles": ["offline_access", "user"]},
    "resource_access": {"account": {"roles": ["view-profile"]}},
    "scope": "openid profile email",
}
_ENTRA: Final = {
    "aio": "AXQAi/8IAAAA",
    "name": "Alice Liddell",
    "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "preferred_username": "alice@contoso.com",
    "rh": "0.AgEAkd0",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": "fa15d692-e9c7-4460-a743-29f29522229d",
    "uti": "r1Xnj0KBd0m6pVnV",
    "ver": "2.0",
}
_B2C: Final = {
    "oid": USER,
    "sub": USER,
    "emails": ["alice@example.org"],
    "tfp": "B2C_1_SiUpIn",
    "nonce": "defaultNonce",
    "ver": "1.0",
}
_OKTA: Final = {"ver": 1, "auth_time": AUTH_TIME}
_COGNITO: Final = {
    "sub": USER,
    "cognito:groups": ["users"],
    "auth_time": AUTH_TIME,
    "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
    "origin_jti": "5b9f50a3-05da-454a-8b99-b79c2349de77",
}
_DUENDE: Final = {
    "sub": USER,
    "auth_time": AUTH_TIME,
    "idp": "local",
    "amr": ["pwd"],
    "sid": "B5C8F6D3E4",
}
_FORGEROCK: Final = {
    "sub": "alice",
    "auditTrackingId": "1d2a1f44-0001",
    "auth_time": AUTH_TIME,
    "realm": "/",
}
_AUTHENTIK: Final = {
    "sub": USER,
    "auth_time": AUTH_TIME,
    "acr": "goauthentik.io/providers/oauth2/default",
    "amr": ["pwd"],
    "nonce": NONCE,
    "sid": "b1946ac92492d2347c6235b4d2611184",
    "email": "alice@example.org",
}

ACCESS_TOKENS: Final = (
    Issued("keycloak", _KEYCLOAK_ACCESS),
    # Until version 24, and later with the mapper "Nonce backwards compatible".
    Issued("keycloak-with-nonce", {**_KEYCLOAK_ACCESS, "nonce": NONCE}),
    Issued(
        "keycloak-lightweight",
        {"sub": USER, "typ": "Bearer", "azp": "app", "sid": "s", "auth_time": AUTH_TIME},
    ),
    Issued("keycloak-dpop", {**_KEYCLOAK_ACCESS, "typ": "DPoP", "cnf": {"jkt": "x"}}),
    Issued("keycloak-at-jwt", _KEYCLOAK_ACCESS, typ="at+jwt"),
    Issued("entra-v2", {**_ENTRA, "azp": CLIENT, "azpacr": "0", "scp": "access_as_user"}),
    Issued("entra-v2-application", {**_ENTRA, "azp": CLIENT, "azpacr": "1", "roles": ["Read"]}),
    Issued(
        "entra-v1",
        {**_ENTRA, "ver": "1.0", "acr": "1", "amr": ["pwd"], "appid": CLIENT, "appidacr": "0"},
    ),
    Issued("azure-ad-b2c", {**_B2C, "scp": "App.Read App.Write", "azp": CLIENT}),
    Issued(
        "okta",
        {**_OKTA, "sub": "alice@example.org", "cid": CLIENT, "uid": USER, "scp": ["openid"]},
        typ=None,
    ),
    Issued("okta-service", {"ver": 1, "sub": CLIENT, "cid": CLIENT, "scp": ["api"]}, typ=None),
    Issued(
        "auth0",
        {"sub": "auth0|6553da60a54af58e", "azp": CLIENT, "scope": "openid read:x", "gty": "pwd"},
    ),
    Issued("auth0-rfc9068", {"sub": USER, "client_id": CLIENT, "scope": "api"}, typ="at+jwt"),
    Issued(
        "cognito",
        {
            **_COGNITO,
            "token_use": "access",
            "client_id": CLIENT,
            "scope": "openid email",
            "username": "alice",
            "version": 2,
        },
        typ=None,
    ),
    Issued("duende", {**_DUENDE, "client_id": CLIENT, "scope": ["openid", "api"]}, typ="at+jwt"),
    Issued(
        "forgerock",
        {
            **_FORGEROCK,
            "tokenName": "access_token",
            "token_type": "Bearer",
            "nonce": NONCE,
            "cts": "OAUTH2_STATELESS_GRANT",
            "scope": ["openid"],
        },
    ),
    Issued("spring", {"sub": "alice", "scope": ["read"]}, typ=None),
    Issued(
        "adfs",
        {
            "sub": "alice",
            "apptype": "Public",
            "appid": CLIENT,
            "authmethod": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport",
            "auth_time": "2026-01-31T12:00:00.000Z",
            "ver": "1.0",
            "scp": "openid",
        },
    ),
    Issued("zitadel", {"sub": "163840776835432705", "client_id": CLIENT}),
    Issued("authentik", {**_AUTHENTIK, "azp": CLIENT, "uid": "jhR"}),
    Issued("authentik-with-scope", {**_AUTHENTIK, "azp": CLIENT, "uid": "jhR", "scope": "openid"}),
    Issued(
        "kubernetes",
        {
            "sub": "system:serviceaccount:default:app",
            "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "app"}},
        },
        typ=None,
    ),
    Issued(
        "github-actions",
        {"sub": "repo:octo/app:ref:refs/heads/main", "repository": "octo/app", "ref": "main"},
    ),
    Issued(
        "google-service-account",
        {"sub": "112010400000000710080", "azp": CLIENT, "email": "x@y.iam.gserviceaccount.com"},
    ),
    Issued(
        "auth-sidecar",
        {"sub": "alice", "sid": "s", "client_id": "other", "roles": [], "scope": ""},
        typ="at+jwt",
    ),
)

ID_TOKENS: Final = (
    Issued("keycloak-id", {**_KEYCLOAK, "typ": "ID", "at_hash": HASH}, Reason.ID_TOKEN),
    Issued("keycloak-id-without-marks", {"sub": USER, "typ": "ID"}, Reason.ID_TOKEN),
    Issued("entra-id", {**_ENTRA, "nonce": NONCE}, Reason.ID_TOKEN),
    Issued("entra-id-without-nonce", _ENTRA, Reason.ID_TOKEN),
    Issued("entra-v1-id", {**_ENTRA, "ver": "1.0", "unique_name": "alice"}, Reason.ID_TOKEN),
    Issued("entra-id-hybrid", {**_ENTRA, "c_hash": HASH}, Reason.ID_TOKEN),
    Issued("azure-ad-b2c-id", {**_B2C, "auth_time": AUTH_TIME}, Reason.ID_TOKEN),
    Issued(
        "okta-id",
        {**_OKTA, "sub": USER, "amr": ["pwd"], "idp": "00o", "at_hash": HASH},
        Reason.ID_TOKEN,
        typ=None,
    ),
    Issued(
        "okta-id-by-auth-time",
        {**_OKTA, "sub": USER, "amr": ["pwd"], "idp": "00o"},
        Reason.ID_TOKEN,
        typ=None,
    ),
    Issued(
        "auth0-id",
        {"sub": USER, "nickname": "alice", "name": "Alice", "sid": "s", "nonce": NONCE},
        Reason.ID_TOKEN,
    ),
    Issued(
        "cognito-id",
        {**_COGNITO, "token_use": "id", "cognito:username": "alice", "email": "alice@example.org"},
        Reason.ID_TOKEN,
        typ=None,
    ),
    Issued("duende-id", {**_DUENDE, "nonce": NONCE, "at_hash": HASH}, Reason.ID_TOKEN),
    Issued(
        "forgerock-id",
        {**_FORGEROCK, "tokenName": "id_token", "tokenType": "JWTToken", "s_hash": HASH},
        Reason.ID_TOKEN,
    ),
    Issued(
        "spring-id",
        {"sub": "alice", "azp": "app", "auth_time": AUTH_TIME, "sid": "s"},
        Reason.ID_TOKEN,
        typ=None,
    ),
    Issued(
        "zitadel-id",
        {"sub": USER, "azp": CLIENT, "client_id": CLIENT, "at_hash": HASH, "amr": ["pwd"]},
        Reason.ID_TOKEN,
    ),
    Issued(
        "google-id",
        {"sub": USER, "azp": CLIENT, "email": "alice@gmail.com", "at_hash": HASH},
        Reason.ID_TOKEN,
    ),
    Issued(
        "apple-id",
        {"sub": USER, "c_hash": HASH, "auth_time": AUTH_TIME, "nonce_supported": True},
        Reason.ID_TOKEN,
        typ=None,
    ),
    Issued("authentik-id", _AUTHENTIK, Reason.ID_TOKEN),
    # Services that hand out ID tokens in place of access tokens: `id_tokens = true` accepts them.
    Issued("dex", {"sub": "Cgc", "at_hash": HASH, "email_verified": True}, Reason.ID_TOKEN, None),
    Issued(
        "firebase",
        {"sub": USER, "user_id": USER, "auth_time": AUTH_TIME, "firebase": {"identities": {}}},
        Reason.ID_TOKEN,
    ),
    Issued("id-that-claims-to-be-access", {"sub": USER, "nonce": NONCE}, Reason.ID_TOKEN, "at+jwt"),
    Issued(
        "id-with-permissions",
        {"sub": USER, "at_hash": HASH, "nonce": NONCE, "scope": "openid", "typ": "Bearer"},
        Reason.ID_TOKEN,
    ),
)

OTHER_TOKENS: Final = (
    Issued("logout", {"sub": USER, "sid": "s", "events": LOGOUT}, Reason.LOGOUT_TOKEN),
    Issued("logout-type", {"sub": USER, "events": LOGOUT}, Reason.LOGOUT_TOKEN, "logout+jwt"),
    Issued("logout-by-type-alone", {"sub": USER}, Reason.LOGOUT_TOKEN, "LOGOUT+JWT"),
    Issued("logout-of-a-sid", {"sid": "s", "events": LOGOUT}, Reason.LOGOUT_TOKEN, gone=("sub",)),
    Issued("logout-as-access", {"sub": USER, "events": LOGOUT}, Reason.LOGOUT_TOKEN, "at+jwt"),
    Issued("keycloak-logout", {"sub": USER, "typ": "Logout"}, Reason.LOGOUT_TOKEN),
    Issued("keycloak-refresh", {**_KEYCLOAK, "typ": "Refresh"}, Reason.TOKEN_TYPE),
    Issued("keycloak-offline", {**_KEYCLOAK, "typ": "Offline"}, Reason.TOKEN_TYPE),
    Issued("library-refresh", {"sub": USER, "token_type": "refresh"}, Reason.TOKEN_TYPE),
    Issued("flask-refresh", {"sub": USER, "type": "refresh", "fresh": False}, Reason.TOKEN_TYPE),
    Issued(
        "security-event",
        {"sub": USER, "events": {"https://schemas.openid.net/secevent/caep/event-type/x": {}}},
        Reason.TOKEN_TYPE,
    ),
)
