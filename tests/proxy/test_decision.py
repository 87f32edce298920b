"""Which requests are allowed, and how denials are answered (RFC 6750, RFC 9110 section 11)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.peers.raw_client import Response, build
from tests.peers.stack import Stack, stack
from tests.proxy.challenges import challenge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.scripted_upstream import ScriptedUpstream

ROUTES = (
    {"path": "/open", "access": "public"},
    {"path": "/public/*", "access": "public"},
    {"path": "/maybe/*", "access": "optional"},
    {"path": "/tokens/*", "credentials": "bearer"},
    {"path": "/admin/*", "roles": ["admin"]},
    {"path": "/staff/*", "roles": ["admin", "user"]},
    {"path": "/scoped/*", "scopes": ["read", "write"]},
    {"path": "/mail/*", "claims": {"email": "alice@example.org"}},
    {"path": "/read/*", "methods": ["GET", "HEAD"], "access": "public"},
    {"path": "/hosted/*", "hosts": ["public.example"], "access": "public"},
)


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar with one route of each kind; every other path is protected."""
    async with stack(upstream.url, routes=ROUTES) as running:
        yield running


def check_refusal(answer: Response, status: int, upstream: ScriptedUpstream) -> dict[str, str]:
    """Return the challenge; fail unless this is a complete denial that never went upstream."""
    assert answer.status == status
    assert upstream.requests == []
    assert answer.fields.one("content-type").startswith(b"application/problem+json")
    problem = json.loads(answer.body)
    assert problem["status"] == status
    assert answer.fields.one("x-request-id").decode() in answer.body.decode()
    return challenge(answer)


@pytest.mark.parametrize(
    ("path", "user", "status"),
    [
        pytest.param("/open", None, 200, id="public-exact"),
        pytest.param("/open/", None, 401, id="public-exact-with-slash"),
        pytest.param("/open/x", None, 401, id="public-exact-and-more"),
        pytest.param("/openx", None, 401, id="public-exact-and-letter"),
        pytest.param("/Open", None, 401, id="public-exact-other-case"),
        pytest.param("/public", None, 200, id="public-prefix-itself"),
        pytest.param("/public/", None, 200, id="public-prefix-slash"),
        pytest.param("/public/x/y?z=/admin", None, 200, id="public-prefix-below"),
        pytest.param("/publicity", None, 401, id="public-prefix-and-letter"),
        pytest.param("/maybe/x", None, 200, id="optional-anonymous"),
        pytest.param("/maybe/x", "alice", 200, id="optional-alice"),
        pytest.param("/", None, 401, id="default-anonymous"),
        pytest.param("/", "alice", 200, id="default-alice"),
        pytest.param("/x?y=/public/", None, 401, id="public-path-in-query"),
        pytest.param("/x?/public/../public/", None, 401, id="public-path-after-mark"),
        pytest.param("/admin/x", None, 401, id="role-anonymous"),
        pytest.param("/admin/x", "alice", 403, id="role-alice"),
        pytest.param("/admin", "alice", 403, id="role-alice-prefix-itself"),
        pytest.param("/admin/x", "admin", 200, id="role-admin"),
        pytest.param("/staff/x", "alice", 200, id="one-of-several-roles"),
        pytest.param("/staff/x", "scout", 403, id="none-of-several-roles"),
        pytest.param("/scoped/x", "scout", 200, id="both-scopes"),
        pytest.param("/scoped/x", "admin", 403, id="no-scope"),
        pytest.param("/mail/x", "alice", 200, id="claim-alice"),
        pytest.param("/mail/x", "admin", 403, id="claim-admin"),
    ],
)
async def test_routes(
    upstream: ScriptedUpstream, guarded: Stack, path: str, user: str | None, status: int
) -> None:
    """Each kind of route allows exactly the users that meet its requirements."""
    token = (await guarded.login(user)).access if user else None
    answer = await guarded.get(path, token=token)
    assert answer.status == status
    if status == 200:
        seen = await upstream.arrived()
        assert seen.target == path.encode()
        assert seen.fields.one("x-auth-user").decode() == (user or "")
        return
    told = check_refusal(answer, status, upstream)
    assert told.get("error") == ("insufficient_scope" if status == 403 else None)
    assert set(told) <= ({"realm", "error", "scope"} if status == 403 else {"realm"})


