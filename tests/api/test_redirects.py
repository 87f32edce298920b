"""Redirect targets: which ones are accepted or refused, and that none leads to a foreign origin."""

from __future__ import annotations

from urllib.parse import quote, urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from yarl import URL

from sidecar.api.redirects import parse_origin, safe_redirect
from sidecar.errors import PeerError
from sidecar.wire.target import TargetParser

OWN = "https://app.example"
ALLOWED = frozenset({"https://other.example", "http://localhost:8443"})


@pytest.mark.parametrize(
    "rd",
    [
        pytest.param("/", id="root"),
        pytest.param("/a/b?c=d&e=f#g", id="path-query-fragment"),
        pytest.param("/my%20file.pdf", id="encoded-space-in-a-name"),
        pytest.param("/caf%C3%A9", id="encoded-utf-8"),
        pytest.param("/a//b", id="double-slash-further-in"),
        pytest.param("/q?next=https://evil.example/", id="foreign-url-in-the-query"),
        pytest.param("/q?path=a%5Cb&dir=..", id="backslash-and-dots-in-the-query"),
        pytest.param("/mail/@alice:home", id="at-and-colon-in-the-path"),
        pytest.param("/search?q=a|b^c`d", id="characters-outside-rfc-3986"),
        pytest.param('/explore?left={"ds":"<x>"}', id="json-in-the-query"),
        pytest.param("/a|b/{id}", id="characters-outside-rfc-3986-in-the-path"),
        pytest.param("/compose?body=one%0Atwo%00", id="encoded-controls-in-the-query"),
        pytest.param("/old?name=M%FCller", id="latin-1-in-the-query"),
        pytest.param("/x?y=%25.pdf&z=\\", id="percent-and-backslash-in-the-query"),
        pytest.param("/app#/users/1?tab=%2f..", id="route-in-the-fragment"),
        pytest.param("/%20/x", id="encoded-space-segment"),
        pytest.param("/%c2%a0/x", id="encoded-no-break-space"),
        pytest.param("/report?ids=" + "10000," * 5000, id="as-long-as-a-head"),
        pytest.param("https://app.example", id="own-origin"),
        pytest.param("https://app.example/x", id="own-origin-and-path"),
        pytest.param("https://APP.example:443/x", id="own-origin-other-spelling"),
        pytest.param("https://other.example/x?y", id="allowed-origin"),
        pytest.param("http://localhost:8443/", id="allowed-origin-with-port"),
    ],
)
def test_accepted(rd: str) -> None:
    """A path of this origin and a URL of an allowed origin are accepted unchanged."""
    assert safe_redirect(rd, OWN, ALLOWED) == rd


@pytest.mark.parametrize(
    "rd",
    [
        pytest.param("", id="empty"),
        pytest.param("x", id="relative"),
        pytest.param("?x", id="query-only"),
        pytest.param("//evil.example", id="network-path"),
        pytest.param("///evil.example", id="three-slashes"),
        pytest.param("/\\evil.example", id="slash-backslash"),
        pytest.param("\\\\evil.example", id="backslashes"),
        pytest.param("/%5cevil.example", id="encoded-backslash"),
        pytest.param("/%255cevil.example", id="twice-encoded-backslash"),
        pytest.param("/%2fevil.example", id="encoded-slash"),
        pytest.param("/%2Fevil.example", id="encoded-slash-upper"),
        pytest.param("/%252f/evil.example", id="twice-encoded-slash"),
        pytest.param("/\t/evil.example", id="tab"),
        pytest.param("/%09/evil.example", id="encoded-tab"),
        pytest.param("/%2509/evil.example", id="twice-encoded-tab"),
        pytest.param("/ /evil.example", id="space-segment"),
        pytest.param(" /x", id="leading-space"),
        pytest.param("\x00/x", id="leading-nul"),
        pytest.param("/x\r\nSet-Cookie: a=b", id="line-break"),
        pytest.param("/x%0d%0aSet-Cookie:%20a=b", id="encoded-line-break"),
        pytest.param("/x%00", id="encoded-nul"),
        pytest.param("/x%7f", id="encoded-delete"),
        pytest.param("/%ff", id="not-utf-8"),
        pytest.param("/./x", id="dot-segment"),
        pytest.param("/a/..//evil.example", id="dot-dot-segment"),
        pytest.param("/%2e%2e//evil.example", id="encoded-dot-dot"),
        pytest.param("/a/%2e%2e%2f%2fevil.example", id="encoded-dot-dot-and-slashes"),
        pytest.param("/caf\u00e9", id="not-ascii"),
        pytest.param("/\uff0fevil.example", id="full-width-slash"),
        pytest.param("https://evil.example", id="foreign"),
        pytest.param("https://app.example.evil.example/", id="own-as-prefix"),
        pytest.param("https://evilother.example/", id="allowed-as-suffix"),
        pytest.param("https://sub.other.example/", id="subdomain-of-allowed"),
        pytest.param("https://app.example@evil.example/", id="user-info"),
        pytest.param("https://other.example:x@evil.example/", id="user-info-with-password"),
        pytest.param("https://user@app.example/", id="user-info-on-own"),
        pytest.param("https://app.example:444/", id="other-port"),
        pytest.param("https://app.example:99999/", id="port-out-of-range"),
        pytest.param("https://app.example:/", id="empty-port"),
        pytest.param("http://app.example/", id="other-scheme-same-host"),
        pytest.param("http://other.example/", id="allowed-host-other-scheme"),
        pytest.param("https:app.example", id="scheme-without-slashes"),
        pytest.param("https:/app.example/", id="scheme-with-one-slash"),
        pytest.param("https:///evil.example", id="empty-host"),
        pytest.param("https://app.example\\@evil.example/", id="backslash-in-authority"),
        pytest.param("https://app.example//evil", id="own-origin-double-slash"),
        pytest.param("HTTPS://app.example/", id="scheme-in-capitals"),
        pytest.param("javascript:alert(1)", id="javascript"),
        pytest.param("data:text/html,x", id="data"),
        pytest.param("ftp://app.example/", id="ftp"),
    ],
)
def test_refused(rd: str) -> None:
    """A target that any parser might read as a different place is refused."""
    assert safe_redirect(rd, OWN, ALLOWED) is None


