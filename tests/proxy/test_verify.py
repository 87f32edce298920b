"""Verify as a pure decision: whose account of the original request counts, and the answer."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.decision import Allow, Deny
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.errors import PeerError
from sidecar.proxy import verify
from sidecar.wire.forwarded import Forwarding
from sidecar.wire.replies import problem
from sidecar.wire.target import TargetParser
from tests.wire.readers import content, raw_head, read_request, read_response, request_parser

if TYPE_CHECKING:
    from sidecar.proxy.verify import Dialect
    from sidecar.wire.head import RequestHead

TABLE: Final = RouteTable(
    (
        RouteRule(path="/open/*", access=Access.PUBLIC, name="open"),
        RouteRule(path="/write", methods=["POST"], name="write"),
        RouteRule(path="/hosted", hosts=["h.example"], name="hosted"),
        RouteRule(path="/shared", methods=["PUT"], name="put", preflight=True),
        RouteRule(path="/shared", name="shared"),
        RouteRule(path="/escaped/*", name="escaped", passes_escapes=True),
        RouteRule(path="/auth/verify/*", access=Access.PUBLIC, target="verify", name="verify"),
        RouteRule(path="/auth/*", access=Access.PUBLIC, target="api", name="ours"),
    )
)
ENDPOINT: Final = verify.VerifyEndpoint("/auth/verify")
NGINX, TRAEFIK, CADDY, ENVOY, HAPROXY = ENDPOINT.dialects
TRUSTED: Final = Forwarding("10.0.0.1", "http", trusted=True)
STRANGER: Final = Forwarding("192.0.2.1", "http", trusted=False)


@pytest.mark.parametrize(
    ("lines", "route", "asked"),
    [
        pytest.param([], "default", "", id="no-original-request"),
        pytest.param([b"X-Forwarded-For: 192.0.2.9"], "default", "", id="client-address-only"),
        pytest.param([b"X-Forwarded-Uri: /open/a"], "default", "", id="another-dialect"),
        pytest.param([b"X-Original-URI: /open/a?b"], "open", "/open/a", id="public"),
        pytest.param([b"X-Original-URI: /open/%61"], "open", "/open/a", id="escaped"),
        pytest.param([b"X-Original-URI: /other"], "default", "/other", id="no-route"),
        pytest.param([b"X-Original-URI: /write"], "default", "/write", id="get-by-default"),
        pytest.param(
            [b"X-Original-URI: /write", b"X-Original-Method: POST"], "write", "/write", id="method"
        ),
        pytest.param(
            [b"X-Original-URI: /hosted", b"X-Forwarded-Host: h.example"],
            *("hosted", "/hosted"),
            id="host",
        ),
        pytest.param([b"X-Original-URI: /hosted"], "default", "/hosted", id="other-host"),
        pytest.param([b"X-Original-URI: /auth/x"], "default", "/auth/x", id="own-path"),
    ],
)
def test_subject(lines: list[bytes], route: str, asked: str) -> None:
    """The route is that of the original request, not that of the subrequest."""
    head = read_request(*lines, b"Authorization: Bearer x", b"Cookie: a=1")
    subject = verify.read_subject(NGINX, head, TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    found, original = subject
    assert found.name == route
    if original is None:
        assert asked == ""
    else:
        assert original.path == asked
        assert (original.authorization, original.cookie) == (b"Bearer x", b"a=1")


def test_the_subrequest_itself_is_left_as_it_is() -> None:
    """Reading the subject leaves the subrequest's head, which is remembered, unchanged."""
    head = read_request(b"X-Original-URI: /write", b"X-Original-Method: POST")
    before = content(head)
    verify.read_subject(NGINX, head, TABLE, TRUSTED)
    assert content(head) == before


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        pytest.param([b"X-Original-URI: a"], Reason.TARGET_MALFORMED, id="no-slash"),
        pytest.param([b"X-Original-URI:"], Reason.TARGET_MALFORMED, id="empty"),
        pytest.param([b"X-Original-URI: http://h/a"], Reason.TARGET_MALFORMED, id="absolute"),
        pytest.param([b"X-Original-URI: /open/../a"], Reason.TARGET_MALFORMED, id="dot-segment"),
        pytest.param([b"X-Original-URI: /open/%2e%2e/a"], Reason.TARGET_MALFORMED, id="escaped"),
        pytest.param([b"X-Original-URI: /open/..;/a"], Reason.TARGET_MALFORMED, id="parameter"),
        pytest.param([b"X-Original-URI: /open/a#b"], Reason.TARGET_MALFORMED, id="fragment"),
        pytest.param([b"X-Original-URI: /open/%"], Reason.TARGET_MALFORMED, id="percent"),
        pytest.param([b"X-Original-URI: /open"] * 2, Reason.TARGET_MALFORMED, id="twice"),
        pytest.param([b"X-Original-Method: GET"], Reason.TARGET_MALFORMED, id="method-alone"),
        pytest.param(
            [b"X-Original-URI: /a", b"X-Original-Method: P ST"],
            Reason.TARGET_MALFORMED,
            id="method-malformed",
        ),
        pytest.param(
            [b"X-Original-URI: /a", b"X-Original-Method:"],
            Reason.TARGET_MALFORMED,
            id="method-empty",
        ),
        pytest.param(
            [b"X-Original-URI: /a", b"X-Forwarded-Host: a b"],
            Reason.TARGET_MALFORMED,
            id="host-malformed",
        ),
    ],
)
def test_malformed_subject(lines: list[bytes], reason: Reason) -> None:
    """A subject that cannot be read with certainty is denied (Authelia CVE-2021-32637)."""
    denied = verify.read_subject(NGINX, read_request(*lines), TABLE, TRUSTED)
    assert denied == Deny(reason, None)
    assert reason.status == 403


