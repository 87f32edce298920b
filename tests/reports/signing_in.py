"""What people at a browser report: ways back, prefixes, other origins, proxies in front."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.peers.program import run
from tests.peers.raw_client import build
from tests.reports.report import Exchange, Report, Rows
from tests.reports.site import JSON, NAVIGATION, TABLES, Setup

if TYPE_CHECKING:
    from tests.reports.site import Site

APP: Final = "https://app.test"
CORS: Final = Setup(f'[cors]\norigins = ["{APP}"]\ncredentials = true\n{TABLES}')
PREFIX: Final = Setup(environ=(("AUTH_PREFIX", "/_sign-in"),))
STRICT: Final = Setup(environ=(("SESSION_COOKIE_SAMESITE", "strict"),))
DOMAIN: Final = Setup(
    environ=(("SESSION_COOKIE_DOMAIN", "example.test"), ("SESSION_COOKIE", "__Secure-session"))
)


@dataclass(frozen=True, slots=True)
class DeepLink:
    """A person opens this address, signs in with the form, and must be where they wanted."""

    target: str
    fragment: str = ""

    async def __call__(self, site: Site) -> None:
        """Follow the redirect, send the form as the page has it, and read where it leads."""
        asked = await site.get(self.target, *NAVIGATION)
        assert asked.status == 302
        page, rd = await site.page(asked.fields.one("location").decode())
        if self.fragment:  # browsers keep it to themselves: only a script can put it into the form
            script = re.search(r"<script>(.*?)</script>", page.body.decode(), re.DOTALL)
            assert script is not None
            digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
            policy = page.fields.one("content-security-policy").decode()
            assert f"script-src 'sha256-{digest}'" in policy
            assert "unsafe-inline" not in policy
        answer = await site.form(rd=rd + self.fragment)
        assert answer.fields.one("location").decode() == self.target + self.fragment


async def moved_pages(site: Site) -> None:
    """Below another prefix are login, cookie and verify; /auth is the application's."""
    token = (await site.login(auth="/_sign-in"))["access_token"]
    assert (await site.get("/auth/login", token=token)).body == b"ok"
    assert site.saw.target == b"/auth/login"
    asked = await site.get("/deep", *NAVIGATION)
    assert asked.fields.one("location") == b"/_sign-in/login?rd=/deep"
    assert (await site.get("/_sign-in/verify", "X-Original-URI: /x", token=token)).status == 200


async def readable_forbidden(site: Site) -> None:
    """A page of a listed origin can read a 403, and a page of another cannot."""
    token = (await site.login())["access_token"]
    for origin, allowed in ((APP, [APP.encode()]), ("https://other.test", [])):
        answer = await site.get("/admin/x", f"Origin: {origin}", token=token)
        assert answer.status == 403
        assert answer.fields.all("access-control-allow-origin") == allowed


async def preflight_of_login(site: Site) -> None:
    """A browser's preflight of the login is answered, and then the login itself can be read."""
    asks = (
        *(f"Origin: {APP}", "Access-Control-Request-Method: POST"),
        "Access-Control-Request-Headers: content-type",
    )
    answer = await site.ask(build("OPTIONS", "/auth/login", *asks))
    assert answer.status in {200, 204}
    assert answer.fields.one("access-control-allow-origin") == APP.encode()
    assert answer.fields.one("access-control-allow-credentials") == b"true"
    assert b"content-type" in answer.fields.members("access-control-allow-headers")
    body = b'{"username": "alice", "password": "pw-alice"}'
    answer = await site.ask(build("POST", "/auth/login", JSON, f"Origin: {APP}", body=body))
    assert answer.status == 200
    assert answer.fields.one("access-control-allow-origin") == APP.encode()


async def every_origin_with_credentials(site: Site) -> None:
    """`sidecar check` refuses credentials for every origin, and says which two keys disagree."""
    file = site.folder / "wide.toml"
    file.write_text('[cors]\norigins = ["*"]\ncredentials = true\n')
    found = await run("sidecar", "check", "--config", str(file), environ=site.environ)
    assert found.code == 2
    said = found.output + found.errors
    assert re.search(r'cors\.origins: .*"\*", because credentials is true', said)


@dataclass(frozen=True, slots=True)
class SignInCookie:
    """The cookie of a login has these attributes, and lacks the others."""

    has: tuple[str, ...]
    lacks: tuple[str, ...]

    async def __call__(self, site: Site) -> None:
        """Log in with the form and read Set-Cookie."""
        value = (await site.form()).fields.one("set-cookie").decode()
        attributes = {each.strip().lower() for each in value.split(";")[1:]}
        assert attributes.issuperset(self.has)
        assert attributes.isdisjoint(self.lacks)


