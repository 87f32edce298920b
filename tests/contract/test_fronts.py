"""Five proxies in front of an application, each asking a real sidecar in its own dialect.

All of them run the same cases with the unmodified configurations in config/.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import signal
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

import pytest

from tests.contract.fronts import FRONTS, Front, moved
from tests.peers.process import process
from tests.peers.raw_client import Response, build, connect, fetch
from tests.peers.redis_server import free_port
from tests.peers.scripted_upstream import OK, STALL, ScriptedUpstream, reply
from tests.peers.stack import Stack, mint, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.peers.scripted_upstream import Received

ROUTES: Final = (
    {"path": "/open", "access": "public"},
    {"path": "/read", "access": "public", "methods": ["GET"]},
    {"path": "/admin/*", "roles": ["admin"]},
    {"path": "/hosted", "access": "public", "hosts": ["open.example"]},
    {"path": "/shared", "methods": ["DELETE"], "preflight": "pass"},
)
IDENTITY: Final = (
    *("X-Auth-User", "X-Auth-Subject", "X-Auth-Issuer", "X-Auth-Roles", "X-Auth-Scopes"),
    *("X-Auth-Session", "X-Auth-Degraded"),
)
NAVIGATION: Final = (
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: none",
    "Accept: text/html,*/*;q=0.8",
)
HOST: Final = "http://sidecar.test"
UPGRADE: Final = (
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@dataclass(slots=True)
class Site:
    """A proxy, the sidecar it asks, and the application behind it."""

    front: Front
    port: int
    sidecar: Stack
    application: ScriptedUpstream

    async def ask(self, request: bytes) -> Response:
        """Send one request to the proxy."""
        return await fetch(self.port, request)

    async def get(self, target: str, *lines: str, token: str | None = None) -> Response:
        """Send a GET to the proxy."""
        return await self.ask(build("GET", target, *lines, token=token))

    @property
    def seen(self) -> Received:
        """The last request that reached the application."""
        return self.application.requests[-1]


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that listens on `port`, and where it expects the sidecar and the application."""

    front: Front
    port: int
    sidecar: int
    application: int