@pytest.mark.parametrize("line", [b"X-Original-URI: /open/a", b"X-Original-Method: GET"])
def test_a_stranger_is_not_believed(line: bytes) -> None:
    """Only a trusted proxy may describe the original request."""
    denied = verify.read_subject(NGINX, read_request(line), TABLE, STRANGER)
    assert denied == Deny(Reason.PROXY_UNTRUSTED, None)
    asked = verify.read_subject(NGINX, read_request(), TABLE, STRANGER)
    assert asked == (TABLE.default, None)


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (NGINX, {401, 403}),
        (TRAEFIK, {400, 401, 403, 503}),
        (CADDY, {400, 401, 403, 503}),
        (ENVOY, {400, 401, 403}),
        (HAPROXY, {400, 401, 403, 503}),
    ],
    ids=repr,
)
def test_every_denial_is_one_that_the_proxy_takes(dialect: Dialect, expected: set[int]) -> None:
    """Each dialect's denials use only statuses that its proxy understands.

    nginx turns anything but 2xx, 401 and 403 into a 500; Envoy may treat a 5xx as permission.
    """
    assert {dialect.statuses.get(reason.status, reason.status) for reason in Reason} == expected


def test_dialects_by_path() -> None:
    """The name after the prefix selects the dialect; without a name it is nginx's."""
    for dialect in ENDPOINT.dialects:
        for more in ("", "/", "/a/b", "?c"):
            assert dialect_of(dialect.prefix + more) is dialect
    for path in ("/auth/verify", "/auth/verify/", "/auth/verify?a=/envoy"):
        assert dialect_of(path) is NGINX
    for other in ("apache", "Envoy", "envoyx", "nginx%20x", "traefik2"):
        assert dialect_of(f"/auth/verify/{other}") is None
        assert dialect_of(f"/auth/verify/{other}/x") is None
    for escaped in ("/auth/%76erify", "/%61uth/verify/envoy/x"):
        assert dialect_of(escaped) is None


def test_another_path() -> None:
    """Another path has the same dialects below it, and none at the default path."""
    other = verify.VerifyEndpoint("/_sign-in/verify")
    assert [dialect.name for dialect in other.dialects] == [each.name for each in ENDPOINT.dialects]
    for dialect in other.dialects:
        assert dialect.prefix == f"/_sign-in/verify/{dialect.name}"
        assert dialect_of(f"{dialect.prefix}/a?b", other) is dialect
        assert dialect_of(f"/auth/verify/{dialect.name}", other) is None
    assert dialect_of("/_sign-in/verify", other) is other.dialects[0]
    for path, covered in (
        *(("/_sign-in/verify", True), ("/_sign-in/verify/x", True), ("/_sign-in/verifyx", False)),
        *(("/_sign-in", False), ("/auth/verify", False)),
    ):
        assert other.covers(path) is covered