@pytest.mark.parametrize(
    ("method", "host", "path", "status"),
    [
        pytest.param("GET", "x", "/read/a", 200, id="method-get"),
        pytest.param("HEAD", "x", "/read/a", 200, id="method-head"),
        pytest.param("POST", "x", "/read/a", 401, id="method-post"),
        pytest.param("OPTIONS", "x", "/read/a", 401, id="method-options"),
        pytest.param("GET", "public.example", "/hosted/a", 200, id="host"),
        pytest.param("GET", "PUBLIC.Example:8443", "/hosted/a", 200, id="host-case-and-port"),
        pytest.param("GET", "public.example.evil.test", "/hosted/a", 401, id="host-suffix"),
        pytest.param("GET", "evil.public.example", "/hosted/a", 401, id="host-prefix"),
        pytest.param("GET", "other.example", "/hosted/a", 401, id="host-other"),
    ],
)
async def test_methods_and_hosts(
    guarded: Stack, method: str, host: str, path: str, status: int
) -> None:
    """A rule with methods or hosts applies to these methods and hosts only."""
    assert (await guarded.ask(build(method, path, host=host))).status == status


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("X-Forwarded-Uri: /public/x",), id="x-forwarded-uri"),
        pytest.param(("X-Original-URI: /public/x",), id="x-original-uri"),
        pytest.param(("X-Original-URL: /public/x",), id="x-original-url"),
        pytest.param(("X-Rewrite-URL: /public/x",), id="x-rewrite-url"),
        pytest.param(("X-Envoy-Original-Path: /public/x",), id="envoy"),
        pytest.param(("X-HTTP-Method-Override: GET",), id="method-override"),
        pytest.param(("User-Agent: kube-probe/1.30",), id="kube-probe"),
        pytest.param(("User-Agent: GoogleHC/1.0",), id="google-health-check"),
        pytest.param(("User-Agent: ELB-HealthChecker/2.0",), id="elb"),
        pytest.param(("X-Auth-User: alice", "X-Auth-Roles: admin"), id="identity"),
        pytest.param(("Origin: http://x", "Access-Control-Request-Method: GET"), id="preflight"),
        pytest.param(("Authorization: Basic YWxpY2U6cHctYWxpY2U=",), id="basic"),
        pytest.param(("Authorization: ",), id="empty"),
        pytest.param(("Cookie: other=1",), id="other-cookie"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_nothing_else_opens_a_protected_path(
    upstream: ScriptedUpstream, guarded: Stack, method: str, lines: tuple[str, ...]
) -> None:
    """Without a token or session, no header a client can send opens a protected path."""
    answer = await guarded.ask(build(method, "/x?access_token=x", *lines))
    assert set(check_refusal(answer, 401, upstream)) <= {"realm"}


async def test_token_in_the_query_is_not_looked_at(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """A valid token in the query or in a form is not a credential."""
    token = (await guarded.login()).access
    check_refusal(await guarded.get(f"/x?access_token={token}"), 401, upstream)
    form = "Content-Type: application/x-www-form-urlencoded"
    request = build("POST", "/x", form, body=f"access_token={token}".encode())
    check_refusal(await guarded.ask(request), 401, upstream)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_scheme_is_case_insensitive(guarded: Stack, scheme: str) -> None:
    """The scheme's name may be written in any case (9110 section 11.1)."""
    token = (await guarded.login()).access
    assert (await guarded.get("/", f"Authorization: {scheme} {token}")).status == 200


async def test_token_in_two_places_is_refused(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """A request with two credentials is denied even if they are equal (6750 section 2)."""
    token, cookie = (await guarded.login()).access, await guarded.cookie()
    bearer = f"Authorization: Bearer {token}"
    pairs = [[bearer, f"Cookie: {cookie}"], [bearer, bearer], [bearer, "Authorization: Bearer x"]]
    pairs += [[f"Authorization: Basic x, Bearer {token}"], [f"{bearer}, Bearer {token}"]]
    for lines in pairs:
        answer = await guarded.get("/", *lines)
        assert answer.status in {400, 401}
        told = check_refusal(answer, answer.status, upstream)
        assert told.get("error") in {None, "invalid_request", "invalid_token"}
    answer = await guarded.get("/", *pairs[0])
    assert (answer.status, challenge(answer)["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer a b", "Bearer \xe9", "Bearer a,b"])
async def test_malformed_credentials(
    upstream: ScriptedUpstream, guarded: Stack, value: str
) -> None:
    """An `Authorization: Bearer` header that is not exactly one token is denied."""
    answer = await guarded.get("/", f"Authorization: {value}")
    assert answer.status in {400, 401}
    told = check_refusal(answer, answer.status, upstream)
    assert told.get("error") == ("invalid_request" if answer.status == 400 else "invalid_token")


async def test_bad_token_is_refused_on_optional_routes(
    upstream: ScriptedUpstream, guarded: Stack
) -> None:
    """On an optional route a bad token is denied, although no token would be allowed."""
    answer = await guarded.get("/maybe/x", token="abc.def.ghi")
    assert check_refusal(answer, 401, upstream)["error"] == "invalid_token"


async def test_a_route_of_bearer_tokens_sends_nobody_to_the_login_page(guarded: Stack) -> None:
    """Signing in would not help a browser there; elsewhere it is sent to the login page."""
    for path, status in (("/x", 302), ("/tokens/x", 401)):
        for lines in ((), (f"Cookie: {await guarded.cookie()}",)):
            answer = await guarded.get(path, "Sec-Fetch-Mode: navigate", *lines)
            assert answer.status == (200 if lines and status == 302 else status)
            assert bool(answer.fields.all("location")) is (answer.status == 302)


async def test_public_routes_ignore_credentials(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """A public path is open to everyone, including clients with a stale token or session."""
    lines = ("Authorization: Bearer abc", "Cookie: __Host-session=abc")
    assert (await guarded.get("/open", *lines)).status == 200
    assert (await upstream.arrived()).fields.one("x-auth-user") == b""


async def test_logout_ends_it(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """After a logout its token is denied on the same connection; other sessions stay valid."""
    gone, stays = await guarded.login(), await guarded.login()
    async with guarded.client() as client:
        assert (await client.ask(build("GET", "/", token=gone.access))).status == 200
        await guarded.logout(gone.access)
        upstream.requests.clear()
        answer = await client.ask(build("GET", "/", token=gone.access))
        assert check_refusal(answer, 401, upstream)["error"] == "invalid_token"
        assert (await client.ask(build("GET", "/", token=stays.access))).status == 200


@pytest.mark.parametrize(
    ("method", "lines", "status"),
    [
        pytest.param("GET", (), 200, id="get"),
        pytest.param("GET", ("Origin: https://evil.example",), 200, id="get-cross-origin"),
        pytest.param("POST", (), 403, id="post-without-origin"),
        pytest.param("POST", ("Origin: http://sidecar.test",), 200, id="post-same-origin"),
        pytest.param("POST", ("Sec-Fetch-Site: same-origin",), 200, id="post-same-origin-fetch"),
        pytest.param("POST", ("Origin: https://evil.example",), 403, id="post-cross-origin"),
        pytest.param("POST", ("Origin: null",), 403, id="post-null-origin"),
        pytest.param("POST", ("Origin: http://sidecar.test.evil",), 403, id="post-suffix"),
        pytest.param("POST", ("Sec-Fetch-Site: cross-site",), 403, id="post-cross-site"),
        pytest.param("POST", ("Sec-Fetch-Site: same-site",), 403, id="post-same-site"),
        pytest.param("DELETE", (), 403, id="delete"),
        pytest.param(
            "GET",
            ("Connection: Upgrade", "Upgrade: websocket", "Origin: https://evil.example"),
            403,
            id="websocket-cross-origin",
        ),
    ],
)
async def test_session_cookie(
    upstream: ScriptedUpstream, guarded: Stack, method: str, lines: tuple[str, ...], status: int
) -> None:
    """A session cookie is accepted; unsafe methods and upgrades must be same-origin as well."""
    cookie = await guarded.cookie()
    body = b"x" if method == "POST" else None
    answer = await guarded.ask(build(method, "/", f"Cookie: a=1; {cookie}", *lines, body=body))
    assert answer.status == status
    assert len(upstream.requests) == (status == 200)
    if status == 200:
        assert upstream.requests[0].fields.one("x-auth-user") == b"alice"


@pytest.mark.parametrize("first", ["cross-site", "same-site", "same-origin"])
async def test_session_cookie_with_a_repeated_fetch_site(
    upstream: ScriptedUpstream, guarded: Stack, first: str
) -> None:
    """Repeated Sec-Fetch-Site, which no browser sends, is denied because readers may disagree."""
    lines = (f"Sec-Fetch-Site: {first}", "Sec-Fetch-Site: same-origin")
    cookie = await guarded.cookie()
    answer = await guarded.ask(build("POST", "/", f"Cookie: {cookie}", *lines, body=b"x"))
    assert answer.status == 403
    assert upstream.requests == []


POISON = build("GET", "/public/poison")


@pytest.mark.parametrize("size", [1, 40, 30_000], ids=["small", "medium", "large"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_refusal_of_a_request_with_a_body(
    upstream: ScriptedUpstream, guarded: Stack, framing: str, size: int
) -> None:
    """The body of a denied request is discarded or the connection ends; it is never a request."""
    body = POISON * size
    line = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
    wire = body if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with guarded.client() as client:
        try:
            await client.send(build("POST", "/x", line) + wire + build("GET", "/public/after"))
            first = await client.response("POST")
            assert first.status == 401
            if first.closes:
                assert await client.rest() == b""
            else:
                assert (await client.response()).body == b"ok"
        except ConnectionError:
            pytest.fail("the answer was lost to a reset")
    assert {seen.target for seen in upstream.requests} <= {b"/public/after"}


async def test_refusals_keep_the_connection(upstream: ScriptedUpstream, guarded: Stack) -> None:
    """A denied GET or HEAD leaves the client's connection open for further requests."""
    token = (await guarded.login()).access
    async with guarded.client() as client:
        for _ in range(3):
            assert (await client.ask(build("GET", "/x"))).status == 401
            assert (await client.ask(build("HEAD", "/x"))).body == b""
            assert (await client.ask(build("GET", "/x", token=token))).status == 200
