"""The verify endpoint; in nginx's dialect (`auth_request`) it answers only 200, 401 or 403.

The differences of the other dialects are tested at the end. The original URI and method count only
from trusted peers, and a URI that cannot be read is denied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.peers.raw_client import Response, build
from tests.peers.stack import Stack, mint, stack
from tests.proxy.challenges import challenge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream

ROUTES = (
    {"path": "/public/*", "access": "public"},
    {"path": "/maybe/*", "access": "optional"},
    {"path": "/admin/*", "roles": ["admin"]},
    {"path": "/readonly/*", "methods": ["GET"], "access": "public"},
    {"path": "/hosted/*", "hosts": ["public.example"], "access": "public"},
    {"path": "/shared/*", "methods": ["PUT"], "preflight": "pass"},
    {"path": "/by-bearer/*", "credentials": "bearer"},
    {"path": "/by-cookie/*", "credentials": "cookie"},
)
IDENTITY = (
    *("x-auth-user", "x-auth-subject", "x-auth-issuer"),
    *("x-auth-roles", "x-auth-scopes", "x-auth-session"),
)
VERIFY = "/auth/verify"

UNREADABLE = (
    *("", "public/x", "*", "?", "/public/../admin", "/public/%2e%2e/x", "/public/..;/x"),
    *("//evil.example/", "/\\evil.example", "/public\\..\\x", "/%", "/%zz", "/a%00b", "/a b"),
    *("/public/%2f..%2fadmin", "/public/\xe9", "/x#y", "https://evil.example/public/x"),
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar that trusts its peers on loopback, such as nginx in the same pod."""
    settings: dict[str, Any] = {
        "trusted_proxies": ["127.0.0.0/8"],
        "identity": {"X-Auth-Email": "email"},
    }
    async with stack(upstream.url, routes=ROUTES, **settings) as running:
        yield running


@pytest.fixture
async def wary(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """The same sidecar without trusted peers."""
    async with stack(upstream.url, routes=ROUTES) as running:
        yield running


def identity(answer: Response) -> dict[str, bytes]:
    """Return the identity headers of an answer, each of which must occur exactly once."""
    return {name: answer.fields.one(name) for name in IDENTITY}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "suffix",
    [
        *("", "/", "/nginx", "/nginx/a/b?c=d", "/traefik", "/traefik/a%20b/?c", "/caddy?a"),
        *("/caddy/x", "/envoy", "/envoy?/", "/envoy/", "/envoy/a/b?c=d", "/haproxy", "/haproxy/x"),
    ],
)
async def test_valid_token_is_200(
    upstream: ScriptedUpstream, guarded: Stack, method: str, suffix: str
) -> None:
    """A valid token gets exactly 200 and every identity header, for each method and suffix."""
    token = (await guarded.login()).access
    body = b"GET /public/poison HTTP/1.1\r\nHost: x\r\n\r\n" if method == "POST" else None
    async with guarded.client() as client:
        for _ in range(2):
            answer = await client.ask(build(method, VERIFY + suffix, token=token, body=body))
            assert answer.status == 200
            seen = identity(answer)
            assert seen["x-auth-user"] == seen["x-auth-subject"] == b"alice"
            assert seen["x-auth-roles"] == b"user"
            assert answer.fields.one("x-auth-email") == b"alice@example.org"
            assert answer.body == b""
    assert upstream.requests == []


async def test_absent_claims_are_empty_headers(guarded: Stack) -> None:
    """A claim that the user does not have yields an empty header."""
    answer = await guarded.get(VERIFY, token=(await guarded.login("scout")).access)
    assert identity(answer)["x-auth-roles"] == b""
    assert answer.fields.one("x-auth-email") == b""


async def test_cookie_session_is_200(guarded: Stack) -> None:
    """A session cookie is accepted, except for a cross-origin POST behind nginx."""
    cookie = f"Cookie: {await guarded.cookie()}"
    uri = "X-Original-URI: /app"
    assert (await guarded.get(VERIFY, cookie, uri)).status == 200
    lines = (cookie, uri, "X-Original-Method: POST", "Origin: https://evil.example")
    assert (await guarded.get(VERIFY, *lines)).status == 403