every_front = pytest.mark.parametrize(
    "running",
    [
        pytest.param(front, id=front.name, marks=pytest.mark.needs(front.program))
        for front in FRONTS
    ],
    indirect=True,
)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A proxy with its sample configuration, changed only in the operator's addresses.

    One process serves all tests; each test brings its own sidecar and application.
    """
    sidecar = free_port()
    application = free_port(sidecar)
    with request.param.start(sidecar, application) as port:
        yield Running(request.param, port, sidecar, application)


@contextlib.asynccontextmanager
async def behind(running: Running, **settings: Any) -> AsyncIterator[Site]:
    """Run an application and a sidecar with these settings behind the proxy."""
    settings = {"routes": ROUTES, "trusted_proxies": ["127.0.0.1/32"], **settings}
    listen = f"127.0.0.1:{running.sidecar}"
    async with (
        ScriptedUpstream(port=running.application) as application,
        stack(application.url, listen=listen, **settings) as sidecar,
    ):
        yield Site(running.front, running.port, sidecar, application)


@pytest.fixture
async def site(running: Running) -> AsyncIterator[Site]:
    """A sidecar and an application behind a proxy."""
    async with behind(running) as built:
        yield built


@every_front
async def test_allowed(site: Site) -> None:
    """With a valid token the request reaches the application unchanged, with an identity."""
    token = (await site.sidecar.login("admin")).access
    answer = await site.ask(build("POST", "/a%20b/%C3%A9?q=1&r=%20", token=token, body=b"hello"))
    assert (answer.status, answer.body) == (200, b"ok")
    assert site.seen.line == b"POST /a%20b/%C3%A9?q=1&r=%20 HTTP/1.1"
    assert site.seen.body == b"hello"
    fields = site.seen.fields
    assert fields.one("X-Auth-User") == b"admin"
    assert fields.one("X-Auth-Subject") == b"admin"
    assert fields.one("X-Auth-Issuer") == b"auth-sidecar"
    assert fields.members("X-Auth-Roles") == [b"user", b"admin"]
    assert len(fields.one("X-Auth-Session")) >= 22
    if site.front.name != "envoy":  # names this machine's address instead of a loopback address
        assert fields.one("X-Forwarded-For") == b"127.0.0.1"
    assert fields.one("Host") == b"sidecar.test"


@every_front
async def test_many_roles(running: Running) -> None:
    """A user whose roles almost fill the longest token passes, with every role."""
    roles = [f"team-{number:03}-project-maintainer-eu" for number in range(155)]
    token = mint(roles=roles)
    assert len(token) > 7_000
    async with behind(running, session_mode="none") as site:
        assert (await site.get("/", token=token)).status == 200
        assert site.seen.fields.members("X-Auth-Roles") == [role.encode() for role in roles]


@every_front
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_every_method_is_allowed(site: Site, method: str) -> None:
    """Every method is allowed, with and without a body, twice on one connection."""
    token = (await site.sidecar.login()).access
    site.application.scripts = ((reply(b"" if method == "HEAD" else b"ok"),),)
    body = b"x" * 70_000 if method in {"PUT", "PATCH"} else None
    async with connect(site.port) as client:
        for _ in range(2):
            answer = await client.ask(build(method, "/thing", token=token, body=body))
            assert answer.status == 200
            assert site.seen.method == method.encode()
            assert site.seen.body == (body or b"")


@every_front
async def test_denied(site: Site) -> None:
    """Without a valid token: 401 with a challenge, and nothing reaches the application."""
    answer = await site.get("/orders", "Accept: application/json")
    assert answer.status == 401
    assert answer.fields.one("WWW-Authenticate").startswith(b"Bearer")
    assert b"error=" not in answer.fields.one("WWW-Authenticate")
    assert answer.fields.one("Content-Type") == b"application/problem+json"
    assert answer.json()["status"] == 401
    assert "Location" not in answer.fields
    answer = await site.get("/orders", token="e30.e30.AAAA")
    assert answer.status == 401
    assert b'error="invalid_token"' in answer.fields.one("WWW-Authenticate")
    for method in ("HEAD", "POST"):
        assert (await site.ask(build(method, "/orders"))).status == 401
    assert not site.application.requests


@every_front
async def test_a_refused_body_breaks_nothing(site: Site) -> None:
    """A denied POST does not affect later requests on any connection."""
    token = (await site.sidecar.login()).access
    for _ in range(3):
        assert (await site.ask(build("POST", "/orders", body=b"x" * 5000))).status == 401
        assert (await site.ask(build("POST", "/", token=token, body=b"y"))).status == 200
        assert site.seen.body == b"y"


@every_front
async def test_forbidden(site: Site) -> None:
    """A user without the route's role gets 403; a user with it is allowed."""
    alice = (await site.sidecar.login("alice")).access
    admin = (await site.sidecar.login("admin")).access
    refused = await site.get("/admin/users", token=alice)
    assert (refused.status, refused.json()["title"]) == (403, "Forbidden")
    assert not site.application.requests
    assert (await site.get("/admin/users", token=admin)).status == 200


@every_front
async def test_logout_holds(site: Site) -> None:
    """After a logout through the proxy, the token is denied."""
    token = (await site.sidecar.login()).access
    assert (await site.get("/", token=token)).status == 200
    assert (await site.ask(build("POST", "/auth/logout", token=token, body=b""))).status == 204
    assert (await site.get("/", token=token)).status == 401