def dialect_of(target: str, endpoint: verify.VerifyEndpoint = ENDPOINT) -> Dialect | None:
    """Return the dialect that a GET of this target selects."""
    return endpoint.find_dialect(read_request(first=f"GET {target} HTTP/1.1".encode()))


def test_the_answer_to_another_name_lists_all() -> None:
    """The answer to an unknown dialect lists the known ones."""
    text = problem(404, b"id").partition(b"\r\n\r\n")[2].decode()
    assert all(dialect.name in text for dialect in ENDPOINT.dialects)


SAYS: Final = (b"X-Forwarded-Uri: /open/a?b", b"X-Forwarded-Method: GET", b"X-Forwarded-Host: o")
forwarding_dialects = pytest.mark.parametrize("dialect", [TRAEFIK, CADDY, HAPROXY], ids=repr)


@forwarding_dialects
def test_subject_of_forwarded_headers(dialect: Dialect) -> None:
    """Method, URI and host are read from X-Forwarded-* and from no other header."""
    others = (b"X-Original-URI: /write", b"X-Original-Method: POST", b"X-Rewrite-URL: /write")
    head = read_request(*SAYS, *others, first=b"POST /auth/verify/x HTTP/1.1")
    before = content(head)
    subject = verify.read_subject(dialect, head, TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    route, original = subject
    assert original is not None
    assert (route.name, original.path, original.host) == ("open", "/open/a", b"o")
    assert (original.method, original.target) == (b"GET", b"/open/a?b")
    assert content(head) == before
    assert verify.read_subject(dialect, read_request(*others), TABLE, TRUSTED) == (
        TABLE.default,
        None,
    )


@forwarding_dialects
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((SAYS[0], SAYS[1]), id="no-host"),
        pytest.param((SAYS[0], SAYS[2]), id="no-method"),
        pytest.param((SAYS[1], SAYS[2]), id="no-uri"),
        pytest.param((*SAYS, SAYS[0]), id="uri-twice"),
        pytest.param((*SAYS, SAYS[1]), id="method-twice"),
        pytest.param((*SAYS, SAYS[2]), id="host-twice"),
        pytest.param((*SAYS[1:], b"X-Forwarded-Uri: /open/../a"), id="dot-segment"),
        pytest.param((*SAYS[1:], b"X-Forwarded-Uri: http://h/open/a"), id="absolute"),
        pytest.param((*SAYS[1:], b"X-Forwarded-Uri: /open/a#b"), id="fragment"),
        pytest.param((*SAYS[1:], b"X-Forwarded-Uri:"), id="empty"),
    ],
)
def test_malformed_forwarded_headers(dialect: Dialect, lines: tuple[bytes, ...]) -> None:
    """These proxies send all three headers exactly once; anything else is denied."""
    denied = verify.read_subject(dialect, read_request(*lines), TABLE, TRUSTED)
    assert denied == Deny(Reason.TARGET_MALFORMED, None)