async def test_no_token_is_401_with_a_challenge(guarded: Stack) -> None:
    """Without credentials: 401 and a bare challenge, which nginx copies to the client."""
    answer = await guarded.get(VERIFY)
    assert answer.status == 401
    assert set(challenge(answer)) <= {"realm"}


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("Authorization: Bearer abc",), id="garbage"),
        pytest.param((f"Authorization: Bearer {mint(exp=1)}",), id="expired"),
        pytest.param((f"Authorization: Bearer {mint()}",), id="no-session"),
        pytest.param(("Authorization: Bearer",), id="no-token"),
        pytest.param(("Authorization: Bearer a b",), id="two-words"),
        pytest.param(("Authorization: Bearer a", "Authorization: Bearer b"), id="two-headers"),
        pytest.param(("Authorization: Bearer a", "Cookie: __Host-session=b"), id="two-places"),
        pytest.param(("Cookie: __Host-session=b",), id="unknown-cookie"),
        pytest.param(("Cookie: __Host-session=b; __Host-session=c",), id="two-cookies"),
        pytest.param(("Cookie: __Host-session=",), id="empty-cookie"),
        pytest.param((f"Authorization: Bearer {'x' * 17_000}",), id="too-long"),
    ],
)
async def test_bad_credentials_are_401_or_403(guarded: Stack, lines: tuple[str, ...]) -> None:
    """Bad credentials get 401 or 403, because nginx turns any other status into a 500."""
    for more in ((), ("X-Original-URI: /app",)):
        assert (await guarded.get(VERIFY, *lines, *more)).status in {401, 403}


@pytest.mark.parametrize(
    "uri",
    ["/app", "/app?x=1&y=2", "/a%20b?next=%2Fc&q=a+b", "/?", "/app?u=https://evil.example/&z="],
)
async def test_401_knows_the_way_to_the_login_page(guarded: Stack, uri: str) -> None:
    """With the original URI, the 401 has an escaped Location that leads back to that URI."""
    lines = (f"X-Original-URI: {uri}", "X-Forwarded-Proto: https", "X-Forwarded-Host: app.example")
    answer = await guarded.get(VERIFY, *lines)
    assert answer.status == 401
    location = urlsplit(answer.fields.one("location").decode("ascii"))
    assert location.path == "/auth/login"
    query = parse_qs(location.query, keep_blank_values=True)
    assert list(query) == ["rd"]
    (back,) = query["rd"]
    assert back in {uri, f"https://app.example{uri}"}
    assert challenge(answer).get("error") is None


async def test_delegated_login(upstream: ScriptedUpstream) -> None:
    """With LOGIN_URL the Location leads there."""
    settings: dict[str, Any] = {
        "trusted_proxies": ["127.0.0.1/32"],
        "login_url": "https://login.example/sso?a=b",
    }
    async with stack(upstream.url, **settings) as guarded:
        lines = ("X-Original-URI: /app?x=1", "X-Forwarded-Host: app.example")
        answer = await guarded.get(VERIFY, *lines)
        assert answer.status == 401
        location = urlsplit(answer.fields.one("location").decode("ascii"))
        assert location.geturl().startswith("https://login.example/sso?")
        assert parse_qs(location.query)["a"] == ["b"]
        assert parse_qs(location.query)["rd"][0].endswith("/app?x=1")


@pytest.mark.parametrize(
    "line",
    ["X-Original-URI: /public/x", "X-Original-Method: GET", "x-original-uri: /admin/x"],
)
@pytest.mark.parametrize("user", [None, "admin"])
async def test_original_request_of_strangers_is_403(
    wary: Stack, line: str, user: str | None
) -> None:
    """An untrusted peer that describes an original request gets a 403."""
    token = (await wary.login(user)).access if user else None
    answer = await wary.get(VERIFY, line, token=token)
    assert answer.status == 403
    assert "location" not in answer.fields


