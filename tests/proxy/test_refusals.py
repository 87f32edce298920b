"""How a denial is answered: status, challenge, and the way to the login page and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.auth.decision import Deny
from sidecar.auth.reason import Reason
from sidecar.auth.routes import RouteTable
from sidecar.proxy import refusals, verify
from sidecar.wire.forwarded import Forwarding
from sidecar.wire.replies import ReplyTemplate
from tests.wire.readers import read_request

if TYPE_CHECKING:
    from sidecar.proxy.verify import Dialect
    from sidecar.wire.head import RequestHead

TABLE: Final = RouteTable(())
TRUSTED: Final = Forwarding("10.0.0.1", "http", trusted=True)
SAYS: Final = (b"X-Forwarded-Uri: /open/a?b", b"X-Forwarded-Method: GET", b"X-Forwarded-Host: o")
PAGE: Final = b"Sec-Fetch-Mode: navigate"
LOGIN: Final = b"/login"
LIMIT: Final = 4096


def asking(target: bytes, *lines: bytes) -> RequestHead:
    """A request for this target."""
    head = read_request(*lines)
    head.target = target
    return head


def answer(
    deny: Deny, asked: RequestHead | None, dialect: Dialect | None, login_url: bytes = LOGIN
) -> tuple[int, bytes]:
    """Status and header lines of the answer behind a trusted proxy, without any rules."""
    return refusals.answer_to(
        deny, asked, dialect, TRUSTED, login_url=login_url, routes=TABLE, limit=LIMIT
    )


@pytest.mark.parametrize(
    ("reason", "dialect", "line", "expected"),
    [
        pytest.param(Reason.EXPIRED, None, b"Accept: */*", (401, b"W"), id="client"),
        pytest.param(Reason.EXPIRED, None, PAGE, (302, b"WL"), id="person"),
        pytest.param(Reason.EXPIRED, verify.NGINX, PAGE, (401, b"WL"), id="nginx-redirects-itself"),
        pytest.param(Reason.EXPIRED, verify.CADDY, PAGE, (302, b"WL"), id="caddy"),
        pytest.param(Reason.ROLE, None, PAGE, (403, b"W"), id="role"),
        pytest.param(Reason.OVERLOADED, None, PAGE, (503, b"R"), id="overloaded"),
        pytest.param(Reason.OVERLOADED, verify.NGINX, PAGE, (403, b"R"), id="nginx-knows-no-503"),
        pytest.param(Reason.OVERLOADED, verify.ENVOY, PAGE, (403, b"R"), id="envoy-takes-no-503"),
        pytest.param(Reason.OVERLOADED, verify.TRAEFIK, PAGE, (503, b"R"), id="traefik"),
    ],
)
def test_answer(
    reason: Reason, dialect: Dialect | None, line: bytes, expected: tuple[int, bytes]
) -> None:
    """The status that the asker understands, with the challenge, a redirect or a time to retry."""
    deny = Deny(reason, None if reason is Reason.OVERLOADED else b"Bearer")
    asked = read_request(line)
    status, lines = answer(deny, asked, dialect)
    names = [each.partition(b":")[0] for each in lines.splitlines()]
    assert all(names)
    assert (status, b"".join(name[:1] for name in names)) == expected


def test_no_redirect_without_a_page_to_come_back_to() -> None:
    """Without an original request, or without a login page, the answer is a plain 401."""
    deny = Deny(Reason.EXPIRED, b"Bearer")
    asked = read_request(PAGE)
    assert answer(deny, None, verify.CADDY)[0] == 401
    assert answer(deny, asked, None, login_url=b"")[0] == 401


@pytest.mark.parametrize(
    ("login", "origin", "expected"),
    [
        pytest.param(b"/login", b"", b"/login?rd=/a?b%3Dc%26d", id="path"),
        pytest.param(b"https://sso/x?y=z", b"", b"https://sso/x?y=z&rd=/a?b%3Dc%26d", id="url"),
        pytest.param(b"/login", b"http://h", b"http://h/login?rd=/a?b%3Dc%26d", id="completed"),
        pytest.param(b"https://sso/", b"http://h", b"https://sso/?rd=/a?b%3Dc%26d", id="whole"),
    ],
)
def test_location(login: bytes, origin: bytes, expected: bytes) -> None:
    """Location leads to the login page with the way back, absolute where the proxy needs it."""
    line = refusals.login_location(login, asking(b"/a?b=c&d"), LIMIT, origin)
    assert line == b"Location: %b\r\n" % expected


@pytest.mark.parametrize(
    ("dialect", "lines", "expected"),
    [
        pytest.param(None, (), b"/login?rd=/open/a?b", id="none"),
        pytest.param(
            None,
            (b"X-Forwarded-Prefix: /shop", b"X-Forwarded-Port: 8443"),
            b"/shop/login?rd=/shop/open/a?b",
            id="none-below-a-prefix",
        ),
        *(
            pytest.param(
                each,
                (b"X-Forwarded-Prefix: /shop",),
                b"/shop/login?rd=/shop/open/a?b",
                id=each.name,
            )
            for each in (verify.CADDY, verify.HAPROXY)
        ),
        pytest.param(verify.TRAEFIK, (), b"http://o/login?rd=/open/a?b", id="traefik"),
        pytest.param(
            verify.TRAEFIK,
            (b"X-Forwarded-Proto: https, http", b"X-Forwarded-Port: 8443"),
            b"https://o:8443/login?rd=/open/a?b",
            id="traefik-tls",
        ),
        pytest.param(
            verify.TRAEFIK,
            (b"X-Forwarded-Proto: wss", b"X-Forwarded-Prefix: /shop"),
            b"https://o/shop/login?rd=/shop/open/a?b",
            id="traefik-below-a-prefix",
        ),
        pytest.param(
            verify.TRAEFIK,
            (b"X-Forwarded-Proto: x:",),
            b"http://o/login?rd=/open/a?b",
            id="traefik-odd",
        ),
    ],
)
def test_origin_and_prefix(
    dialect: Dialect | None, lines: tuple[bytes, ...], expected: bytes
) -> None:
    """A redirect begins with what proxies remove; Traefik would complete a relative one wrongly."""
    asked = asking(b"/open/a?b", *lines, *SAYS, PAGE)
    if dialect is not None:
        subject = verify.read_subject(dialect, asked, TABLE, TRUSTED)
        assert not isinstance(subject, Deny)
        assert subject[1] is not None
        asked = subject[1]
    deny = Deny(Reason.EXPIRED, None)
    status, location = answer(deny, asked, dialect)
    assert (status, location) == (302, b"Location: %b\r\n" % expected)


def test_nginx_gets_the_prefix_too() -> None:
    """nginx redirects by itself, to the Location of the 401."""
    asked = asking(b"/a", b"X-Forwarded-Prefix: /shop")
    deny = Deny(Reason.EXPIRED, None)
    status, lines = answer(deny, asked, verify.NGINX)
    assert (status, lines) == (401, b"Location: /shop/login?rd=/shop/a\r\n")


def test_a_page_below_a_prefix() -> None:
    """The link of an error page begins with what proxies remove, and is escaped."""
    pages = {
        403: ReplyTemplate(b"s", b'<a href="/auth/login">', b"x"),
        404: ReplyTemplate(b"s", b"x", b'<a href="https://sso.example/">'),
    }
    assert refusals.page_for(pages, 403, b"") is pages
    assert refusals.page_for(pages, 404, b"/a") is pages
    page = refusals.page_for(pages, 403, b"/a&b")[403]
    assert page == ReplyTemplate(b"s", b'<a href="/a&amp;b/auth/login">', b"x")


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_a_target_survives_the_login_page(target: bytes) -> None:
    """Any target survives the Location header's encoding unchanged, on a single line."""
    line = refusals.login_location(b"https://sso/login?a=b", asking(target), LIMIT)
    assert line.count(b"\r\n") == 1
    url = line.removeprefix(b"Location: ").removesuffix(b"\r\n").decode("ascii")
    query = parse_qs(urlsplit(url).query, keep_blank_values=True, encoding="latin-1")
    assert query == {"a": ["b"], "rd": [target.decode("latin-1")]}