@pytest.mark.parametrize(
    ("first", "route", "target"),
    [
        pytest.param("GET /auth/verify/envoy/open/a?b=/x", "open", "/open/a?b=/x", id="public"),
        pytest.param("POST /auth/verify/envoy/write", "write", "/write", id="method"),
        pytest.param("GET /auth/verify/envoy/write", "default", "/write", id="other-method"),
        pytest.param("GET /auth/verify/envoy/", "default", "/", id="root"),
        pytest.param("GET /auth/verify/envoy/op%65n/a", "open", "/op%65n/a", id="escaped"),
        pytest.param("GET /auth/verify/envoy/auth/x", "default", "/auth/x", id="own-path"),
        pytest.param("GET /auth/verify/envoy", "default", None, id="no-original-request"),
        pytest.param("GET /auth/verify/envoy?/open/a", "default", None, id="query-alone"),
    ],
)
def test_subject_below_a_path(first: str, route: str, target: str | None) -> None:
    """Envoy's subrequest is the original with a path prefix; no header is consulted."""
    lines = (b"X-Forwarded-Host: h.example", *SAYS[:2], b"X-Original-URI: /open/b")
    head = read_request(*lines, first=f"{first} HTTP/1.1".encode())
    before = content(head)
    subject = verify.read_subject(ENVOY, head, TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    found, original = subject
    assert found.name == route
    assert (None if original is None else original.target.decode()) == target
    assert original is None or original.host == b"h"
    assert content(head) == before


def test_an_escaped_prefix_is_refused() -> None:
    """A prefix in escaped form is denied, as the original path could not be found reliably."""
    head = read_request(first=b"GET /auth/verify/%65nvoy/open/a HTTP/1.1")
    denied = verify.read_subject(ENVOY, head, TABLE, TRUSTED)
    assert denied == Deny(Reason.TARGET_MALFORMED, None)


@pytest.mark.parametrize("dialect", ENDPOINT.dialects, ids=repr)
def test_no_dialect_believes_a_stranger(dialect: Dialect) -> None:
    """In every dialect, only a trusted proxy may describe the original request."""
    lines = (*SAYS, b"X-Original-URI: /open/a")
    head = read_request(*lines, first=f"GET {dialect.prefix}/open/a HTTP/1.1".encode())
    denied = verify.read_subject(dialect, head, TABLE, STRANGER)
    assert denied == Deny(Reason.PROXY_UNTRUSTED, None)


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        pytest.param((b"Cookie: a=b", b"sec-WebSocket-key: x"), b"websocket", id="cookie"),
        pytest.param((b"Cookie: a=b",), None, id="no-websocket"),
        pytest.param((b"Sec-WebSocket-Key: x",), None, id="no-cookie"),
        pytest.param(
            (b"Cookie: a=b", b"Sec-WebSocket-Key: x", b"Connection: upgrade", b"Upgrade: other"),
            b"other",
            id="explicit-upgrade",
        ),
    ],
)
def test_a_websocket_without_upgrade(lines: tuple[bytes, ...], upgrade: bytes | None) -> None:
    """A WebSocket with a cookie is treated as an upgrade although the proxy removed Upgrade."""
    subject = verify.read_subject(TRAEFIK, read_request(*SAYS, *lines), TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    assert subject[1] is not None
    assert subject[1].upgrade == upgrade


ASKS: Final = (b"Origin: https://app.example", b"Access-Control-Request-Method: PUT")


def about_options(dialect: Dialect, *lines: bytes, path: str = "/shared") -> RequestHead:
    """Build the subrequest of this dialect for an OPTIONS request with these lines."""
    if dialect is ENVOY:
        first = f"OPTIONS {dialect.prefix}{path} HTTP/1.1".encode()
        return read_request(*lines, first=first)
    said = (f"{dialect.uri.decode()}: {path}".encode(), dialect.method + b": OPTIONS")
    first = f"GET {dialect.prefix} HTTP/1.1".encode()
    return read_request(*said, b"X-Forwarded-Host: o", *lines, first=first)


@pytest.mark.parametrize("dialect", ENDPOINT.dialects, ids=repr)
def test_a_preflight_falls_under_the_rule_of_its_method(dialect: Dialect) -> None:
    """A preflight passes anonymously if the rule of the announced method allows preflights."""
    head = about_options(dialect, *ASKS)
    before = content(head)
    subject = verify.read_subject(dialect, head, TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    route, original = subject
    assert (route.name, route.public, route.unasked) == ("put", True, True)
    assert original is not None
    assert (original.method, original.path) == (b"OPTIONS", "/shared")
    assert content(head) == before
    denied = verify.read_subject(dialect, head, TABLE, STRANGER)
    assert denied == Deny(Reason.PROXY_UNTRUSTED, None)


def about(dialect: Dialect, target: str) -> RequestHead | None:
    """Build the subrequest of this dialect for a GET; None if it is refused as malformed itself."""
    first = f"GET {dialect.prefix}{target if not dialect.uri else ''} HTTP/1.1"
    said = (f"{dialect.uri.decode()}: {target}".encode(), dialect.method + b": GET")
    lines = () if not dialect.uri else (*said, b"X-Forwarded-Host: o")
    paths = TargetParser()
    paths.passes_escapes = functools.partial(ENDPOINT.passes_escapes, TABLE)
    try:
        return request_parser(paths=paths).parse(raw_head(first.encode(), b"Host: h", *lines))
    except PeerError:
        return None


@pytest.mark.parametrize("dialect", ENDPOINT.dialects, ids=repr)
@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param("/escaped/%2F/a;b?c=%2F", "/escaped/%2F/a;b", id="passes"),
        pytest.param("/escaped/a%2541", "/escaped/a%2541", id="twice"),
        pytest.param("/open/%2F/a", None, id="another-route"),
        pytest.param("/a%2Fb", None, id="no-route"),
        pytest.param("/escaped/..;/a", None, id="dots-with-parameters"),
        pytest.param("/escaped/%2F..%2Fa", None, id="dots"),
        pytest.param("/escaped/%00%2F", None, id="nul"),
        pytest.param("/auth/login%2F", None, id="own-path"),
        pytest.param("/auth/verify/envoy/escaped/%2F", None, id="a-subrequest-in-a-subrequest"),
    ],
)
def test_escapes_of_the_original_path(dialect: Dialect, target: str, path: str | None) -> None:
    """Ambiguous escapes pass only where the original request's route says so."""
    head = about(dialect, target)
    denied = Deny(Reason.TARGET_MALFORMED, None)
    subject = denied if head is None else verify.read_subject(dialect, head, TABLE, TRUSTED)
    if path is None:
        assert subject == denied
        return
    assert not isinstance(subject, Deny)
    route, original = subject
    assert original is not None
    assert (route.name, original.path, original.target) == ("escaped", path, target.encode())