async def test_stranger_without_original_request(wary: Stack) -> None:
    """Without an original request, any peer may ask whether its token is valid."""
    assert (await wary.get(VERIFY)).status == 401
    assert (await wary.get(VERIFY, token=(await wary.login()).access)).status == 200


@pytest.mark.parametrize(
    "name",
    ["X_Original_URI", "X-Original_URI", "X-Original-Url", "X-Forwarded-Uri", "X-Rewrite-Url"],
)
@pytest.mark.parametrize("trusted", ["trusted", "untrusted"])
async def test_other_names_for_the_original_uri_mean_nothing(
    guarded: Stack, wary: Stack, name: str, trusted: str
) -> None:
    """The URI is read from the dialect's own header only, never from another or an alias."""
    running = guarded if trusted == "trusted" else wary
    assert (await running.get(VERIFY, f"{name}: /public/x")).status in {401, 403}
    lines = ("X-Original-URI: /admin/x", f"{name}: /public/x")
    assert (await running.get(VERIFY, *lines)).status in {401, 403}


@pytest.mark.parametrize(
    ("uri", "lines", "user", "status"),
    [
        pytest.param("/public/x?y", (), None, 200, id="public"),
        pytest.param("/maybe/x", (), None, 200, id="optional"),
        pytest.param("/maybe/x", (), "alice", 200, id="optional-alice"),
        pytest.param("/x", (), "alice", 200, id="default"),
        pytest.param("/x?/public/", (), None, 401, id="query-is-no-path"),
        pytest.param("/admin/x", (), None, 401, id="role-anonymous"),
        pytest.param("/admin/x", (), "alice", 403, id="role-alice"),
        pytest.param("/%61dmin/x", (), "alice", 403, id="role-alice-escaped"),
        pytest.param("/admin/x", (), "admin", 200, id="role-admin"),
        pytest.param("/readonly/x", (), None, 200, id="method-default-get"),
        pytest.param("/readonly/x", ("X-Original-Method: GET",), None, 200, id="method-get"),
        pytest.param("/readonly/x", ("X-Original-Method: POST",), None, 401, id="method-post"),
        pytest.param("/hosted/x", ("X-Forwarded-Host: public.example",), None, 200, id="host"),
        pytest.param("/hosted/x", ("X-Forwarded-Host: other.example",), None, 401, id="other-host"),
    ],
)
async def test_decision_on_the_original_request(
    *,
    upstream: ScriptedUpstream,
    guarded: Stack,
    uri: str,
    lines: tuple[str, ...],
    user: str | None,
    status: int,
) -> None:
    """A trusted peer's original request is decided by the same routes as a direct one."""
    token = (await guarded.login(user)).access if user else None
    answer = await guarded.get(VERIFY, f"X-Original-URI: {uri}", *lines, token=token)
    assert answer.status == status
    if status == 200:
        assert identity(answer)["x-auth-user"].decode() == (user or "")
    if status == 403:
        assert challenge(answer)["error"] == "insufficient_scope"
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "uri",
    [
        *("/auth/settings/admin", "/auth/login", "/auth/logout", "/auth/verify", "/auth/verify/x"),
        *("/auth/userinfo?x", "/%61uth/login", "/.well-known/jwks.json"),
    ],
)
async def test_own_paths_are_the_applications_behind_a_proxy(
    guarded: Stack, uri: str, method: str
) -> None:
    """The sidecar's own paths, as an original URI, belong to the application."""
    lines = (f"X-Original-URI: {uri}", f"X-Original-Method: {method}")
    assert (await guarded.get(VERIFY, *lines)).status == 401
    token = (await guarded.login()).access
    assert (await guarded.get(VERIFY, *lines, token=token)).status == 200