@every_front
@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(str, id="unchanged"),
        pytest.param(str.lower, id="lower-case"),
        pytest.param(lambda name: name.replace("-", "_"), id="underscores"),
        pytest.param(lambda name: name.replace("-", "_", 1), id="first-underscore"),
        pytest.param(lambda name: "_".join(name.rsplit("-", 1)), id="last-underscore"),
        *(
            pytest.param(lambda name, mark=mark: name.replace("-", mark), id=mark)
            for mark in "!#$%&'*+.^`|~"
        ),
        pytest.param(lambda name: name.replace("-", ".", 1), id="first-dot"),
        pytest.param(lambda name: "~".join(name.rsplit("-", 1)), id="last-tilde"),
    ],
)
async def test_a_clients_identity_never_arrives(site: Site, spelling: type[str]) -> None:
    """A client's own X-Auth headers are removed, on public paths and where a claim is empty."""
    token = (await site.sidecar.login("scout")).access  # has no roles
    forged = [f"{spelling(header)}: forged" for header in IDENTITY]
    for target, credentials in (("/open", None), ("/", token)):
        assert (await site.get(target, *forged, token=credentials)).status == 200
        assert b"forged" not in site.seen.head
    assert site.seen.fields.one("X-Auth-User") == b"scout"


@every_front
async def test_a_clients_forwarded_headers_never_arrive(site: Site) -> None:
    """What a client says about itself reaches neither the application nor a redirect."""
    forged = (
        "X-Forwarded-Host: forged.example",
        "X-Forwarded-Prefix: /forged",
        "X-Forwarded-Port: 6666",
        "X-Real-IP: 198.51.100.66",
        "Forwarded: for=198.51.100.66;host=forged.example",
    )
    for target in ("/open", "/auth/login"):
        answer = await site.get(target, "Accept: text/html", *forged)
        assert answer.status == 200
        assert b"forged" not in answer.body
    for word in (b"forged", b"6666", b"198.51.100.66"):
        assert word not in site.seen.head
    sent_away = await site.get("/", *NAVIGATION, *forged)
    assert sent_away.status == 302
    location = sent_away.fields.one("location")
    assert b"forged" not in location
    assert b"6666" not in location


@every_front
async def test_escapes_that_a_route_passes(running: Running) -> None:
    """Sidecar and application see the same path; elsewhere such a path opens nothing."""
    routes = (
        {"path": "/escaped/*", "access": "public", "path_escapes": "pass"},
        {"path": "/open/*", "access": "public"},
    )
    async with behind(running, routes=routes) as site:
        for target in ("/escaped/a%2Fb", "/escaped/a;b=c", "/escaped/50%2541"):
            answer = await site.get(target)
            assert (answer.status, site.seen.target) == (200, target.encode())
        site.application.requests.clear()
        for target in ("/open/a%2Fb", "/open/..%2Fx", "/escaped/..%2Fx", "/escaped/..;/x"):
            assert (await site.get(target)).status in {400, 401, 403, 404}
        assert not site.application.requests


@every_front
async def test_a_header_named_in_connection(site: Site) -> None:
    """Naming headers in Connection does not change a client's identity."""
    token = (await site.sidecar.login()).access
    forged = ("X-Auth-User: forged", "X-Forwarded-Uri: /open")
    named = "Connection: keep-alive, X-Auth-User, X-Forwarded-Uri, X-Original-URI"
    answer = await site.get("/admin/x", named, *forged, token=token)
    assert answer.status in {401, 403}
    assert not site.application.requests
    assert (await site.get("/", named, *forged, token=token)).status == 200
    assert site.seen.fields.all("X-Auth-User") == [b"alice"]


@every_front
async def test_the_original_method_is_judged(site: Site) -> None:
    """A rule for GET does not allow a POST, whatever the subrequest's method is."""
    assert (await site.get("/read")).status == 200
    forged = ("X-Forwarded-Method: GET", "X-Original-Method: GET", "X-HTTP-Method-Override: GET")
    assert (await site.ask(build("POST", "/read", *forged, body=b""))).status == 401
    assert (await site.ask(build("POST", "/read", *forged))).status == 401


@every_front
@pytest.mark.parametrize(
    "line",
    [
        *("X-HTTP-Method-Override: DELETE", "x-http-method: delete", "X-Method-Override: PUT"),
        *("X-HTTP-Verb: DELETE", "HTTP-Method-Override: DELETE"),
    ],
)
async def test_a_method_override_does_not_reach_the_application(site: Site, line: str) -> None:
    """The sidecar sees headers by which an application may act on another method, and denies."""
    token = (await site.sidecar.login("admin")).access
    answer = await site.ask(build("POST", "/thing", line, token=token, body=b"a"))
    assert answer.status in {400, 401, 403}
    assert site.application.requests == []
    assert (await site.ask(build("POST", "/thing", token=token, body=b"a"))).status == 200