_PIECES = st.sampled_from(
    [
        *(
            "/",
            "\\",
            "//",
            "%2f",
            "%5c",
            "%09",
            "%20",
            "\t",
            "\n",
            " ",
            "@",
            ":",
            "?",
            "#",
            ".",
            "..",
        ),
        *(
            "https:",
            "http:",
            "HTTPS:",
            "javascript:",
            "app.example",
            "evil.example",
            "a",
            "\u3000",
            "%25",
        ),
        *("other.example", "[::1]", "%2e", "%00", "\uff0f", ":443", ":8443", "localhost"),
    ]
)


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=8).map("".join) | st.text(max_size=40))
@example("https://app.example@evil.example")
def test_an_accepted_target_stays(rd: str) -> None:
    """Two URL parsers agree that every accepted target, even decoded, has an allowed origin."""
    target = safe_redirect(rd, OWN, ALLOWED)
    if target is None:
        return
    for form in (target, target.replace("%2f", "/").replace("%5c", "\\").replace("%09", "")):
        joined = urljoin(OWN + "/auth/login", form)
        parts = urlsplit(joined)
        assert parse_origin(f"{parts.scheme}://{parts.netloc}") in {OWN, *ALLOWED}
        assert str(URL(joined).origin()) in {OWN, *ALLOWED}


_TARGETS = st.text(
    st.sampled_from("/abcAZ019-._~%2fFcCa0Ee8;:@!$&'()*+,=|^{}<>`\"[]?\\ \t#"), max_size=20
).map("/{}".format) | st.binary(max_size=12).map(lambda raw: "/" + quote(raw, safe="/?%"))


@settings(deadline=None)
@given(_TARGETS)
@example("/%c2%85")
@example("/%EF%BF%BD")
def test_every_forwarded_target_is_accepted(target: str) -> None:
    """A page that the sidecar would forward is a page to which a login may return."""
    try:
        TargetParser().parse(target.encode())
    except PeerError:
        return
    assert safe_redirect(target, OWN, ()) == target


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        pytest.param("https://App.Example", "https://app.example", id="case"),
        pytest.param("http://app.example:80", "http://app.example", id="default-port"),
        pytest.param("https://app.example:08443", "https://app.example:8443", id="port"),
        pytest.param("http://[::1]:8080", "http://[::1]:8080", id="ipv6"),
        pytest.param("https://app.example/", None, id="with-path"),
        pytest.param("null", None, id="null"),
        pytest.param("", None, id="empty"),
        pytest.param("https://a@app.example", None, id="user-info"),
        pytest.param("https://app.example:0", None, id="port-zero"),
    ],
)
def test_parse_origin(text: str, origin: str | None) -> None:
    """An origin is normalized to one spelling; anything else is not an origin."""
    assert parse_origin(text) == origin