@pytest.mark.parametrize(("length", "kept"), [(1000, True), (1320, True), (1400, False)])
def test_a_way_back_that_would_not_fit_is_left_out(length: int, kept: bool) -> None:  # noqa: FBT001
    """The request for the login page, with the same header lines, fits into the limit."""
    asked = asking(b"/" + b"%" * length, b"Accept: text/html")
    line = refusals.login_location(LOGIN, asked, LIMIT)
    assert (b"rd=" in line) is kept
    assert len(b"GET " + line[10:-2] + b" HTTP/1.1\r\n" + asked.lines + b"\r\n") <= LIMIT


@pytest.mark.parametrize(
    ("method", "lines", "navigates"),
    [
        pytest.param("GET", [b"Sec-Fetch-Mode: navigate"], True, id="browser"),
        pytest.param("HEAD", [b"sec-fetch-mode:navigate "], True, id="head"),
        pytest.param("GET", [b"Accept: text/html", b"Sec-Fetch-Mode: cors"], False, id="fetch"),
        pytest.param("GET", [b"Accept: application/xhtml+xml, TEXT/HTML;q=1"], True, id="accept"),
        pytest.param("GET", [b"Accept: application/json"], False, id="json"),
        pytest.param("GET", [b"Accept: */*"], False, id="curl"),
        pytest.param("GET", [b"Sec-Fetch-Mode: Navigate"], False, id="mode-in-another-case"),
        pytest.param("GET", [PAGE, b"Sec-Fetch-Mode: cors"], True, id="first-mode"),
        pytest.param("GET", [b"Accept: text/html", b"Accept: */*"], False, id="last-accept"),
        pytest.param("GET", [b"Accept: */*", b"Accept: text/html"], True, id="last-accept-html"),
        pytest.param("GET", [b"X: accept: text/html", b"Y: " + PAGE], False, id="in-a-value"),
        pytest.param("GET", [b"X-Accept: text/html", b"X-" + PAGE], False, id="end-of-a-name"),
        pytest.param("GET", [b"Accept-Post: text/html"], False, id="begin-of-a-name"),
        pytest.param("GET", [], False, id="nothing"),
        pytest.param("POST", [b"Sec-Fetch-Mode: navigate"], False, id="post"),
    ],
)
def test_is_navigation(method: str, lines: list[bytes], navigates: bool) -> None:  # noqa: FBT001 (a table)
    """Only browser navigation counts as a person waiting for a page."""
    head = read_request(*lines, first=f"{method} / HTTP/1.1".encode())
    assert refusals.is_navigation(head) is navigates
    assert refusals.shows_page(head) is (navigates or method == "POST")  # a POST gets only a page