@pytest.mark.parametrize(
    "lines",
    [pytest.param((f"X-Original-URI: {uri}",), id=uri[:40] or "empty") for uri in UNREADABLE]
    + [
        pytest.param(("X-Original-URI: /public/x", "X-Original-URI: /public/y"), id="twice"),
        pytest.param(("X-Original-URI: /public/x", "X-Original-Method: G@T"), id="bad-method"),
        pytest.param(("X-Original-URI: /public/x", "X-Original-Method: "), id="empty-method"),
    ],
)
async def test_malformed_original_request_is_403(guarded: Stack, lines: tuple[str, ...]) -> None:
    """A URI or method that cannot be read never passes the check (CVE-2021-32637)."""
    token = (await guarded.login("admin")).access
    for credentials in (None, token):
        answer = await guarded.get(VERIFY, *lines, token=credentials)
        assert answer.status == 403 or (answer.status == 401 and not credentials)
        assert "evil" not in answer.head.decode("latin-1")


async def test_client_sent_identity_is_not_echoed(guarded: Stack) -> None:
    """A client's identity headers on the subrequest are never returned as identity."""
    forged = ("X-Auth-User: root", "X_Auth_Roles: admin", "Connection: x-auth-user, close")
    answer = await guarded.get(VERIFY, *forged, token=(await guarded.login()).access)
    assert identity(answer)["x-auth-user"] == b"alice"
    assert b"root" not in answer.head
    answer = await guarded.get(VERIFY, *forged, "X-Original-URI: /public/x")
    assert set(identity(answer).values()) == {b""}


async def test_upgrade_headers_do_no_harm(guarded: Stack) -> None:
    """Upgrade headers, which Caddy leaves on the subrequest, do not affect the answer."""
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
    token = (await guarded.login()).access
    async with guarded.client() as client:
        for _ in range(2):
            assert (await client.ask(build("GET", VERIFY, *lines, token=token))).status == 200


DIALECTS = ("nginx", "traefik", "caddy", "envoy", "haproxy")
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def question(dialect: str, method: str, uri: str, *lines: str, token: str | None = None) -> bytes:
    """Build this proxy's subrequest for a request to `app.example`; HAProxy asks by HEAD."""
    if dialect == "envoy":
        target = f"{VERIFY}/envoy{uri}"
        fields = ("Content-Length: 0", *lines)
        return build(method, target, *fields, token=token, host="app.example")
    names = ("Original", "Original") if dialect == "nginx" else ("Forwarded", "Forwarded")
    said = (f"X-{names[0]}-URI: {uri}", f"X-{names[1]}-Method: {method}")
    fields = (*said, "X-Forwarded-Host: app.example", "X-Forwarded-Proto: https", *lines)
    asks = "HEAD" if dialect == "haproxy" else "GET"
    return build(asks, f"{VERIFY}/{dialect}", *fields, token=token)


@every_dialect
@pytest.mark.parametrize(
    ("method", "uri", "user", "status"),
    [
        pytest.param("GET", "/public/x?y", None, 200, id="public"),
        pytest.param("GET", "/x?/public/", None, 401, id="query-is-no-path"),
        pytest.param("GET", "/x", "alice", 200, id="default"),
        pytest.param("GET", "/admin/x", "alice", 403, id="role-alice"),
        pytest.param("GET", "/admin/x", "admin", 200, id="role-admin"),
        pytest.param("HEAD", "/readonly/x", None, 200, id="head"),
        pytest.param("POST", "/readonly/x", None, 401, id="method"),
        pytest.param("GET", "/auth/login", None, 401, id="own-path"),
        pytest.param("DELETE", "/x", "alice", 200, id="delete"),
    ],
)
async def test_every_dialect_decides_on_the_original_request(
    *, guarded: Stack, dialect: str, method: str, uri: str, user: str | None, status: int
) -> None:
    """Every dialect leads to the same decision, twice on one connection."""
    token = (await guarded.login(user)).access if user else None
    async with guarded.client() as client:
        for _ in range(2):
            answer = await client.ask(question(dialect, method, uri, token=token))
            assert answer.status == status
            if status == 200:
                assert identity(answer)["x-auth-user"].decode() == (user or "")
                assert answer.fields.one("x-auth-degraded") == b""


@every_dialect
async def test_every_dialect_distrusts_strangers(wary: Stack, dialect: str) -> None:
    """An untrusted peer gets a 403 in every dialect, with or without a valid token."""
    token = (await wary.login("admin")).access
    for credentials in (None, token):
        answer = await wary.ask(question(dialect, "GET", "/public/x", token=credentials))
        assert (answer.status, "location" in answer.fields) == (403, False)


