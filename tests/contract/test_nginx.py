"""config/nginx.conf on a real nginx, in front of an application, asking a real sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.contract.nginx import nginx
from tests.deploy.manifests import ROOT
from tests.peers.raw_client import Response, build, connect, fetch
from tests.peers.scripted_upstream import OK, ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import Received

pytestmark = pytest.mark.needs("nginx")

ROUTES: Final = (
    {"path": "/open", "access": "public"},
    {"path": "/read", "access": "public", "methods": ["GET"]},
    {"path": "/admin/*", "roles": ["admin"]},
)
IDENTITY: Final = (
    "X-Auth-User",
    "X-Auth-Subject",
    "X-Auth-Roles",
    "X-Auth-Scopes",
    "X-Auth-Session",
)
NAVIGATION: Final = (
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: none",
    "Accept: text/html,*/*;q=0.8",
)


@dataclass(slots=True)
class Site:
    """nginx, the sidecar it asks, and the application behind it."""

    port: int
    sidecar: Stack
    application: ScriptedUpstream

    async def ask(self, request: bytes) -> Response:
        """One request to nginx."""
        return await fetch(self.port, request)

    async def get(self, target: str, *lines: str, token: str | None = None) -> Response:
        """GET from nginx."""
        return await self.ask(build("GET", target, *lines, token=token))

    @property
    def seen(self) -> Received:
        """The last request that reached the application."""
        return self.application.requests[-1]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """The configuration as it stands, but for the three addresses that are yours to change."""
    async with (
        ScriptedUpstream() as application,
        stack(application.url, routes=ROUTES, trusted_proxies=["127.0.0.1/32"]) as sidecar,
        nginx(
            ROOT / "config/nginx.conf",
            "127.0.0.1:8000",
            {"127.0.0.1:5005": sidecar.port, "127.0.0.1:8080": application.port},
        ) as port,
    ):
        yield Site(port, sidecar, application)


async def test_allowed(site: Site) -> None:
    """With a live token the request reaches the application, unchanged and with an identity."""
    token = (await site.sidecar.login("admin")).access
    answer = await site.ask(build("POST", "/a%20b/%C3%A9?q=1&r=%20", token=token, body=b"hello"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert site.seen.line == b"POST /a%20b/%C3%A9?q=1&r=%20 HTTP/1.1"
    assert site.seen.body == b"hello"
    fields = site.seen.fields
    assert fields.one("X-Auth-User") == b"admin"
    assert fields.one("X-Auth-Subject") == b"admin"
    assert fields.members("X-Auth-Roles") == [b"user", b"admin"]
    assert len(fields.one("X-Auth-Session")) >= 22
    assert fields.one("X-Forwarded-For") == b"127.0.0.1"
    assert fields.one("Host") == b"sidecar.test"


async def test_without_credentials(site: Site) -> None:
    """Without a token: 401, a challenge without an error, and nothing at the application."""
    answer = await site.get("/orders", "Accept: application/json")
    assert answer.status == 401
    assert answer.fields.one("WWW-Authenticate").startswith(b"Bearer")
    assert b"error=" not in answer.fields.one("WWW-Authenticate")
    assert answer.fields.one("Content-Type") == b"application/problem+json"
    assert answer.json()["status"] == 401
    assert "Location" not in answer.fields
    assert not site.application.requests


async def test_bad_token(site: Site) -> None:
    """With a bad token: 401, and the sidecar's challenge arrives at the client once."""
    answer = await site.get("/orders", token="e30.e30.AAAA")
    assert answer.status == 401
    assert b'error="invalid_token"' in answer.fields.one("WWW-Authenticate")
    assert not site.application.requests


async def test_forbidden(site: Site) -> None:
    """A user without the route's role gets 403; one who has it gets in."""
    alice = (await site.sidecar.login("alice")).access
    admin = (await site.sidecar.login("admin")).access
    refused = await site.get("/admin/users", token=alice)
    assert (refused.status, refused.json()["title"]) == (403, "Forbidden")
    assert not site.application.requests
    assert (await site.get("/admin/users", token=admin)).status == 200


async def test_logout_holds(site: Site) -> None:
    """After a logout by way of nginx, the token is worth nothing."""
    token = (await site.sidecar.login()).access
    assert (await site.get("/", token=token)).status == 200
    assert (await site.ask(build("POST", "/auth/logout", token=token, body=b""))).status == 204
    assert (await site.get("/", token=token)).status == 401


@pytest.mark.parametrize("header", IDENTITY)
@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(str, id="as it is"),
        pytest.param(str.lower, id="lower case"),
        pytest.param(lambda name: name.replace("-", "_"), id="underscores"),
    ],
)
async def test_a_clients_identity_never_arrives(
    site: Site, header: str, spelling: type[str]
) -> None:
    """A client's own X-Auth header is gone on a public path, and for a user who has none."""
    token = (await site.sidecar.login("scout")).access  # no roles
    forged = f"{spelling(header)}: forged"
    for target, credentials in (("/open", None), ("/", token)):
        assert (await site.get(target, forged, token=credentials)).status == 200
        assert b"forged" not in site.seen.head
    await site.get("/open", forged)
    assert not any(name in site.seen.fields for name in IDENTITY)