@every_front
@pytest.mark.parametrize("method", ["delete", "Delete"])
async def test_a_method_in_lower_case_does_not_reach_the_application(
    site: Site, method: str
) -> None:
    """A method that an application may convert to upper case is refused by proxy or sidecar."""
    token = (await site.sidecar.login("admin")).access
    assert (await site.ask(build(method, "/thing", token=token))).status in {400, 403, 405, 501}
    assert site.application.requests == []


@every_front
async def test_the_original_host_is_judged(site: Site) -> None:
    """A rule for one host applies to the real host only, whatever the client claims."""
    assert (await site.ask(build("GET", "/hosted", host="open.example"))).status == 200
    forged = ("X-Forwarded-Host: open.example", "Forwarded: host=open.example")
    assert (await site.get("/hosted", *forged)).status == 401


@every_front
async def test_a_preflight(site: Site) -> None:
    """A preflight reaches the application anonymously, and its answer reaches the browser."""
    said = (
        *("Access-Control-Allow-Origin: https://app.example", "Access-Control-Max-Age: 9"),
        "Access-Control-Allow-Methods: DELETE",
    )
    site.application.scripts = ((reply(b"", "200 OK", *said),),)
    origin, asks = "Origin: https://app.example", "Access-Control-Request-Method: DELETE"
    forged = [f"{header}: forged" for header in IDENTITY]
    answer = await site.ask(build("OPTIONS", "/shared?a=b", origin, asks, *forged))
    assert answer.status == 200
    assert answer.fields.one("Access-Control-Allow-Origin") == b"https://app.example"
    assert answer.fields.one("Access-Control-Allow-Methods") == b"DELETE"
    assert "Access-Control-Allow-Credentials" not in answer.fields
    assert site.seen.line == b"OPTIONS /shared?a=b HTTP/1.1"
    assert site.seen.fields.one("Access-Control-Request-Method") == b"DELETE"
    assert b"forged" not in site.seen.head
    assert not any(map(any, map(site.seen.fields.all, IDENTITY)))
    site.application.requests.clear()
    for lines in (
        *((), (origin,), (asks,), (origin, "Access-Control-Request-Method: PUT")),
        *((origin, "Origin: null", asks), (origin, asks, "Cookie: a=b")),
        *((origin, asks, "Authorization: Basic eDp5"), (origin, asks, "X-HTTP-Method: DELETE")),
    ):
        assert (await site.ask(build("OPTIONS", "/shared", *lines))).status == 401
    assert (await site.ask(build("DELETE", "/shared", origin, asks))).status == 401
    assert (await site.ask(build("OPTIONS", "/orders", origin, asks))).status == 401
    assert not site.application.requests


@every_front
async def test_pages_of_other_origins_read_denials(running: Running) -> None:
    """The sidecar's CORS headers reach the browser with a denial, and with no other answer."""
    listed, other = "Origin: https://spa.example", "Origin: https://evil.example"
    cors = {"origins": ["https://spa.example"], "credentials": True}
    async with behind(running, cors=cors) as site:
        alice = (await site.sidecar.login("alice")).access
        for target, token, status in (("/orders", None, 401), ("/admin/users", alice, 403)):
            answer = await site.get(target, listed, token=token)
            assert answer.status == status
            given = answer.fields
            assert given.one("Access-Control-Allow-Origin") == b"https://spa.example"
            assert given.one("Access-Control-Allow-Credentials") == b"true"
            assert b"WWW-Authenticate" in given.one("Access-Control-Expose-Headers")
            assert given.one("Vary") == b"Origin"
            for line in (other, "Origin: null", "Accept: */*"):
                answer = await site.get(target, line, token=token)
                assert answer.status == status
                assert b"\r\naccess-control-" not in answer.head.lower()
        assert not site.application.requests
        answer = await site.get("/", listed, token=alice)
        assert answer.status == 200
        assert b"\r\naccess-control-" not in answer.head.lower()
        cookie = f"Cookie: {await site.sidecar.cookie()}"
        for line, status in ((listed, 200), (other, 403)):
            answer = await site.ask(build("POST", "/", cookie, line, body=b""))
            assert answer.status == status
        asks = "Access-Control-Request-Method: POST"
        answer = await site.ask(build("OPTIONS", "/auth/logout", listed, asks))
        assert (answer.status, answer.fields.one("Access-Control-Allow-Methods")) == (204, b"POST")