@every_dialect
@pytest.mark.parametrize(
    ("method", "lines", "navigates"),
    [
        pytest.param("GET", ("Sec-Fetch-Mode: navigate",), True, id="navigation"),
        pytest.param("HEAD", ("Accept: text/html",), True, id="head"),
        pytest.param("POST", ("Sec-Fetch-Mode: navigate",), False, id="form"),
        pytest.param("GET", ("Sec-Fetch-Mode: cors", "Accept: text/html"), False, id="script"),
        pytest.param("GET", (), False, id="program"),
    ],
)
async def test_who_is_sent_to_the_login_page(
    *, guarded: Stack, dialect: str, method: str, lines: tuple[str, ...], navigates: bool
) -> None:
    """Navigation gets a 302 where the proxy forwards it; nginx gets a 401 with the Location."""
    async with guarded.client() as client:
        for _ in range(2):
            answer = await client.ask(question(dialect, method, "/app?x=1&y", *lines))
            assert answer.status == (302 if navigates and dialect != "nginx" else 401)
            assert set(challenge(answer)) <= {"realm"}
            found = answer.fields.all("location")
            if navigates or dialect == "nginx":
                start = b"https://app.example" if dialect == "traefik" else b""
                assert found == [start + b"/auth/login?rd=/app?x%3D1%26y"]
            else:
                assert found == []


@every_dialect
async def test_which_credentials_count(guarded: Stack, dialect: str) -> None:
    """The route of the original request says whose identity counts, and what is refused."""
    cookie, token = f"Cookie: {await guarded.cookie()}", (await guarded.login("admin")).access
    foreign = mint(iss="https://app.example")
    wrong = 401 if dialect == "nginx" else 400
    for uri, bearer, method, found in (
        ("/x", token, "GET", wrong),
        ("/x", foreign, "GET", b"alice"),
        ("/x", "null", "GET", b"alice"),
        ("/x", foreign, "POST", 403),
        ("/by-cookie/x", token, "GET", b"alice"),
        ("/by-cookie/x", token, "POST", 403),
        ("/by-bearer/x", token, "POST", b"admin"),
        ("/by-bearer/x", foreign, "GET", 401),
    ):
        answer = await guarded.ask(question(dialect, method, uri, cookie, token=bearer))
        if isinstance(found, bytes):
            assert answer.status == 200
            assert identity(answer)["x-auth-user"] == found
        else:
            assert answer.status == found, (uri, bearer, method)


@every_dialect
async def test_no_login_page_where_a_cookie_counts_not(guarded: Stack, dialect: str) -> None:
    """A route that takes bearer tokens alone sends nobody to the login page: it would not help."""
    cookie = f"Cookie: {await guarded.cookie()}"
    for lines in ((), (cookie,)):
        asked = question(dialect, "GET", "/by-bearer/x", "Sec-Fetch-Mode: navigate", *lines)
        answer = await guarded.ask(asked)
        assert (answer.status, answer.fields.all("location")) == (401, [])


@every_dialect
async def test_a_cookie_for_another_sites_websocket(guarded: Stack, dialect: str) -> None:
    """A cookie opens a WebSocket only for a page of the same origin."""
    cookie = f"Cookie: {await guarded.cookie()}"
    for origin, status in (("https://evil.example", 403), ("https://app.example", 200)):
        for more in ((), ("Connection: Upgrade", "Upgrade: websocket")):
            lines = (cookie, "Sec-WebSocket-Key: x", f"Origin: {origin}", *more)
            assert (await guarded.ask(question(dialect, "GET", "/ws", *lines))).status == status


