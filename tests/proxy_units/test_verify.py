"""The decision as a subrequest: whose word is taken for the original request, and the answer."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.auth.gate import Allow, Deny
from sidecar.auth.policy import Access, RouteRule, RouteTable
from sidecar.auth.reason import Reason
from sidecar.proxy import verify
from sidecar.wire.forwarded import Forwarding
from tests.wire.readers import content, read_request, read_response

TABLE: Final = RouteTable(
    (
        RouteRule(path="/open/*", access=Access.PUBLIC, name="open"),
        RouteRule(path="/write", methods=["POST"], name="write"),
        RouteRule(path="/hosted", hosts=["h.example"], name="hosted"),
        RouteRule(path="/auth/*", access=Access.PUBLIC, target="api", name="ours"),
    )
)
TRUSTED: Final = Forwarding("10.0.0.1", "http", trusted=True)
STRANGER: Final = Forwarding("192.0.2.1", "http", trusted=False)


@pytest.mark.parametrize(
    ("lines", "route", "asked"),
    [
        pytest.param([], "default", "/", id="nothing-said"),
        pytest.param([b"X-Forwarded-For: 192.0.2.9"], "default", "/", id="only-the-client"),
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
        pytest.param([b"X-Original-URI: /auth/x"], "default", "/auth/x", id="no-path-of-ours"),
    ],
)
def test_subject(lines: list[bytes], route: str, asked: str) -> None:
    """The route is that of the request that was made, not that of the subrequest."""
    head = read_request(*lines, b"Authorization: Bearer x", b"Cookie: a=1")
    subject = verify.read_subject(head, TABLE, TRUSTED)
    assert not isinstance(subject, Deny)
    assert (subject[0].name, subject[1].path) == (route, asked)
    assert (subject[1].authorization, subject[1].cookie) == (b"Bearer x", b"a=1")


def test_the_subrequest_itself_is_left_as_it_is() -> None:
    """Its head is remembered for the next one on this connection."""
    head = read_request(b"X-Original-URI: /write", b"X-Original-Method: POST")
    before = content(head)
    verify.read_subject(head, TABLE, TRUSTED)
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
    """What cannot be read for certain is denied, never allowed (Authelia CVE-2021-32637)."""
    denied = verify.read_subject(read_request(*lines), TABLE, TRUSTED)
    assert denied == Deny(reason, None)
    assert verify.STATUS.get(reason.status, reason.status) in {401, 403}


@pytest.mark.parametrize("line", [b"X-Original-URI: /open/a", b"X-Original-Method: GET"])
def test_a_stranger_is_not_believed(line: bytes) -> None:
    """Who is no trusted proxy may not say which request it was."""
    denied = verify.read_subject(read_request(line), TABLE, STRANGER)
    assert denied == Deny(Reason.PROXY_UNTRUSTED, None)
    asked = verify.read_subject(read_request(), TABLE, STRANGER)
    assert not isinstance(asked, Deny)
    assert asked[0] is TABLE.default


def test_every_denial_is_one_that_nginx_takes() -> None:
    """auth_request makes 500 of anything but 2xx, 401 and 403."""
    statuses = {verify.STATUS.get(reason.status, reason.status) for reason in Reason}
    assert statuses == {401, 403}


@pytest.mark.parametrize("close", [False, True])
def test_allowed(close: bool) -> None:  # noqa: FBT001 (a table)
    """200, empty, with every identity header, and the wish to close if there is one."""
    allow = Allow(b"X-Auth-User: u\r\nX-Auth-Roles: \r\n", "u", "s", b"{}", None)
    raw = verify.allowed(allow.identity, b"id-1", close=close)
    assert raw.endswith(b"\r\n\r\n")
    first, *lines = raw[:-4].split(b"\r\n")
    head = read_response(*lines, first=first)
    assert (head.status, head.length, head.keep_alive) == (200, 0, not close)
    assert lines[:3] == [b"Cache-Control: no-store", b"X-Auth-User: u", b"X-Auth-Roles: "]
    assert b"X-Request-Id: id-1" in lines


@pytest.mark.parametrize(
    ("forwarding", "login", "lines", "status", "expected"),
    [
        pytest.param(
            *(TRUSTED, b"/login", [b"X-Original-URI: /a?b=c&d"], 401),
            b"Location: /login?rd=%2Fa%3Fb%3Dc%26d\r\n",
            id="known",
        ),
        pytest.param(
            *(TRUSTED, b"https://sso/x?y=z", [b"X-Original-URI: /a"], 401),
            b"Location: https://sso/x?y=z&rd=%2Fa\r\n",
            id="login-with-a-query",
        ),
        pytest.param(TRUSTED, b"/login", [b"X-Original-URI: /a"], 403, b"", id="403"),
        pytest.param(TRUSTED, b"", [b"X-Original-URI: /a"], 401, b"", id="no-login"),
        pytest.param(TRUSTED, b"/login", [], 401, b"", id="nothing-said"),
        pytest.param(TRUSTED, b"/login", [b"X-Forwarded-For: x"], 401, b"", id="no-uri"),
        pytest.param(STRANGER, b"/login", [b"X-Original-URI: /a"], 401, b"", id="stranger"),
    ],
)
def test_location(
    forwarding: Forwarding, login: bytes, lines: list[bytes], status: int, expected: bytes
) -> None:
    """A 401 about a known request says where to sign in."""
    assert verify.location(read_request(*lines), login, forwarding, status) == expected


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_a_target_survives_the_login_page(target: bytes) -> None:
    """Whatever octets it has, the line is one line and the target comes back out of it."""
    line = verify.login_location(b"https://sso/login?a=b", target)
    assert line.count(b"\r\n") == 1
    url = line.removeprefix(b"Location: ").removesuffix(b"\r\n").decode("ascii")
    query = parse_qs(urlsplit(url).query, keep_blank_values=True, encoding="latin-1")
    assert query == {"a": ["b"], "rd": [target.decode("latin-1")]}


@pytest.mark.parametrize(
    ("method", "lines", "navigates"),
    [
        pytest.param("GET", [b"Sec-Fetch-Mode: navigate"], True, id="browser"),
        pytest.param("HEAD", [b"sec-fetch-mode:navigate "], True, id="head"),
        pytest.param("GET", [b"Accept: text/html", b"Sec-Fetch-Mode: cors"], False, id="fetch"),
        pytest.param("GET", [b"Accept: application/xhtml+xml, TEXT/HTML;q=1"], True, id="accept"),
        pytest.param("GET", [b"Accept: application/json"], False, id="json"),
        pytest.param("GET", [b"Accept: */*"], False, id="curl"),
        pytest.param("GET", [], False, id="nothing"),
        pytest.param("POST", [b"Sec-Fetch-Mode: navigate"], False, id="post"),
    ],
)
def test_is_navigation(method: str, lines: list[bytes], navigates: bool) -> None:  # noqa: FBT001 (a table)
    """Only a person who waits for a page is sent to one."""
    head = read_request(*lines, first=f"{method} / HTTP/1.1".encode())
    assert verify.is_navigation(head) is navigates
