"""The configurations in docs/providers.md, each with tokens as its provider documents them."""

from __future__ import annotations

import json
import time
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec import structs

from sidecar.app.sidecar import Sidecar
from sidecar.settings import settings_from
from tests.auth import forge
from tests.deploy.manifests import ROOT
from tests.docs.pages import blocks, sections
from tests.peers.key_server import KeyServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import REFRESH_SECRET, SECRET, Stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE: Final = ROOT / "docs/providers.md"
MOUNTED: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
TENANT: Final = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
ENTRA_APP: Final = "00001111-aaaa-2222-bbbb-3333cccc4444"
OID: Final = "690222be-ff1a-4d56-abd1-7e4f7d38e474"
USER: Final = "248289dc-1f2e-4a77-9c83-90c8a4f2f44a"
SECTIONS: Final = sections(PAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A token of a provider, without its dates, and what follows from the page's configuration.

    `named` are the identity headers without `X-Auth-`; `allowed` and `denied` are paths. With each
    of `refused`, which changes claims (None: without that claim), the token does not count.
    """

    section: str
    claims: Mapping[str, Any]
    named: Mapping[str, str]
    typ: str | None = "JWT"  # None: the header has none
    allowed: tuple[str, ...] = ("/", "/admin/x")
    denied: tuple[str, ...] = ()
    refused: tuple[Mapping[str, Any], ...] = field(default=({"aud": "another"},))

    def __repr__(self) -> str:
        return f"<Case {self.section}>"


KEYCLOAK: Final[Mapping[str, Any]] = {
    "jti": "onrtac:0a2c1f5e-6a0e-4c43-8d0a-3a1f0c1f8b12",
    "iss": "https://id.example.com/realms/main",
    "aud": ["shop", "account"],
    "sub": USER,
    "typ": "Bearer",
    "azp": "web",
    "sid": "5a2f0b1c-6a0e-4c43-8d0a-3a1f0c1f8b12",
    "acr": "1",
    "allowed-origins": ["https://shop.example.com"],
    "realm_access": {"roles": ["default-roles-main", "offline_access", "admin"]},
    "resource_access": {
        "shop": {"roles": ["buyer"]},
        "account": {"roles": ["manage-account", "view-profile"]},
    },
    "scope": "openid email profile",
    "email_verified": True,
    "name": "Alice Liddell",
    "groups": ["/team/a"],
    "preferred_username": "alice",
    "given_name": "Alice",
    "family_name": "Liddell",
    "email": "alice@example.com",
}
ENTRA_V2: Final[Mapping[str, Any]] = {
    "aud": ENTRA_APP,
    "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
    "aio": "AXQAi/8IAAAAtTxZ",
    "azp": "11112222-bbbb-3333-cccc-4444dddd5555",
    "azpacr": "0",
    "name": "Alice Liddell",
    "oid": OID,
    "preferred_username": "alice@contoso.com",
    "rh": "0.AgEAkd0.",
    "roles": ["Orders.Admin", "Orders.Read"],
    "scp": "access_as_user Reports.Read",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": TENANT,
    "uti": "r1Xnj0KBd0m6pVnV",
    "ver": "2.0",
}
ENTRA_V1: Final[Mapping[str, Any]] = {
    "aud": f"api://{ENTRA_APP}",
    "iss": f"https://sts.windows.net/{TENANT}/",
    "acr": "1",
    "aio": "AXQAi/8IAAAAFm+E",
    "amr": ["pwd", "mfa"],
    "appid": "11112222-bbbb-3333-cccc-4444dddd5555",
    "appidacr": "0",
    "family_name": "Liddell",
    "given_name": "Alice",
    "ipaddr": "203.0.113.7",
    "name": "Alice Liddell",
    "oid": OID,
    "rh": "0.AgEAkd0.",
    "roles": ["Orders.Admin"],
    "scp": "Reports.Read user_impersonation",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": TENANT,
    "unique_name": "alice@contoso.com",
    "upn": "alice@contoso.com",
    "uti": "r1Xnj0KBd0m6pVnV",
    "ver": "1.0",
}
AUTH0: Final[Mapping[str, Any]] = {
    "iss": "https://example.eu.auth0.com/",
    "sub": "auth0|6553da60a54af58e",
    "aud": ["https://api.example.com/", "https://example.eu.auth0.com/userinfo"],
    "azp": "my_client_id",
    "scope": "openid profile",
    "permissions": ["read:reports", "write:reports"],
    "https://api.example.com/roles": ["admin"],
}
OKTA: Final[Mapping[str, Any]] = {
    "ver": 1,
    "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
    "iss": "https://example.okta.com/oauth2/default",
    "aud": "api://default",
    "cid": "0oa1gjh63g214q0Hq0g4",
    "uid": "00uid4BxXw6I6TV4m0g3",
    "scp": ["openid", "reports.read"],
    "auth_time": 1_799_999_000,
    "sub": "alice@example.com",
    "groups": ["Everyone", "shop-admins"],
}
COGNITO: Final[Mapping[str, Any]] = {
    "sub": USER,
    "cognito:groups": ["admins"],
    "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI",
    "version": 2,
    "client_id": "1example23456789abcdefghij",
    "origin_jti": "5b9f50a3-05da-454a-8b99-b79c2349de77",
    "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
    "token_use": "access",
    "scope": "phone openid profile email",
    "auth_time": 1_799_999_000,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "username": "alice",
}
GOOGLE: Final[Mapping[str, Any]] = {
    "iss": "https://accounts.google.com",
    "azp": "1234987819200.apps.googleusercontent.com",
    "aud": "1234987819200.apps.googleusercontent.com",
    "sub": "10769150350006150715113082367",
    "hd": "example.com",
    "email": "alice@example.com",
    "email_verified": True,
    "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
    "nonce": "0394852-3190485-2490358",
    "name": "Alice Liddell",
    "picture": "https://lh3.googleusercontent.com/a/x",
}
GITHUB: Final[Mapping[str, Any]] = {
    "jti": "0755f7d2-6c3e-4b1a-9d51-3f1a1d2b3c4d",
    "sub": "repo:octo-org/octo-repo:environment:production",
    "environment": "production",
    "aud": "https://deploy.example.com",
    "ref": "refs/heads/main",
    "sha": "example-sha",
    "repository": "octo-org/octo-repo",
    "repository_owner": "octo-org",
    "actor_id": "12",
    "repository_visibility": "private",
    "repository_id": "74",
    "repository_owner_id": "65",
    "run_id": "example-run-id",
    "run_number": "10",
    "run_attempt": "2",
    "runner_environment": "github-hosted",
    "actor": "octocat",
    "workflow": "example-workflow",
    "head_ref": "",
    "base_ref": "",
    "event_name": "workflow_dispatch",
    "ref_type": "branch",
    "job_workflow_ref": "octo-org/automation/.github/workflows/oidc.yml@refs/heads/main",
    "iss": "https://token.actions.githubusercontent.com",
}
KUBERNETES: Final[Mapping[str, Any]] = {
    "aud": ["shop"],
    "iss": "https://kubernetes.default.svc.cluster.local",
    "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
    "kubernetes.io": {
        "namespace": "billing",
        "node": {"name": "node-1", "uid": "58456cb0-dd00-45ed-b797-5578fdceaced"},
        "pod": {"name": "invoices-69cbfb9798-jv9gn", "uid": "778a530c-b3f4-47c0-9cd5-ab018fb64f33"},
        "serviceaccount": {"name": "invoices", "uid": "a087d5a0-e1dd-43ec-93ac-f13d89cd13af"},
        "warnafter": 1_800_003_600,
    },
    "sub": "system:serviceaccount:billing:invoices",
}

CASES: Final = (
    Case(
        section="Keycloak",
        claims=KEYCLOAK,
        named={
            "User": "alice",
            "Subject": USER,
            "Roles": "default-roles-main,offline_access,admin,buyer",
            "Scopes": "openid email profile",
            "Session": "5a2f0b1c-6a0e-4c43-8d0a-3a1f0c1f8b12",
        },
        refused=({"aud": "account"}, {"typ": "ID"}, {"preferred_username": None}),
    ),
    Case(
        section="Keycloak",
        claims={**KEYCLOAK, "realm_access": {"roles": ["user"]}, "resource_access": {}},
        named={"Roles": "user"},
        allowed=("/",),
        denied=("/admin/x",),
    ),
    Case(
        section="Entra ID, version 2",
        claims=ENTRA_V2,
        named={
            "User": OID,
            "Subject": OID,
            "Roles": "Orders.Admin,Orders.Read",
            "Scopes": "access_as_user Reports.Read",
            "Tenant": TENANT,
            "Login-Name": "alice@contoso.com",
        },
        allowed=("/", "/admin/x", "/reports/x"),
        refused=({"aud": f"api://{ENTRA_APP}"}, {"oid": None}, {"azp": None, "scp": None}),
    ),
    Case(
        section="Entra ID, version 2",  # of an application without a user: no scp
        claims={**ENTRA_V2, "scp": None, "azpacr": "1", "roles": ["Orders.Read"]},
        named={"Roles": "Orders.Read", "Scopes": ""},
        allowed=("/",),
        denied=("/admin/x", "/reports/x"),
    ),
    Case(
        section="Entra ID, version 1",
        claims=ENTRA_V1,
        named={
            "User": OID,
            "Subject": OID,
            "Roles": "Orders.Admin",
            "Scopes": "Reports.Read user_impersonation",
        },
        allowed=("/", "/admin/x", "/reports/x"),
        refused=({"aud": ENTRA_APP}, {"iss": ENTRA_V2["iss"]}, {"oid": None}),
    ),
    Case(
        section="Entra ID, version 1",
        claims={**ENTRA_V1, "roles": None, "scp": "user_impersonation"},
        named={"Roles": "", "Scopes": "user_impersonation"},
        allowed=("/",),
        denied=("/admin/x", "/reports/x"),
    ),
    Case(
        section="Auth0",
        claims=AUTH0,
        named={
            "User": "auth0|6553da60a54af58e",
            "Roles": "admin",
            "Scopes": "openid profile read:reports write:reports",
        },
        allowed=("/", "/admin/x", "/reports/x"),
        refused=({"aud": "https://example.eu.auth0.com/userinfo"}, {"iss": AUTH0["iss"][:-1]}),
    ),
    Case(
        section="Auth0",  # the profile of RFC 9068
        claims={**AUTH0, "azp": None, "client_id": "x", "jti": "j", "permissions": []},
        typ="at+jwt",
        named={"Roles": "admin", "Scopes": "openid profile"},
        denied=("/reports/x",),
    ),
    Case(
        section="Okta",
        claims=OKTA,
        typ=None,
        named={
            "User": "alice@example.com",
            "Subject": "00uid4BxXw6I6TV4m0g3",
            "Roles": "Everyone,shop-admins",
            "Scopes": "openid reports.read",
        },
        allowed=("/", "/admin/x", "/reports/x"),
        refused=({"aud": "https://example.okta.com"}, {"uid": None}, {"sub": None}),
    ),
    Case(
        section="Okta",
        claims={**OKTA, "groups": ["Everyone"], "scp": ["openid"]},
        typ=None,
        named={"Roles": "Everyone", "Scopes": "openid"},
        allowed=("/",),
        denied=("/admin/x", "/reports/x"),
    ),
    Case(
        section="Amazon Cognito",
        claims=COGNITO,
        typ=None,
        named={
            "User": "alice",
            "Subject": USER,
            "Roles": "admins",
            "Scopes": "phone openid profile email",
        },
        refused=(
            {"client_id": "other"},
            {"client_id": None, "aud": COGNITO["client_id"]},
            {"token_use": "id", "aud": COGNITO["client_id"]},
        ),
    ),
    Case(
        section="Amazon Cognito",
        claims={**COGNITO, "cognito:groups": None},
        typ=None,
        named={"Roles": ""},
        allowed=("/",),
        denied=("/admin/x",),
        refused=({"client_id": "other"},),
    ),
    Case(
        section="Google",
        claims=GOOGLE,
        named={
            "User": GOOGLE["sub"],
            "Subject": GOOGLE["sub"],
            "Roles": "",
            "Scopes": "",
            "Email": "alice@example.com",
        },
        refused=({"aud": "other"}, {"hd": None}, {"hd": "example.org"}),
    ),
    Case(
        section="Google",
        claims={**GOOGLE, "email_verified": False},
        named={"Email": "alice@example.com"},
        allowed=("/",),
        denied=("/admin/x",),
    ),
    Case(
        section="GitHub Actions",
        claims=GITHUB,
        named={
            "User": GITHUB["sub"],
            "Roles": "production",
            "Scopes": "",
            "Repository": "octo-org/octo-repo",
            "Commit": "example-sha",
        },
        refused=(
            {"aud": "https://github.com/octo-org"},
            {"repository_owner_id": "66"},
            {"repository_owner_id": None},
        ),
    ),
    Case(
        section="GitHub Actions",  # a pull request, which has no environment
        claims={
            **GITHUB,
            "sub": "repo:octo-org/octo-repo:pull_request",
            "environment": None,
            "ref": "refs/pull/7/merge",
        },
        named={"Roles": ""},
        allowed=("/",),
        denied=("/admin/x",),
    ),
    Case(
        section="Kubernetes",
        claims=KUBERNETES,
        typ=None,
        named={
            "User": "system:serviceaccount:billing:invoices",
            "Roles": "billing",
            "Scopes": "",
            "Pod": "invoices-69cbfb9798-jv9gn",
        },
        refused=({"aud": ["https://kubernetes.default.svc.cluster.local"]},),
    ),
    Case(
        section="Kubernetes",
        claims={
            **KUBERNETES,
            "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "invoices"}},
            "sub": "system:serviceaccount:shop:invoices",
        },
        typ=None,
        named={"User": "system:serviceaccount:shop:invoices", "Roles": "shop", "Pod": ""},
        allowed=("/",),
        denied=("/admin/x",),
    ),
)


def issued(case: Case, changed: Mapping[str, Any] | None = None) -> str:
    """Return the token that the provider issues now, with changed claims."""
    now = int(time.time())
    claims = {"iat": now, "nbf": now, "exp": now + 300, **case.claims, **(changed or {})}
    header = {"alg": "RS256", "kid": "k1", "typ": case.typ}
    parts = [
        json.dumps({name: value for name, value in part.items() if value is not None}).encode()
        for part in (header, claims)
    ]
    key = forge.private_key("RS256")
    return forge.raw_token(parts[0], parts[1], alg="RS256", key=key).decode()


def configured(case: Case, folder: Path, upstream: str, keys: str) -> Sidecar:
    """Return a sidecar with the page's configuration, whose keys are at another address."""
    for name in ("ca.crt", "token"):
        (folder / name).touch()
    file = folder / "sidecar.toml"
    file.write_text(SECTIONS[case.section].replace(MOUNTED, str(folder)))
    settings = settings_from(
        env={
            "JWT_SECRET": SECRET,
            "REFRESH_SECRET": REFRESH_SECRET,
            "SESSION_STORE": "local",
            "LISTEN": "127.0.0.1:0",
            "ADMIN_LISTEN": "127.0.0.1:0",
            "UPSTREAM_URL": upstream,
        },
        file=file,
    )
    (issuer,) = settings.issuer
    here = structs.replace(issuer, jwks_url=keys, ca_file="", token_file="")
    return Sidecar(structs.replace(settings, issuer=(here,)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.section.replace(" ", "-"))
async def test_the_configuration_of_the_page(case: Case, tmp_path: Path) -> None:
    """A documented token gives the identity and the rights that the page's configuration means."""
    async with KeyServer() as keys, ScriptedUpstream() as upstream:
        keys.publish(k1="RS256")
        sidecar = configured(case, tmp_path, upstream.url, keys.url)
        await sidecar.start()
        try:
            running = Stack(sidecar, sidecar.settings)
            token = issued(case)
            for path in case.allowed:
                assert (path, (await running.get(path, token=token)).status) == (path, 200)
                fields = upstream.requests[-1].fields
                named = {name: fields.one(f"X-Auth-{name}").decode() for name in case.named}
                assert named == case.named
                assert fields.one("X-Auth-Issuer").decode() == case.claims["iss"]
            for path in case.denied:
                assert (path, (await running.get(path, token=token)).status) == (path, 403)
            for changed in case.refused:
                answer = await running.get("/", token=issued(case, changed))
                assert (changed, answer.status) == (changed, 401)
        finally:
            await sidecar.stop()


def test_every_configuration_of_the_page_is_tried() -> None:
    """Each section with a configuration has cases, among them one that a route refuses."""
    assert {case.section for case in CASES if case.denied} == set(SECTIONS)
    assert {case.section for case in CASES if "/admin/x" in case.allowed} == set(SECTIONS)
    shown = [block for block in blocks(PAGE) if block.language == "toml"]
    assert len(shown) == len(SECTIONS)
    assert all("issuer" in tomllib.loads(text) for text in SECTIONS.values())
