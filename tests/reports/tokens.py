"""What users of identity providers report: claims, long tokens, refreshes."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.peers.program import run
from tests.peers.raw_client import build
from tests.reports.report import Exchange, Report, Rows
from tests.reports.site import ISSUER, JSON, Setup, Site, token

CLAIMS: Final = Setup(
    f"""{ISSUER}
roles_claim = [
  "realm_access.roles", "resource_access.shop.roles", "https://shop.test/roles",
  "/https:~1~1shop.test~1app/roles", "groups",
]
scopes_claim = "permissions"
subject_claim = "oid"
"""
)
LONG: Final = [f"team-{number:03}-project-maintainer" for number in range(300)]


async def explained(site: Site) -> None:
    """`sidecar token explain` says what the roles are, which claim gave them, and exits with 0."""
    given = token(realm_access={"roles": ["admin"]}, oid="o-7")
    config = str(site.folder / "sidecar.toml")
    found = await run(
        "sidecar", "token", "explain", given, "--config", config, environ=site.environ
    )
    assert found.code == 0, found
    for word in ("o-7", "admin", "realm_access.roles", "X-Auth-Subject"):
        assert word in found.output
    assert given not in found.output


async def refreshed(site: Site, tokens: dict[str, Any]) -> dict[str, Any]:
    """Refresh, and return the new tokens."""
    body = json.dumps({"refresh_token": tokens["refresh_token"]}).encode()
    answer = await site.ask(build("POST", "/auth/refresh", JSON, body=body))
    assert answer.status == 200, answer
    return dict(answer.json())


async def under_way(site: Site) -> None:
    """After a refresh the access token of before counts for a while, and after a logout neither."""
    old = await site.login()
    new = await refreshed(site, old)
    for each in (old, new):
        assert (await site.get("/x", token=each["access_token"])).status == 200
    out = await site.ask(build("POST", "/auth/logout", token=new["access_token"], body=b""))
    assert out.status == 204
    for each in (old, new):
        assert (await site.get("/x", token=each["access_token"])).status == 401


def roles(value: object, expected: str, **more: str) -> Exchange:
    """A token with this claim `roles`, and the roles that the application must see."""
    return Exchange(claims={"roles": value}, saw={"x-auth-roles": expected, **more})


TOKENS: Final[Rows] = (
    Report(
        "roles-objects",
        "tokens of a Spring server, whose roles are objects, are refused",
        roles([{"authority": "ROLE_USER"}, {"authority": "ROLE_ADMIN"}], "ROLE_USER,ROLE_ADMIN"),
    ),
    Report("roles-numbers", "tokens whose roles are numbers are refused", roles([7, 12], "7,12")),
    Report("roles-spaces", "roles in one text are taken for one", roles("a b", "a,b")),
    Report("roles-commas", "the same with commas", roles("a, b", "a,b")),
    Report(
        "roles-odd",
        "a null among the roles locks the user out",
        roles([None, "user", ["x"]], "user"),
    ),
    Report(
        "scope-empty",
        'scope: "" hides the scopes in scp',
        Exchange(
            claims={"scope": "", "scp": ["read", "write"]}, saw={"x-auth-scopes": "read write"}
        ),
    ),
    Report(
        "roles-realm",
        "Keycloak's realm roles do not arrive",
        Exchange(
            claims={"oid": "o-7", "realm_access": {"roles": ["admin"]}},
            saw={"x-auth-roles": "admin"},
        ),
        CLAIMS,
    ),
    Report(
        "roles-client",
        "Keycloak's client roles do not arrive",
        Exchange(
            claims={
                "oid": "o-7",
                "realm_access": {"roles": ["user"]},
                "resource_access": {"shop": {"roles": ["buyer"]}, "other": {"roles": ["admin"]}},
            },
            saw={"x-auth-roles": "user,buyer"},
        ),
        CLAIMS,
    ),
    Report(
        "roles-url",
        "Auth0's roles under a URL do not arrive",
        Exchange(
            claims={"oid": "o-7", "https://shop.test/roles": ["editor"]},
            saw={"x-auth-roles": "editor"},
        ),
        CLAIMS,
    ),
    Report(
        "roles-pointer",
        "roles inside an object under a URL cannot be named",
        Exchange(
            claims={"oid": "o-7", "https://shop.test/app": {"roles": ["editor"]}},
            saw={"x-auth-roles": "editor"},
        ),
        CLAIMS,
    ),
    Report(
        "roles-groups",
        "group paths are no roles",
        Exchange(
            claims={"oid": "o-7", "groups": ["/team/a", "/team/b"]},
            saw={"x-auth-roles": "/team/a,/team/b"},
        ),
        CLAIMS,
    ),
    Report(
        "scopes-claim",
        "Auth0's permissions are no scopes",
        Exchange(
            claims={"oid": "o-7", "permissions": ["read:x"], "scope": "openid"},
            saw={"x-auth-scopes": "read:x"},
        ),
        CLAIMS,
    ),
    Report(
        "subject-claim",
        "Entra's sub differs for each application: oid is the user",
        Exchange(claims={"oid": "o-7"}, saw={"x-auth-subject": "o-7"}),
        CLAIMS,
    ),
    Report("explain", "why has my user no role?", explained, CLAIMS),
    Report(
        "identity-path",
        "a claim inside an object cannot become a header",
        Exchange(claims={"org": {"id": "acme"}}, saw={"x-auth-org": "acme"}),
    ),
    Report(
        "route-path",
        "a route cannot require a claim inside an object",
        Exchange(target="/level/x", claims={"org": {"level": 2}}),
    ),
    Report(
        "long-token",
        "users with many groups are refused: their tokens have 12 KiB",
        Exchange(claims={"groups": LONG}),
    ),
    Report(
        "longer-token",
        "with even more groups there is no way to let the token in",
        Exchange(claims={"groups": LONG * 3}),
        Setup(environ=(("MAX_TOKEN_SIZE", "48KiB"),)),
    ),
    Report("refresh-under-way", "a page's requests fail during a refresh", under_way),
)
