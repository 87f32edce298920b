"""The remembered headers: the same reading as without, and no room for what nobody signed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.keys import KeyRing
from sidecar.auth.known_headers import KnownHeaders
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import REFRESH_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import Verified
from tests.auth.forge import ISSUER, NOW, REFRESH_SECRET, SECRET, b64, token, unhurried

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = b64(b'{"alg":"HS256","typ":"at+jwt"}')


def headers(number: int) -> Iterator[bytes]:
    """Yield the encoded headers of an issuer that writes another one into each token."""
    for each in range(number):
        yield b64(json.dumps({"alg": "HS256", "nonce": each}).encode())


def remembering(*parts: bytes) -> KnownHeaders:
    """Return headers after each of these was the header of a verified token."""
    known = KnownHeaders()
    for part in parts:
        header = known.parse(part)
        assert header is not None
        known.remember(part, header)
    return known


def test_a_remembered_header_is_read_as_before() -> None:
    """The second reading gives the object of the first one."""
    known = remembering(GOOD)
    assert known.parse(GOOD) is known.parse(GOOD)
    assert known.parse(GOOD) == {"alg": "HS256", "typ": "at+jwt"}
    assert repr(known) == "<KnownHeaders 1>"


def test_invented_headers_are_not_remembered() -> None:
    """Reading remembers nothing, so no number of invented headers pushes out a good one."""
    known = remembering(GOOD)
    good = known.parse(GOOD)
    for part in headers(1000):
        assert known.parse(part) is not None
    assert known.parse(GOOD) is good
    assert repr(known) == "<KnownHeaders 1>"


def test_few_headers_are_kept() -> None:
    """An issuer with a header of its own for each token takes no more than 64 places."""
    known = remembering(*headers(64))
    assert repr(known) == "<KnownHeaders 64>"
    known.remember(GOOD, {})
    assert repr(known) == "<KnownHeaders 1>"
    assert repr(remembering(*headers(1000))) == f"<KnownHeaders {1000 % 64}>"


def test_a_header_is_remembered_once() -> None:
    """A header that is remembered already makes no room for itself."""
    parts = list(headers(64))
    known = remembering(*parts)
    known.remember(parts[0], {})
    assert repr(known) == "<KnownHeaders 64>"
    assert known.parse(parts[0]) == {"alg": "HS256", "nonce": 0}


@pytest.mark.parametrize(("octets", "kept"), [(1024, 1), (1028, 0)])
def test_long_headers_are_not_kept(octets: int, kept: int) -> None:
    """A header with a chain of certificates is parsed each time."""
    part = b64(b'{"alg":"HS256","x5c":"' + b"x" * (octets // 4 * 3 - 24) + b'"}')
    assert len(part) == octets
    assert repr(remembering(part)) == f"<KnownHeaders {kept}>"


@unhurried
@given(st.binary(max_size=60) | st.just(b'{"alg":"HS256"}').map(b64))
def test_malformed_headers(part: bytes) -> None:
    """Any octets give a header or None, and the same one after others were remembered."""
    assert remembering(GOOD).parse(part) == KnownHeaders().parse(part)


def verifier(secret: bytes = SECRET) -> Verifier:
    """Return a verifier with one secret each for access and refresh tokens."""
    return Verifier(
        [IssuerConfig(issuer=ISSUER)],
        KeyRing([secret_key(ISSUER, secret)]),
        IssuerConfig(issuer=ISSUER, types=REFRESH_TYPES),
        KeyRing([secret_key(ISSUER, REFRESH_SECRET)]),
    )


def test_a_known_header_proves_nothing() -> None:
    """A header counts for what it says, however often it was verified with other tokens."""
    on = verifier()
    refresh = {"typ": "refresh+jwt"}
    access, forged = token(), token(key=b"x" * 32)
    refreshing = token(header=refresh, key=REFRESH_SECRET)
    for _ in range(2):
        assert isinstance(on.verify_access(access, NOW), Verified)
        assert on.verify_access(forged, NOW) is Reason.SIGNATURE
        assert isinstance(on.verify_refresh(refreshing, NOW), Verified)
        # The header of a refresh token, which is known by now, before claims signed for access
        assert on.verify_access(token(header=refresh), NOW) is Reason.TOKEN_TYPE
        assert on.verify_refresh(token(key=REFRESH_SECRET), NOW) is Reason.TOKEN_TYPE


def test_a_known_header_under_other_keys() -> None:
    """Two verifiers share nothing: a header that one has verified names no key of the other."""
    named = token(header={"kid": secret_key(ISSUER, SECRET).kid})
    assert isinstance(verifier().verify_access(named, NOW), Verified)
    assert verifier(REFRESH_SECRET).verify_access(named, NOW) is Reason.KEY_UNKNOWN
    assert verifier(REFRESH_SECRET).verify_access(token(), NOW) is Reason.SIGNATURE