@every_front
@pytest.mark.parametrize(
    "target", ["/open/../secret", "/open%2f..%2fsecret", "/open/", "//open", "/Open", "/open%00"]
)
async def test_near_a_public_path(site: Site, target: str) -> None:
    """A path that is not exactly the public one is protected, however the proxy reads it."""
    answer = await site.get(target)
    if site.front.name == "traefik" and target == "//open":
        # It removes such slashes before it asks; the application gets the path that was checked.
        assert (answer.status, site.seen.target) == (200, b"/open")
        return
    assert answer.status in {400, 401, 403}
    assert not site.application.requests


@every_front
@pytest.mark.parametrize(
    "header",
    [
        *(
            "X-Original-URI",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Forwarded-Uri",
            "X-Forwarded-URI",
        ),
        *("X_Forwarded_Uri", "X-Forwarded_Uri", "X-Envoy-Original-Path", "X-Forwarded-Prefix"),
    ],
)
async def test_a_client_cannot_say_what_it_asks_for(site: Site, header: str) -> None:
    """A client's header that names a public path has no effect."""
    assert (await site.get("/orders", f"{header}: /open")).status == 401
    assert not site.application.requests
    assert (await site.get("/open", f"{header}: /orders")).status == 200


@every_front
async def test_to_the_login_page_and_back(site: Site) -> None:
    """Navigation is redirected to the login page and back to its exact target."""
    target = "/orders?from=1&to=2&u=%2Fx%26y"
    answer = await site.get(target, *NAVIGATION)
    assert answer.status == 302
    location = answer.fields.one("Location").decode()
    path, _, query = location.removeprefix(HOST).partition("?")
    assert (path, parse_qs(query)) == ("/auth/login", {"rd": [target]})
    page = await site.get(location.removeprefix(HOST), *NAVIGATION)
    assert (page.status, b"<form" in page.body) == (200, True)
    form = (f"Origin: {HOST}", "Content-Type: application/x-www-form-urlencoded")
    body = f"username=alice&password=pw-alice&rd={quote(target, safe='')}".encode()
    login = await site.ask(build("POST", "/auth/login", *form, body=body))
    assert login.status == 303
    assert login.fields.one("Location").decode().removeprefix(HOST) == target
    cookie = "Cookie: " + login.fields.one("Set-Cookie").decode().partition(";")[0]
    assert (await site.get(target, cookie, *NAVIGATION)).status == 200
    assert site.seen.target == target.encode()
    assert site.seen.fields.one("X-Auth-User") == b"alice"


@every_front
async def test_a_page_as_head(site: Site) -> None:
    """A HEAD navigation is redirected to the login page as well, without a body."""
    async with connect(site.port) as client:
        answer = await client.ask(build("HEAD", "/orders", *NAVIGATION))
        assert (answer.status, "Location" in answer.fields) == (302, True)
        await client.silence()


@every_front
@pytest.mark.parametrize(
    ("method", "lines"),
    [
        pytest.param("GET", ("Sec-Fetch-Mode: cors", "Accept: text/html"), id="script"),
        pytest.param("GET", ("Accept: application/json",), id="api-client"),
        pytest.param("GET", (), id="no-headers"),
        pytest.param("POST", NAVIGATION, id="form"),
    ],
)
async def test_others_are_not_redirected(site: Site, method: str, lines: tuple[str, ...]) -> None:
    """Requests that are not navigation get a plain 401."""
    body = b"" if method == "POST" else None
    assert (await site.ask(build(method, "/orders", *lines, body=body))).status == 401