DEEP_LINKS: Final[Rows] = tuple(
    Report(f"way-back-{name}", says, DeepLink(target, fragment))
    for name, says, target, fragment in (
        ("bar", "after the login, a search with | opens the start page", "/s?q=a|b", ""),
        ("caret", "a graph with ^ in its expression is lost", "/g?expr=rate(x[5m])^2", ""),
        ("braces", "a dashboard's link with JSON is lost", '/d?left={"ds":"x"}', ""),
        ("line-break", "a mail to compose with a %0A in it is lost", "/c?body=one%0Atwo", ""),
        ("latin-1", "an old link with %FC is lost", "/old?name=M%FCller", ""),
        ("long", "a report with 4,000 characters of ids is lost", "/r?ids=" + "10001," * 666, ""),
        ("fragment", "a single-page application opens its start page", "/app", "#/users/1?tab=2"),
    )
)
SIGNING_IN: Final[Rows] = (
    *DEEP_LINKS,
    Report(
        "own-auth-pages",
        "the application's /auth/callback cannot be reached behind the sidecar",
        Exchange(target="/auth/callback?code=1", claims={}),
        PREFIX,
    ),
    Report("moved-pages", "the sidecar's pages cannot be moved off /auth", moved_pages, PREFIX),
    Report(
        "cors-unauthorized",
        "a page on another origin sees a network error instead of a 401",
        Exchange(
            lines=(f"Origin: {APP}",),
            status=401,
            answer={
                "access-control-allow-origin": APP,
                "access-control-allow-credentials": "true",
            },
        ),
        CORS,
    ),
    Report("cors-forbidden", "a 403 cannot be read either", readable_forbidden, CORS),
    Report("cors-preflight", "a page elsewhere cannot log in", preflight_of_login, CORS),
    Report(
        "cors-wide",
        "a configuration opened the login to pages of every origin",
        every_origin_with_credentials,
    ),
    Report(
        "cookie-samesite",
        "the cookie is sent with links from other sites, which our rules forbid",
        SignInCookie(("samesite=strict", "secure", "httponly"), ("samesite=lax",)),
        STRICT,
    ),
    Report(
        "cookie-domain",
        "app.example.test and api.example.test cannot share a login",
        SignInCookie(("domain=example.test", "secure", "httponly"), ()),
        DOMAIN,
    ),
    Report(
        "stale-cookie",
        "with an expired cookie, pages that anyone may see send people to the login",
        Exchange(
            target="/open/x",
            lines=(f"Cookie: __Host-session={'A' * 43}",),
            answer={
                "set-cookie": "__Host-session=; HttpOnly; Max-Age=0; Path=/; SameSite=Lax; Secure"
            },
            saw={"x-auth-user": "", "cookie": None},
        ),
    ),
    Report(
        "proto-list",
        "behind two proxies the application believes in plain HTTP",
        Exchange(
            target="/public/x",
            lines=("X-Forwarded-Proto: https, http",),
            saw={"x-forwarded-proto": "https"},
        ),
    ),
    Report(
        "proto-lines",
        "the same, where each proxy adds a line of its own",
        Exchange(
            target="/public/x",
            lines=("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"),
            saw={"x-forwarded-proto": "https"},
        ),
    ),
    Report(
        "proto-wss",
        "a proxy says wss for WebSockets, and the application believes in plain HTTP",
        Exchange(
            target="/public/x",
            lines=("X-Forwarded-Proto: wss",),
            saw={"x-forwarded-proto": "https"},
        ),
    ),
    Report(
        "port-and-address",
        "the application makes links without the port and logs the proxy's address",
        Exchange(
            target="/public/x",
            lines=("X-Forwarded-Port: 8443", "X-Real-IP: 198.51.100.7"),
            saw={"x-forwarded-port": "8443", "x-real-ip": "198.51.100.7"},
        ),
    ),
    Report(
        "prefix-passed",
        "an application below /shop makes links without it",
        Exchange(
            target="/public/x",
            lines=("X-Forwarded-Prefix: /shop",),
            saw={"x-forwarded-prefix": "/shop"},
        ),
    ),
    Report(
        "prefix-redirect",
        "the redirect to the login leaves the prefix of the ingress",
        Exchange(
            target="/deep?a=1",
            lines=(*NAVIGATION, "X-Forwarded-Prefix: /shop"),
            status=302,
            answer={"location": "/shop/auth/login?rd=/shop/deep?a%3D1"},
        ),
    ),
    Report(
        "forwarded",
        "a proxy that sends only Forwarded is not understood",
        Exchange(
            target="/public/x",
            lines=(
                'Forwarded: for="[2001:db8::7]:1234";proto=https;host=shop.test, for=127.0.0.2',
            ),
            saw={"x-forwarded-proto": "https", "x-forwarded-host": "shop.test"},
        ),
    ),
)