async def test_the_original_method_is_judged(site: Site) -> None:
    """A rule for GET alone does not let a POST in, although nginx asks with a GET."""
    assert (await site.get("/read")).status == 200
    assert (await site.ask(build("POST", "/read", body=b""))).status == 401


@pytest.mark.parametrize(
    "target", ["/open/../secret", "/open%2f..%2fsecret", "/open/", "//open", "/Open"]
)
async def test_near_a_public_path(site: Site, target: str) -> None:
    """What is not exactly the public path is protected, however nginx itself would read it."""
    assert (await site.get(target)).status in {401, 403}
    assert not site.application.requests


@pytest.mark.parametrize(
    "header", ["X-Original-URI", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri"]
)
async def test_a_client_cannot_say_what_it_asks_for(site: Site, header: str) -> None:
    """A client's own header that names a public path changes nothing."""
    assert (await site.get("/orders", f"{header}: /open")).status == 401
    assert not site.application.requests


async def test_a_browser_is_sent_to_the_login_page(site: Site) -> None:
    """A navigation gets 302 to the login page, which knows the way back with its query string."""
    answer = await site.get("/orders?from=1&to=2", *NAVIGATION)
    assert answer.status == 302
    assert answer.fields.one("Location") == b"/auth/login?rd=%2Forders%3Ffrom%3D1%26to%3D2"
    page = await site.get("/auth/login?rd=%2Forders", *NAVIGATION)
    assert (page.status, b"<form" in page.body) == (200, True)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Sec-Fetch-Mode: cors", "Accept: text/html"), id="a script"),
        pytest.param(("Accept: application/json",), id="an API client"),
        pytest.param((), id="a client that says nothing"),
    ],
)
async def test_others_are_not_redirected(site: Site, lines: tuple[str, ...]) -> None:
    """What is not a navigation gets the plain 401."""
    assert (await site.get("/orders", *lines)).status == 401


async def test_browser_session(site: Site) -> None:
    """The cookie of a form login opens the application, but not to another site's POST."""
    form = ("Origin: http://sidecar.test", "Content-Type: application/x-www-form-urlencoded")
    body = b"username=alice&password=pw-alice&rd=%2Forders"
    login = await site.ask(build("POST", "/auth/login", *form, body=body))
    assert (login.status, login.fields.one("Location")) == (303, b"/orders")
    cookie = "Cookie: " + login.fields.one("Set-Cookie").decode().partition(";")[0]
    assert (await site.get("/orders", cookie)).status == 200
    assert site.seen.fields.one("X-Auth-User") == b"alice"
    own = await site.ask(build("POST", "/orders", cookie, "Origin: http://sidecar.test", body=b""))
    other = await site.ask(build("POST", "/orders", cookie, "Origin: http://evil.test", body=b""))
    assert (own.status, other.status) == (200, 403)


async def test_websocket(site: Site) -> None:
    """An upgrade passes nginx with a token; with a cookie only from our own pages."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    switched = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    site.application.scripts = lambda got: (switched if "Upgrade" in got.fields else OK,)
    token = (await site.sidecar.login()).access
    async with connect(site.port) as client:
        assert (await client.ask(build("GET", "/ws", *upgrade, token=token))).status == 101
    assert site.seen.fields.one("X-Auth-User") == b"alice"
    cookie = f"Cookie: {await site.sidecar.cookie()}"
    foreign = await site.get("/ws", *upgrade, cookie, "Origin: http://evil.test")
    assert foreign.status == 403
    assert (await site.get("/ws", *upgrade)).status == 401


async def test_the_question_is_asked_by_nginx_alone(site: Site) -> None:
    """Neither the subrequest's location nor the verify endpoint can be reached from outside."""
    for target in ("/_auth", "/auth/verify", "/auth/verify/nginx", "/auth/%76erify"):
        assert (await site.get(target, "X-Original-URI: /open")).status == 404
    assert not site.application.requests


async def test_without_a_sidecar_nobody_gets_in(site: Site) -> None:
    """When the sidecar does not answer: 503 to try again, on public paths too."""
    await site.sidecar.sidecar.stop()
    answer = await site.get("/open")
    assert (answer.status, answer.fields.one("Retry-After")) == (503, b"1")
    assert answer.fields.one("Content-Type") == b"application/problem+json"
    assert not site.application.requests


async def test_errors_of_the_application_are_its_own(site: Site) -> None:
    """A 401, 403 or 500 of the application reaches the client as the application wrote it."""
    token = (await site.sidecar.login()).access
    for status in ("401 Unauthorized", "403 Forbidden", "500 Internal Server Error"):
        site.application.scripts = (
            (f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nmine".encode(),),
        )
        answer = await site.get("/", token=token)
        assert (str(answer.status), answer.body) == (status[:3], b"mine")


async def test_connections_are_kept(site: Site) -> None:
    """Twenty requests take one connection to the application and one to the sidecar."""
    token = (await site.sidecar.login()).access
    async with connect(site.port) as client:
        for _ in range(20):
            assert (await client.ask(build("GET", "/", token=token))).status == 200
    assert len(site.application.connections) == 1
    assert await site.sidecar.metric('sidecar_connections{side="downstream"}') == 1
