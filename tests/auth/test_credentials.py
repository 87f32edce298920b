"""The credentials of a request: exactly one of the right form, or the reason why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.credentials import (
    MAX_COOKIE,
    MAX_TOKEN,
    Accepts,
    Bearer,
    SessionCookie,
    find_cookies,
    parse_bearer,
    parse_credentials,
)
from sidecar.auth.reason import Reason
from tests.auth.forge import ISSUER, request, token, unhurried

NAME = b"__Host-session"
ISSUERS = frozenset((ISSUER,))
OURS = b"Bearer " + token()
THEIRS = b"Bearer " + token({"iss": "https://app.test"})
COOKIE = b"__Host-session=abc"
TWICE = frozenset((b"authorization",))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(b"Bearer abc", b"abc", id="plain"),
        pytest.param(b"bearer abc", b"abc", id="lower-case"),
        pytest.param(b"BEARER abc", b"abc", id="upper-case"),
        pytest.param(b"Bearer    abc", b"abc", id="several-spaces"),
        pytest.param(b"Bearer aZ09-._~+/=", b"aZ09-._~+/=", id="every-character"),
        pytest.param(b"Bearer " + b"a" * MAX_TOKEN, b"a" * MAX_TOKEN, id="longest"),
        pytest.param(b"Bearer " + b"a" * (MAX_TOKEN + 1), Reason.TOKEN_TOO_LONG, id="too-long"),
        pytest.param(
            b"Bearer " + b"\xff" * (MAX_TOKEN + 1), Reason.TOKEN_TOO_LONG, id="too-long-any"
        ),
        pytest.param(b"Bearer", Reason.CREDENTIALS_MALFORMED, id="no-token"),
        pytest.param(b"Bearer ", Reason.CREDENTIALS_MALFORMED, id="empty-token"),
        pytest.param(b"Bearer a b", Reason.CREDENTIALS_MALFORMED, id="two-tokens"),
        pytest.param(b"Bearer a,Bearer b", Reason.CREDENTIALS_MALFORMED, id="joined"),
        pytest.param(b"Bearer a\tb", Reason.CREDENTIALS_MALFORMED, id="tab-inside"),
        pytest.param(b"Bearer\ta", Reason.CREDENTIALS_MALFORMED, id="tab-for-space"),
        pytest.param(b"Bearer=abc", Reason.CREDENTIALS_MALFORMED, id="equals"),
        pytest.param(b'Bearer "abc"', Reason.CREDENTIALS_MALFORMED, id="quoted"),
        pytest.param(b'Bearer token="abc"', Reason.CREDENTIALS_MALFORMED, id="parameter"),
        pytest.param(b"Bearer =a", Reason.CREDENTIALS_MALFORMED, id="padding-first"),
        pytest.param(b"Bearer a=b", Reason.CREDENTIALS_MALFORMED, id="padding-inside"),
        pytest.param(b"Bearer \xc3\xa4", Reason.CREDENTIALS_MALFORMED, id="not-ascii"),
        pytest.param(b"Bearer a\n", Reason.CREDENTIALS_MALFORMED, id="line-feed"),
        pytest.param(b"Basic YTpi", None, id="basic"),
        pytest.param(b"BearerX abc", None, id="longer-scheme"),
        pytest.param(b"Bearer-2 abc", None, id="scheme-with-hyphen"),
        pytest.param(b"NotBearer abc", None, id="scheme-ends-alike"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_bearer(value: bytes, found: bytes | Reason | None) -> None:
    """The header is the scheme in any case, spaces and one b64token (RFC 6750 section 2.1)."""
    assert parse_bearer(value) == found


@pytest.mark.parametrize(
    ("header", "found"),
    [
        pytest.param(b"__Host-session=abc", [b"abc"], id="alone"),
        pytest.param(b"a=1; __Host-session=abc; b=2", [b"abc"], id="among-others"),
        pytest.param(b"a=1;__Host-session=abc;b=2", [b"abc"], id="without-spaces"),
        pytest.param(b"a=1;\t __Host-session=abc \t;", [b"abc"], id="white-space"),
        pytest.param(b"__Host-session=a=b", [b"a=b"], id="equals-in-value"),
        pytest.param(b"__Host-session= abc", [b" abc"], id="space-in-value"),
        pytest.param(b"__Host-session=a; __Host-session=b", [b"a", b"b"], id="twice"),
        pytest.param(b"__Host-session=", [], id="empty"),
        pytest.param(b"__Host-session", [], id="no-value"),
        pytest.param(b"__Host-session=; __Host-session=b", [b"b"], id="empty-and-not"),
        pytest.param(b"__host-session=abc", [], id="other-case"),
        pytest.param(b"x__Host-session=abc", [], id="longer-name"),
        pytest.param(b"__Host-session2=abc", [], id="longer-name-after"),
        pytest.param(b"__Host-session =abc", [], id="space-in-name"),
        pytest.param(b"a=__Host-session=abc", [], id="in-a-value"),
        pytest.param(b'a="; __Host-session=abc', [b"abc"], id="quotes-mean-nothing"),
        pytest.param(b"", [], id="no-cookies"),
    ],
)
def test_cookies(header: bytes, found: list[bytes]) -> None:
    """Cookies are pairs between semicolons; the name must match exactly (RFC 6265)."""
    assert find_cookies(header, NAME) == found


@unhurried
@given(
    st.lists(
        st.sampled_from([b"sid", b"sid=", b"=", b";", b"; ", b" ", b"\t", b"x", b"a=b", b'"']),
        max_size=12,
    ).map(b"".join)
)
def test_cookies_are_pairs(header: bytes) -> None:
    """The search finds the same cookies as splitting at semicolons and equals signs."""
    pairs = [part.strip(b" \t").partition(b"=") for part in header.split(b";")]
    values = [value for name, _, value in pairs if name == b"sid" and value]
    assert find_cookies(header, b"sid") == values


@pytest.mark.parametrize(
    ("authorization", "cookie", "found"),
    [
        pytest.param(None, None, Reason.NO_CREDENTIALS, id="neither"),
        pytest.param(b"Basic YTpi", b"a=1", Reason.NO_CREDENTIALS, id="others"),
        pytest.param(b"Bearer abc", None, Bearer(b"abc"), id="bearer"),
        pytest.param(b"Bearer abc", b"a=1", Bearer(b"abc"), id="bearer-and-other-cookie"),
        pytest.param(
            b"Bearer abc", b"__Host-session=", Bearer(b"abc"), id="bearer-and-ended-cookie"
        ),
        pytest.param(None, b"__Host-session=abc", SessionCookie(b"abc"), id="cookie"),
        pytest.param(
            b"Basic YTpi", b"__Host-session=abc", SessionCookie(b"abc"), id="cookie-and-basic"
        ),
        pytest.param(OURS, COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="both"),
        pytest.param(OURS + b" x", COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="both-one-malformed"),
        pytest.param(
            b"Bearer x.y.z, " + OURS, COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="both-in-a-list"
        ),
        pytest.param(
            b'Bearer token="a.b.c"', COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="malformed-with-dots"
        ),
        pytest.param(
            OURS + b"a" * MAX_TOKEN, COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="both-one-too-long"
        ),
        pytest.param(
            b"Bearer a.b." + b"c" * MAX_TOKEN, COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="unread"
        ),
        pytest.param(THEIRS, COOKIE, SessionCookie(b"abc"), id="foreign-and-cookie"),
        pytest.param(b"Bearer abc", COOKIE, SessionCookie(b"abc"), id="opaque-and-cookie"),
        pytest.param(b"Bearer", COOKIE, SessionCookie(b"abc"), id="empty-and-cookie"),
        pytest.param(b"Bearer 1|abc", COOKIE, SessionCookie(b"abc"), id="not-b64-and-cookie"),
        pytest.param(
            b"Bearer " + b"a" * 20_000, COOKIE, SessionCookie(b"abc"), id="too-long-and-cookie"
        ),
        pytest.param(
            THEIRS, COOKIE + b"; " + COOKIE, Reason.CREDENTIALS_AMBIGUOUS, id="foreign-and-two"
        ),
        pytest.param(
            THEIRS, b"__Host-session=a.b", Reason.TOKEN_MALFORMED, id="foreign-and-bad-cookie"
        ),
        pytest.param(
            None,
            b"__Host-session=a; __Host-session=a",
            Reason.COOKIE_REPEATED,
            id="cookie-twice",
        ),
        pytest.param(b"Bearer", None, Reason.CREDENTIALS_MALFORMED, id="bearer-malformed"),
        pytest.param(None, b"__Host-session=a.b.c", Reason.TOKEN_MALFORMED, id="token-as-cookie"),
        pytest.param(None, b'__Host-session="a"', Reason.TOKEN_MALFORMED, id="cookie-quoted"),
        pytest.param(None, b"__Host-session=\xff", Reason.TOKEN_MALFORMED, id="cookie-not-ascii"),
        pytest.param(
            None,
            b"__Host-session=" + b"a" * MAX_COOKIE,
            SessionCookie(b"a" * MAX_COOKIE),
            id="cookie-longest",
        ),
        pytest.param(
            None,
            b"__Host-session=" + b"a" * (MAX_COOKIE + 1),
            Reason.TOKEN_TOO_LONG,
            id="cookie-too-long",
        ),
    ],
)
def test_credentials(
    authorization: bytes | None, cookie: bytes | None, found: Bearer | SessionCookie | Reason
) -> None:
    """A request has one usable credential, or the result is a reason."""
    assert parse_credentials(request(authorization, cookie), NAME, ISSUERS) == found


@pytest.mark.parametrize(
    ("authorization", "cookie", "by_bearer", "by_cookie"),
    [
        pytest.param(OURS, None, Bearer(OURS[7:]), Reason.NO_CREDENTIALS, id="bearer"),
        pytest.param(None, COOKIE, Reason.NO_CREDENTIALS, SessionCookie(b"abc"), id="cookie"),
        pytest.param(OURS, COOKIE, Bearer(OURS[7:]), SessionCookie(b"abc"), id="both"),
        pytest.param(THEIRS, COOKIE, Bearer(THEIRS[7:]), SessionCookie(b"abc"), id="foreign"),
        pytest.param(
            b"Bearer", COOKIE, Reason.CREDENTIALS_MALFORMED, SessionCookie(b"abc"), id="malformed"
        ),
        pytest.param(
            b"Basic YTpi", COOKIE, Reason.NO_CREDENTIALS, SessionCookie(b"abc"), id="basic"
        ),
        pytest.param(
            OURS,
            COOKIE + b"; " + COOKIE,
            Bearer(OURS[7:]),
            Reason.COOKIE_REPEATED,
            id="two-cookies",
        ),
        pytest.param(
            OURS, b'__Host-session="a"', Bearer(OURS[7:]), Reason.TOKEN_MALFORMED, id="bad-cookie"
        ),
    ],
)
def test_what_counts(
    authorization: bytes | None, cookie: bytes | None, by_bearer: object, by_cookie: object
) -> None:
    """Where one kind counts, the other is not looked at, however good or bad it is."""
    head = request(authorization, cookie)
    assert parse_credentials(head, NAME, ISSUERS, Accepts.BEARER) == by_bearer
    assert parse_credentials(head, NAME, ISSUERS, Accepts.COOKIE) == by_cookie


@pytest.mark.parametrize("cookie", [None, COOKIE])
def test_repeated_authorization(cookie: bytes | None) -> None:
    """Two Authorization headers are ambiguous (RFC 6750 section 2), unless only cookies count."""
    head = request(b"Basic YTpi", cookie, repeated=TWICE)
    for accepts in (Accepts.ANY, Accepts.BEARER):
        found = parse_credentials(head, NAME, ISSUERS, accepts)
        assert found is Reason.CREDENTIALS_AMBIGUOUS
    by_cookie = SessionCookie(b"abc") if cookie else Reason.NO_CREDENTIALS
    assert parse_credentials(head, NAME, ISSUERS, Accepts.COOKIE) == by_cookie


def test_repeated_other_header() -> None:
    """Another repeated header does not affect a valid token."""
    head = request(b"Bearer abc", repeated=frozenset((b"origin",)))
    assert parse_credentials(head, NAME, ISSUERS) == Bearer(b"abc")


def test_credentials_are_not_shown() -> None:
    """The repr of a token or cookie does not show its value."""
    assert "abc" not in repr([Bearer(b"abc"), SessionCookie(b"abc")])


@unhurried
@given(st.binary(), st.binary())
def test_never_raises(authorization: bytes, cookie: bytes) -> None:
    """Any two header values give credentials or a reason, and raise nothing."""
    for header in (cookie, b"__Host-session=" + cookie):
        found = parse_credentials(request(authorization, header), NAME, ISSUERS)
        assert isinstance(found, Bearer | SessionCookie | Reason)
