"""Which origins the CORS policy allows, and the header lines that it gives their requests."""

from __future__ import annotations

from typing import Any, Final

import pytest

from sidecar.auth.cors import NO_CORS, CorsPolicy
from tests.auth.forge import request

APP: Final = b"https://app.example.com"
SOME: Final = CorsPolicy(
    ("https://app.example.com", "http://localhost:5173", "https://*.shop.example:8443")
)
TRUSTED: Final = CorsPolicy(("https://app.example.com", "https://*.shop.example"), credentials=True)
EVERY: Final = CorsPolicy(("*",))


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        pytest.param(b"https://app.example.com", True, id="exact"),
        pytest.param(b"http://localhost:5173", True, id="port"),
        pytest.param(b"https://a.shop.example:8443", True, id="subdomain"),
        pytest.param(b"https://a-1_b.shop.example:8443", True, id="subdomain-of-all-characters"),
        pytest.param(b"https://%b.shop.example:8443" % (b"a" * 63), True, id="longest-label"),
        pytest.param(None, False, id="absent"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"null", False, id="null"),
        pytest.param(b"*", False, id="star"),
        pytest.param(b"http://app.example.com", False, id="other-scheme"),
        pytest.param(b"https://app.example.com:8443", False, id="other-port"),
        pytest.param(b"https://app.example.com:443", False, id="default-port"),
        pytest.param(b"https://app.example.com.", False, id="final-dot"),
        pytest.param(b"https://APP.example.com", False, id="upper-case"),
        pytest.param(b"https://app.example.com/", False, id="path"),
        pytest.param(b"https://app.example.com.evil.test", False, id="longer"),
        pytest.param(b"https://xapp.example.com", False, id="suffix"),
        pytest.param(b"https://evil.test@app.example.com", False, id="user-information"),
        pytest.param(b"https://app.example.com https://app.example.com", False, id="list"),
        pytest.param(b"https://*.shop.example:8443", False, id="the-pattern"),
        pytest.param(b"https://shop.example:8443", False, id="the-parent"),
        pytest.param(b"https://.shop.example:8443", False, id="empty-label"),
        pytest.param(b"https://a.b.shop.example:8443", False, id="two-labels"),
        pytest.param(b"https://a.shop.example", False, id="subdomain-other-port"),
        pytest.param(b"http://a.shop.example:8443", False, id="subdomain-other-scheme"),
        pytest.param(b"https://a.shopxexample:8443", False, id="dot-is-no-pattern"),
        pytest.param(b"https://a.shop.example:8443\n", False, id="line-feed"),
        pytest.param(b"https://evil.test/.shop.example:8443", False, id="slash"),
        pytest.param(b"https://evil.test#.shop.example:8443", False, id="fragment"),
        pytest.param(b"https://-a.shop.example:8443", False, id="hyphen-first"),
        pytest.param(b"https://%b.shop.example:8443" % (b"a" * 64), False, id="label-too-long"),
        pytest.param(b"https://\xe9.shop.example:8443", False, id="not-ascii"),
    ],
)
def test_origins(origin: bytes | None, allowed: bool) -> None:  # noqa: FBT001
    """An origin is allowed if it equals a listed one, or is a direct sub-domain of a listed one."""
    head = request(origin=origin)
    assert SOME.allows(head) is allowed
    if origin is not None and allowed:
        assert b"\r\nAccess-Control-Allow-Origin: %b\r\n" % origin in SOME.lines(head)
    else:
        assert SOME.lines(head) == b"Vary: Origin\r\n"
    assert not NO_CORS.allows(head)
    assert NO_CORS.lines(head) == b""


@pytest.mark.parametrize("policy", [SOME, TRUSTED, EVERY])
def test_a_repeated_origin_is_none(policy: CorsPolicy) -> None:
    """Two Origin headers are never allowed, because a proxy may have added one."""
    head = request(origin=APP, repeated=frozenset((b"origin",)))
    assert not policy.allows(head)
    assert not policy.trusts(head)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        pytest.param(b"https://anything.test", True, id="https"),
        pytest.param(b"http://[::1]:8080", True, id="ipv6"),
        pytest.param(b"chrome-extension://abcdef", True, id="extension"),
        pytest.param(b"null", False, id="null"),
        pytest.param(b"*", False, id="star"),
        pytest.param(b"https://a.test https://b.test", False, id="list"),
        pytest.param(b"https://a.test\r\nX: y", False, id="line-break"),
        pytest.param(None, False, id="absent"),
    ],
)
def test_every_origin(origin: bytes | None, allowed: bool) -> None:  # noqa: FBT001
    """`*` allows everything that is an origin, and trusts nothing."""
    head = request(origin=origin)
    assert EVERY.allows(head) is allowed
    assert not EVERY.trusts(head)
    assert b"Credentials" not in EVERY.lines(head)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"origin": APP}, id="exact"),
        pytest.param({"origin": APP, "fetch_site": b"same-site"}, id="same-site"),
        pytest.param({"origin": APP, "fetch_site": b"cross-site"}, id="cross-site"),
        pytest.param({"origin": b"https://a.shop.example"}, id="subdomain"),
    ],
)
def test_trust_takes_credentials(fields: dict[str, Any]) -> None:
    """A page may use the session cookie if its origin is listed and credentials are allowed."""
    assert TRUSTED.trusts(request(**fields))
    assert not SOME.trusts(request(**fields))
    assert not TRUSTED.trusts(request(origin=b"https://evil.test"))
    assert not TRUSTED.trusts(request(fetch_site=b"same-site"))


def test_lines() -> None:
    """An answer names the origin, what may be read, and whether credentials count."""
    exposed = b"Access-Control-Expose-Headers: X-Request-Id, WWW-Authenticate, Retry-After\r\n"
    start = b"Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example.com\r\n"
    head = request(origin=APP)
    assert SOME.lines(head) == start + exposed
    assert TRUSTED.lines(head) == start + b"Access-Control-Allow-Credentials: true\r\n" + exposed


def test_preflight_lines() -> None:
    """The answer to a preflight names methods, headers and its age in whole seconds."""
    policy = CorsPolicy(("https://a.example",), headers=("Authorization", "X-A"), max_age=90.5)
    assert policy.preflight_lines(b"GET, POST") == (
        b"Access-Control-Allow-Methods: GET, POST\r\n"
        b"Access-Control-Allow-Headers: Authorization, X-A\r\nAccess-Control-Max-Age: 90\r\n"
    )


def test_credentials_are_never_for_every_origin() -> None:
    """The combination that would let every page act as any user cannot be made."""
    with pytest.raises(ValueError, match="never for every origin"):
        CorsPolicy(("https://a.example", "*"), credentials=True)


def test_repr() -> None:
    """A policy shows how many origins it has, and whether they may use credentials."""
    assert repr(TRUSTED) == "<CorsPolicy origins=2 credentials=True>"
    assert repr(EVERY) == "<CorsPolicy origins=* credentials=False>"
    assert (bool(NO_CORS), bool(EVERY), bool(TRUSTED)) == (False, True, True)