@pytest.mark.parametrize("dialect", ENDPOINT.dialects, ids=repr)
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="plain-options"),
        pytest.param((ASKS[0],), id="no-method"),
        pytest.param((ASKS[1],), id="no-origin"),
        pytest.param((*ASKS, ASKS[0]), id="two-origins"),
        pytest.param((ASKS[0], b"Access-Control-Request-Method: GET"), id="another-method"),
        pytest.param((*ASKS, b"Content-Length: 3"), id="body"),
        pytest.param((*ASKS, b"Connection: upgrade", b"Upgrade: h2c"), id="upgrade"),
        pytest.param((*ASKS, b"Authorization: Basic eDp5"), id="authorization"),
        pytest.param((*ASKS, b"Cookie: theme=dark"), id="cookie"),
    ],
)
def test_no_preflight_falls_under_the_rule_of_options(
    dialect: Dialect, lines: tuple[bytes, ...]
) -> None:
    """What is no preflight falls under the rule for OPTIONS, as do preflights with credentials.

    Credentials would reach the application through the proxy.
    """
    subject = verify.read_subject(dialect, about_options(dialect, *lines), TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    assert (subject[0].name, subject[0].public) == ("shared", False)


@pytest.mark.parametrize("dialect", ENDPOINT.dialects, ids=repr)
def test_only_the_original_method_counts(dialect: Dialect) -> None:
    """Only the original method makes a preflight, not that of the subrequest."""
    head = about_options(dialect, *ASKS)
    if dialect is ENVOY:
        head.method = b"GET"
    elif head.forwarded is not None:
        head.method = b"OPTIONS"
        head.forwarded[dialect.method] = b"GET"
    subject = verify.read_subject(dialect, head, TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    assert subject[0].name == "shared"


@pytest.mark.parametrize("close", [False, True])
def test_allowed(close: bool) -> None:  # noqa: FBT001 (a table)
    """The answer is an empty 200 with every identity header, and `close` if requested."""
    allow = Allow(b"X-Auth-User: u\r\nX-Auth-Roles: \r\n", "u", "s", b"{}", None)
    raw = verify.allowed(allow, b"id-1", close=close)
    assert raw.endswith(b"\r\n\r\n")
    first, *lines = raw[:-4].split(b"\r\n")
    head = read_response(*lines, first=first)
    assert (head.status, head.length, head.keep_alive) == (200, 0, not close)
    assert lines[:3] == [b"Cache-Control: no-store", b"X-Auth-User: u", b"X-Auth-Roles: "]
    assert b"X-Request-Id: id-1" in lines
    assert b"X-Auth-Degraded: " in lines


def test_allowed_while_degraded() -> None:
    """The degraded header is present exactly once, with its value."""
    lines = b"X-Auth-User: u\r\nX-Auth-Degraded: local\r\n"
    allow = Allow(lines, "u", "s", b"{}", None, degraded=True)
    raw = verify.allowed(allow, b"id", close=False)
    assert raw.count(b"X-Auth-Degraded") == 1
    assert b"\r\nX-Auth-Degraded: local\r\n" in raw
