"""CORS preflights: what counts as one, which rule applies, and which headers are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.preflight import announced_method, find_route, without_credentials
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.routes import RouteTable
from tests.wire.readers import content, passed_on, read_request

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

ORIGIN: Final = b"Origin: https://app.example"
ASKS: Final = b"Access-Control-Request-Method: DELETE"
FIRST: Final = b"OPTIONS /x HTTP/1.1"


def read(*lines: bytes, first: bytes = FIRST) -> RequestHead:
    """Read a request with these header lines; the method is OPTIONS by default."""
    return read_request(*lines, first=first)


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        pytest.param((ORIGIN, ASKS), b"DELETE", id="as-browsers-send-it"),
        pytest.param((ASKS, ORIGIN), b"DELETE", id="other-order"),
        pytest.param((b"ORIGIN: null", ASKS), b"DELETE", id="null"),
        pytest.param((b"Origin: http://localhost:3000", ASKS), b"DELETE", id="port"),
        pytest.param((b"Origin: http://[::1]:3000", ASKS), b"DELETE", id="ipv6"),
        pytest.param((b"Origin: chrome-extension://abc", ASKS), b"DELETE", id="extension"),
        pytest.param(
            (ORIGIN, b"access-control-request-method: \tPATCH "), b"PATCH", id="lower-case-name"
        ),
        pytest.param((ORIGIN, b"Access-Control-Request-Method: PATCH"), b"PATCH", id="patch"),
        pytest.param(
            (ORIGIN, b"Access-Control-Request-Method: OPTIONS"), b"OPTIONS", id="of-options"
        ),
        pytest.param((ORIGIN, ASKS, b"Content-Length: 0"), b"DELETE", id="no-content"),
        pytest.param((ORIGIN, ASKS, b"Upgrade: websocket"), b"DELETE", id="upgrade-not-asked-for"),
        pytest.param(
            (
                *(ORIGIN, ASKS, b"Access-Control-Request-Headers: authorization,x-a"),
                *(b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Site: cross-site", b"Accept: */*"),
            ),
            b"DELETE",
            id="with-all-else",
        ),
    ],
)
def test_a_preflight(lines: tuple[bytes, ...], method: bytes) -> None:
    """One origin and one announced method make a preflight of that method."""
    assert announced_method(read(*lines)) == method


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="plain-options"),
        pytest.param((ASKS,), id="no-origin"),
        pytest.param((ORIGIN,), id="no-method"),
        pytest.param((b"Origin:", ASKS), id="empty-origin"),
        pytest.param((ORIGIN, b"Access-Control-Request-Method:"), id="empty-method"),
        pytest.param((ORIGIN, ORIGIN, ASKS), id="origin-twice"),
        pytest.param((ORIGIN, b"origin: null", ASKS), id="two-origins"),
        pytest.param((ORIGIN, ASKS, ASKS), id="method-twice"),
        pytest.param((ORIGIN, ASKS, b"Access-Control-Request-Method: GET"), id="two-methods"),
        pytest.param((ORIGIN, ASKS, b"Access_Control_Request_Method: GET"), id="a-second-spelling"),
        pytest.param((ORIGIN, b"Access_Control-Request-Method: GET"), id="another-spelling"),
        pytest.param((b"Origin: https://a https://b", ASKS), id="list-of-origins"),
        pytest.param((b"Origin: https://a, https://b", ASKS), id="joined-origins"),
        pytest.param((b"Origin: NULL", ASKS), id="no-such-null"),
        pytest.param((b"Origin: app.example", ASKS), id="host-alone"),
        pytest.param((b"Origin: https://app.example/", ASKS), id="a-path"),
        pytest.param((b"Origin: https://u@app.example", ASKS), id="user-information"),
        pytest.param((b"Origin: https://", ASKS), id="no-host"),
        pytest.param((b"Origin: https://\xe9.example", ASKS), id="not-ascii"),
        pytest.param((ORIGIN, b"Access-Control-Request-Method: GET, PUT"), id="list-of-methods"),
        pytest.param((ORIGIN, b"Access-Control-Request-Method: G T"), id="no-token"),
        pytest.param((ORIGIN, b"Access-Control-Request-Method: delete"), id="lower-case"),
        pytest.param((ORIGIN, b"Access-Control-Request-Method: TRACE"), id="trace"),
        pytest.param((ORIGIN, b"Access-Control-Request-Method: CONNECT"), id="connect"),
        pytest.param((ORIGIN, ASKS, b"Content-Length: 1"), id="length"),
        pytest.param((ORIGIN, ASKS, b"Transfer-Encoding: chunked"), id="chunks"),
        pytest.param((ORIGIN, ASKS, b"Connection: upgrade", b"Upgrade: h2c"), id="upgrade"),
        pytest.param((ORIGIN, ASKS, b"Connection: Origin"), id="origin-ends-here"),
        pytest.param(
            (ORIGIN, ASKS, b"Connection: Access-Control-Request-Method"), id="method-ends-here"
        ),
        pytest.param((ORIGIN, ASKS, b"X-HTTP-Method-Override: DELETE"), id="override"),
        pytest.param((ORIGIN, ASKS, b"x_http_method: DELETE"), id="override-spelt-otherwise"),
        pytest.param((ORIGIN, ASKS, b"X-Method-Override: GET"), id="another-override"),
    ],
)
def test_no_preflight(lines: tuple[bytes, ...]) -> None:
    """A request that differs from what browsers send, or repeats a header, is not a preflight."""
    assert announced_method(read(*lines)) is None


@pytest.mark.parametrize(
    "first",
    [b"GET /x HTTP/1.1", b"POST /x HTTP/1.1", b"HEAD /x HTTP/1.1", b"QUERY /x HTTP/1.1"],
)
def test_no_preflight_by_its_first_line(first: bytes) -> None:
    """Only an OPTIONS request is a preflight."""
    assert announced_method(read(ORIGIN, ASKS, first=first)) is None


@pytest.mark.parametrize("first", [b"OPTIONS /x HTTP/1.0", b"OPTIONS http://h/x HTTP/1.1"])
def test_a_preflight_by_its_first_line(first: bytes) -> None:
    """A preflight in absolute form, as a proxy may send it, is recognised."""
    assert announced_method(read(ORIGIN, ASKS, first=first)) == b"DELETE"


TABLE: Final = RouteTable(
    (
        RouteRule(path="/x/own", access=Access.PUBLIC, target="api", name="ours"),
        RouteRule(path="/x/*", methods=["PUT"], name="put"),
        RouteRule(path="/x/*", methods=["GET"], name="get", preflight=True),
        RouteRule(path="/x/*", methods=["DELETE"], roles=["a"], name="delete", preflight=True),
        RouteRule(path="/x/*", methods=["OPTIONS"], access=Access.PUBLIC, name="options"),
        RouteRule(path="/h", hosts=["h"], name="host", preflight=True),
    )
)


@pytest.mark.parametrize(
    ("path", "method", "name"),
    [
        pytest.param(b"/x/a", b"DELETE", "delete", id="its-own-rule"),
        pytest.param(b"/x/a", b"GET", "get", id="another-method"),
        pytest.param(b"/x/a", b"HEAD", "get", id="get-covers-head"),
        pytest.param(b"/x/a", b"PUT", None, id="a-rule-that-checks"),
        pytest.param(b"/x/a", b"POST", None, id="no-rule-for-the-method"),
        pytest.param(b"/x/a", b"delete", None, id="case-counts"),
        pytest.param(b"/x/a", b"OPTIONS", None, id="public-is-not-pass"),
        pytest.param(b"/x/own", b"DELETE", None, id="ours"),
        pytest.param(b"/y", b"DELETE", None, id="no-rule"),
        pytest.param(b"/h", b"DELETE", "host", id="host"),
    ],
)
def test_the_rule_is_that_of_the_announced_method(
    path: bytes, method: bytes, name: str | None
) -> None:
    """The rule for DELETE alone decides whether the preflight of a DELETE passes."""
    asks = b"Access-Control-Request-Method: %b" % method
    route = find_route(TABLE, read(ORIGIN, asks, first=b"OPTIONS %b HTTP/1.1" % path))
    assert (None if route is None else route.name) == name
    assert route is None or (route.public, route.unasked) == (True, True)
    assert route is None or not route.upgrades
    other = read(ORIGIN, asks, b"Content-Length: 2", first=b"OPTIONS %b HTTP/1.1" % path)
    assert find_route(TABLE, other) is None


@pytest.mark.parametrize("first", [b"OPTIONS * HTTP/1.1", b"OPTIONS http://h HTTP/1.1"])
def test_of_the_server(first: bytes) -> None:
    """No rule, not even "/*", applies to a preflight for the whole server."""
    everything = RouteTable((RouteRule(path="/*", preflight=True),))
    assert find_route(everything, read(ORIGIN, ASKS)) is not None
    assert find_route(everything, read(ORIGIN, ASKS, first=first)) is None


def test_of_another_host() -> None:
    """A rule for one host passes no preflight for another host."""
    lines = (b"Host: other", ORIGIN, ASKS)
    head = read_request(*lines, first=b"OPTIONS /h HTTP/1.1", host=False)
    assert find_route(TABLE, head) is None


def test_credentials_are_taken_away() -> None:
    """Every credential is removed, all other lines stay, and the head is not modified."""
    kept = (b"Host: h", ORIGIN, ASKS, b"X-A: Cookie: a=b", b"Cookies: 1")
    gone = (
        *(b"Authorization: Bearer t", b"authorization: Basic eDp5", b"Cookie: __Host-session=s"),
        *(b"cookie: a=b", b"COOKIE: c=d"),
    )
    head = read_request(*kept[1:3], *gone, *kept[3:], first=FIRST)
    before = content(head)
    bare = without_credentials(head)
    assert passed_on(bare) == [*kept]
    assert (bare.authorization, bare.cookie, bare.remembered) == (None, None, None)
    assert content(head) == before
    assert (bare.method, bare.target, bare.host) == (b"OPTIONS", b"/x", b"h")