@every_dialect
async def test_a_preflight_passes_as_nobody(guarded: Stack, dialect: str) -> None:
    """A preflight gets 200 with empty identity headers and is counted as a preflight."""
    origin, asks = "Origin: https://app.example", "Access-Control-Request-Method: PUT"
    forged = [f"{name}: root" for name in (*IDENTITY, "X-Auth-Email", "x_auth_user")]
    async with guarded.client() as client:
        for _ in range(2):
            answer = await client.ask(
                question(dialect, "OPTIONS", "/shared/x?y", origin, asks, *forged)
            )
            assert answer.status == 200
            assert set(identity(answer).values()) == {b""}
            assert answer.fields.one("x-auth-email") == b""
            assert answer.fields.one("x-auth-degraded") == b""
            assert b"\r\naccess-control-" not in answer.head.lower()
            for lines in (
                (asks,),
                (origin,),
                (origin, origin, asks),
                (origin, asks, "Cookie: a=b"),
            ):
                asked = question(dialect, "OPTIONS", "/shared/x", *lines)
                assert (await client.ask(asked)).status == 401
            other = (origin, "Access-Control-Request-Method: DELETE")
            asked = question(dialect, "OPTIONS", "/shared/x", *other)
            assert (await client.ask(asked)).status == 401
            asked = question(dialect, "PUT", "/shared/x", origin, asks)
            assert (await client.ask(asked)).status == 401
    passed = 'sidecar_decisions_total{decision="allow",reason="preflight"}'
    assert await guarded.metric(passed) == 2
    assert await guarded.metric('sidecar_requests_total{code="200",route="verify"}') == 2


@every_dialect
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 4\r\n\r\nbody", id="length"),
        pytest.param(b"Content-Length: 0\r\n\r\n", id="empty"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", id="chunked"),
        pytest.param(b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", id="expected"),
    ],
)
async def test_a_body_is_of_no_interest(guarded: Stack, dialect: str, body: bytes) -> None:
    """The answer does not wait for a body, and the body is never taken for a request."""
    token = (await guarded.login()).access
    for credentials, status in ((token, 200), (None, 401)):
        asked = question(dialect, "POST", "/x", token=credentials)[:-2] + body
        asked = asked.replace(b"Content-Length: 0\r\n", b"", dialect == "envoy")
        async with guarded.client() as client:
            answer = await client.ask(asked)
            assert answer.status == status
            if not answer.closes:
                assert (await client.ask(question(dialect, "GET", "/public/x"))).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("name", ["apache", "Traefik", "nginxx", "envoy%20", "x/public/y"])
async def test_an_unknown_dialect(guarded: Stack, name: str, method: str) -> None:
    """An unknown dialect gets a 404 that lists the known ones, and is never allowed."""
    token = (await guarded.login("admin")).access
    async with guarded.client() as client:
        for _ in range(2):
            answer = await client.ask(build(method, f"{VERIFY}/{name}", token=token))
            assert answer.status == 404
            assert not any(header in answer.fields for header in IDENTITY)
            if method == "HEAD":
                assert answer.body == b""
            else:
                assert all(dialect in answer.json()["detail"] for dialect in DIALECTS)


async def test_without_a_login_page(upstream: ScriptedUpstream) -> None:
    """Without a login page, navigation gets a plain 401."""
    settings: dict[str, Any] = {"trusted_proxies": ["127.0.0.1/32"], "users_file": ""}
    async with stack(upstream.url, **settings) as guarded:
        for dialect in DIALECTS:
            answer = await guarded.ask(question(dialect, "GET", "/x", "Accept: text/html"))
            assert (answer.status, "location" in answer.fields) == (401, False)


async def test_logout_ends_it(guarded: Stack) -> None:
    """A subrequest after the logout is denied."""
    token = (await guarded.login()).access
    async with guarded.client() as client:
        assert (await client.ask(build("GET", VERIFY, token=token))).status == 200
        await guarded.logout(token)
        assert (await client.ask(build("GET", VERIFY, token=token))).status == 401


async def test_subrequests_are_pipelined(guarded: Stack) -> None:
    """Pipelined subrequests are answered in order."""
    token = (await guarded.login()).access
    async with guarded.client() as client:
        await client.send((build("GET", VERIFY, token=token) + build("GET", VERIFY)) * 20)
        statuses = [(await client.response()).status for _ in range(40)]
    assert statuses == [200, 401] * 20