@every_front
async def test_a_cookie_from_elsewhere(site: Site) -> None:
    """The cookie is accepted, except for another site's POST or WebSocket."""
    cookie = f"Cookie: {await site.sidecar.cookie()}"
    own, other = f"Origin: {HOST}", "Origin: http://evil.test"
    assert (await site.get("/orders", cookie)).status == 200
    assert (await site.ask(build("POST", "/orders", cookie, own, body=b""))).status == 200
    assert (await site.ask(build("POST", "/orders", cookie, other, body=b""))).status == 403
    assert (await site.ask(build("POST", "/orders", cookie, body=b""))).status == 403
    site.application.requests.clear()
    assert (await site.get("/ws", *UPGRADE, cookie, other)).status == 403
    assert not site.application.requests


@every_front
async def test_websocket(site: Site) -> None:
    """WebSockets pass with a token or a same-origin cookie, and octets go both ways."""

    async def echo(connection: Any, _: Received) -> None:
        await connection.send(SWITCHED)
        await connection.send(b"<" + await connection.exactly(4) + b">")

    site.application.scripts = lambda got: (echo if "Upgrade" in got.fields else OK,)
    token = (await site.sidecar.login()).access
    cookie = f"Cookie: {await site.sidecar.cookie()}"
    for lines in ((f"Authorization: Bearer {token}",), (cookie, f"Origin: {HOST}")):
        async with connect(site.port) as client:
            assert (await client.ask(build("GET", "/ws", *UPGRADE, *lines))).status == 101
            await client.send(b"ping")
            assert await client.exactly(6) == b"<ping>"
        assert site.seen.fields.one("X-Auth-User") == b"alice"
    assert (await site.get("/ws", *UPGRADE)).status == 401


@every_front
async def test_the_question_is_asked_by_the_proxy_alone(site: Site) -> None:
    """Clients cannot reach the verify endpoint, by any of its names."""
    public = ("X-Original-URI: /open", "X-Forwarded-Uri: /open", "X-Forwarded-Method: GET")
    name = site.front.name
    for target in ("", "/nginx", f"/{name}", f"/{name}/open"):
        for path in (f"/auth/verify{target}", f"/auth/%76erify{target}"):
            answer = await site.get(path, *public)
            assert answer.status in {401, 404}
            assert not any(name in answer.fields for name in IDENTITY)
    assert not site.application.requests


@every_front
async def test_without_a_sidecar_nobody_gets_in(site: Site) -> None:
    """If the sidecar does not answer nothing passes, not even on public paths."""
    token = (await site.sidecar.login()).access
    await site.sidecar.sidecar.stop()
    answers = await asyncio.gather(site.get("/open"), site.get("/open", token=token))
    assert [answer.status for answer in answers] == [site.front.away] * 2
    assert not site.application.requests


@pytest.mark.needs(*(front.program for front in FRONTS))
async def test_a_sidecar_that_stands_still() -> None:
    """If the sidecar hangs, the proxies give up after 3 or 4 s and nothing passes.

    All proxies are tested at once, because each takes that long. Traefik gives up after 30 s, which
    cannot be configured (see soak.py); here, the sidecar ends before that.
    """

    async def knock(port: int) -> int:
        async with connect(port) as client:
            client.patience = 30.0
            return (await client.ask(build("GET", "/open"))).status

    async with (
        ScriptedUpstream() as application,
        process(application.url, routes=ROUTES, trusted_proxies=["127.0.0.1/32"]) as sidecar,
    ):
        with contextlib.ExitStack() as stopped:
            ports = {
                front.name: stopped.enter_context(front.start(sidecar.port, application.port))
                for front in FRONTS
            }
            # Now each proxy keeps a connection to the sidecar.
            assert [await knock(port) for port in ports.values()] == [200] * len(ports)
            application.requests.clear()
            sidecar.tell(signal.SIGSTOP)
            traefik = asyncio.ensure_future(knock(ports.pop("traefik")))
            assert await asyncio.gather(*map(knock, ports.values())) == [503] * len(ports)
            assert not traefik.done()
            sidecar.tell(signal.SIGKILL)
            assert await traefik == 500
        assert not application.requests


@every_front
async def test_a_refusing_outage(running: Running) -> None:
    """In strict mode an outage denies every session, with the status that suits the proxy."""
    settings: dict[str, Any] = {
        "session_store": "redis",
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "session_outage": "strict",
        "cors": {"origins": ["https://spa.example"]},
    }
    async with behind(running, **settings) as site:
        token = (await site.sidecar.login()).access
        answer = await site.get("/", "Origin: https://spa.example", token=token)
        assert answer.status == site.front.refusing
        assert answer.fields.one("Retry-After") == b"1"
        assert answer.fields.one("Access-Control-Allow-Origin") == b"https://spa.example"
        assert (await site.get("/open")).status == 200
        assert [got.target for got in site.application.requests] == [b"/open"]
        page = await site.get("/", *NAVIGATION, token=token)
        check_page(page, site.front.refusing)


def check_page(answer: Response, status: int) -> str:
    """Return the text of a page for people; its policy must allow its style and nothing else."""
    assert answer.status == status
    assert answer.fields.one("Content-Type") == b"text/html; charset=utf-8"
    assert answer.fields.one("Cache-Control") == b"no-store"
    text = answer.body.decode()
    assert f"<h1>{HTTPStatus(status).phrase}</h1>" in text
    assert f"Status {status}." in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.fields.one("Content-Security-Policy").decode() == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return text


@every_front
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_person_sees_a_page(site: Site, method: str) -> None:
    """A person who may not do something gets a page; a program gets a problem document."""
    alice = (await site.sidecar.login("alice")).access
    body = b"a=1" if method == "POST" else None
    for browser in (NAVIGATION, NAVIGATION[2:]):
        answer = await site.ask(build(method, "/admin/x", *browser, token=alice, body=body))
        assert 'href="/auth/login">Go to the sign-in page</a>' in check_page(answer, 403)
    for program in ((), ("Accept: text/html", "Sec-Fetch-Mode: cors")):
        answer = await site.ask(build(method, "/admin/x", *program, token=alice, body=body))
        assert answer.fields.one("Content-Type") == b"application/problem+json"
        assert answer.json()["status"] == answer.status == 403
    assert not site.application.requests


@every_front
async def test_a_person_sees_a_page_without_a_sidecar(site: Site) -> None:
    """If the sidecar does not answer, a person gets a page, and a program a problem document.

    Envoy and Traefik have an empty answer of their own.
    """
    await site.sidecar.sidecar.stop()
    pages = [NAVIGATION, NAVIGATION[2:]]
    documents: list[tuple[str, ...]] = [(), ("Accept: text/html", "Sec-Fetch-Mode: cors")]
    answers = await asyncio.gather(*(site.get("/open", *lines) for lines in pages + documents))
    if site.front.name in {"envoy", "traefik"}:
        assert [answer.body for answer in answers] == [b""] * 4
        return
    for page in answers[:2]:
        assert 'href="">Try again</a>' in check_page(page, 503)
    for document in answers[2:]:
        assert document.fields.one("Content-Type") == b"application/problem+json"
        assert document.json()["status"] == document.status == 503
    assert all(answer.fields.one("Retry-After") == b"1" for answer in answers)


@every_front
async def test_a_large_head(site: Site) -> None:
    """A proxy accepts credentials that are as large as those that the sidecar accepts."""
    token = (await site.sidecar.login()).access
    cookie = f"Cookie: a={'x' * 24_000}"
    assert (await site.get("/", cookie, token=token)).status == 200
    assert site.seen.fields.one("Cookie") == cookie.partition(": ")[2].encode()
    assert site.seen.fields.one("X-Auth-User") == b"alice"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("nginx.conf", ("proxy_read_timeout 1h;", "proxy_send_timeout 1h;")),
        ("haproxy.cfg", ("timeout client 1h", "timeout server 1h", "timeout tunnel 1h")),
        ("envoy.yaml", ("route: {cluster: application, timeout: 0s, idle_timeout: 0s}",)),
        ("traefik.yaml", ("--entryPoints.web.transport.respondingTimeouts.readTimeout=0s",)),
    ],
)
def test_time_limits_are_off(name: str, lines: tuple[str, ...]) -> None:
    """A configuration changes the defaults that end long requests; Caddy has no such default.

    The effect is tested by `make soak` (soak.py), because it takes longer than these defaults.
    """
    text = moved(name, {})
    assert [line for line in lines if line not in text] == []


@every_front
async def test_an_upload(site: Site) -> None:
    """An upload of 20 MB reaches the application whole."""
    site.application.keep = False
    token = (await site.sidecar.login()).access
    body = hashlib.shake_128(b"upload").digest(20_000_000)
    async with connect(site.port) as client:
        client.patience = 30.0
        answer = await client.ask(build("PUT", "/file", token=token, body=body))
    assert (answer.status, answer.body) == (200, b"ok")
    assert site.seen.body == body


@every_front
async def test_events_arrive_at_once(site: Site) -> None:
    """An event reaches the client while the application is silent, and so does the next one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    site.application.scripts = (
        (head + b"9\r\ndata: 1\n\n\r\n", STALL, b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"),
    )
    token = (await site.sidecar.login()).access
    async with connect(site.port) as client:
        await client.send(build("GET", "/events", token=token))
        assert (await client.head()).status == 200
        await client.until(b"data: 1\n\n")
        site.application.release.set()
        await client.until(b"data: 2\n\n")


@pytest.mark.needs(*(front.program for front in FRONTS))
async def test_a_slow_application() -> None:
    """An application that needs 20 s for an answer, or between two events, is waited for.

    All proxies are tested at once, because each takes that long. soak.py does the same for 70 s.
    """

    async def pause(*_: Any) -> None:
        await asyncio.sleep(20.0)

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    events = (head + b"9\r\ndata: 1\n\n\r\n", pause, b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    async def wait(port: int, token: str, target: str) -> bytes:
        async with connect(port) as client:
            client.patience = 30.0
            answer = await client.ask(build("GET", target, token=token))
            return b"%d %b" % (answer.status, answer.body)

    application = ScriptedUpstream(lambda got: events if got.target == b"/events" else (pause, OK))
    async with (
        application,
        stack(application.url, trusted_proxies=["127.0.0.1/32"]) as sidecar,
    ):
        token = (await sidecar.login()).access
        with contextlib.ExitStack() as stopped:
            waiting = {
                (front.name, target): wait(port, token, target)
                for front in FRONTS
                for port in [stopped.enter_context(front.start(sidecar.port, application.port))]
                for target in ("/slow", "/events")
            }
            answers = await asyncio.gather(*waiting.values())
        expected = {"/slow": b"200 ok", "/events": b"200 data: 1\n\ndata: 2\n\n"}
        got = dict(zip(waiting, answers, strict=True))
        assert got == {(name, target): expected[target] for name, target in waiting}


@every_front
async def test_errors_of_the_application_are_its_own(site: Site) -> None:
    """The application's own 401, 403 and 500 reach the client unchanged."""
    token = (await site.sidecar.login()).access
    for status in ("401 Unauthorized", "403 Forbidden", "500 Internal Server Error"):
        site.application.scripts = (
            (f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nmine".encode(),),
        )
        answer = await site.get("/", token=token)
        assert (str(answer.status), answer.body) == (status[:3], b"mine")


@every_front
async def test_answers_are_not_mixed_up(site: Site) -> None:
    """Of many concurrent requests, each is decided by its own token."""
    users = {name: (await site.sidecar.login(name)).access for name in ("alice", "admin")}
    asked: list[tuple[str, str | None, int]] = [
        ("/admin/x", users["admin"], 200),
        ("/admin/x", users["alice"], 403),
        ("/", users["alice"], 200),
        ("/", None, 401),
    ] * 10
    answers = await asyncio.gather(*(site.get(path, token=token) for path, token, _ in asked))
    assert [answer.status for answer in answers] == [status for _, _, status in asked]
