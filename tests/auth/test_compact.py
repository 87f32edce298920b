"""The compact form of a JWT: three parts, each in its only canonical encoding."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.compact import decode_part, split_token
from tests.auth.forge import unhurried

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_parts() -> None:
    """A token has three decoded parts, which may be empty."""
    assert split_token(b"YQ.Yi8_.") == [b"a", b"b/?", b""]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"YQ.YQ", id="two-parts"),
        pytest.param(b"YQ.YQ.YQ.YQ", id="four-parts"),
        pytest.param(b"YQ==.YQ.YQ", id="padding"),
        pytest.param(b"YWI=.YQ.YQ", id="padding-of-one"),
        pytest.param(b"YWJj====.YQ.YQ", id="padding-alone"),
        pytest.param(b"YQ.=.YQ", id="nothing-but-padding"),
        pytest.param(b"YWJjY.YQ.YQ", id="length-of-five"),
        pytest.param(b"YWJ.YQ.YQ", id="bits-that-are-not-used-of-two-octets"),
        pytest.param(b"Y\0JjYQ.YQ.YQ", id="nul"),
        pytest.param(b"Y.YQ.YQ", id="length"),
        pytest.param(b"YR.YQ.YQ", id="bits-that-are-not-used"),
        pytest.param(b"Y Q.YQ.YQ", id="white-space"),
        pytest.param(b"Yi8/.YQ.YQ", id="plain-base64"),
        pytest.param(b"YQ\n.YQ.YQ", id="line-break"),
        pytest.param("é.YQ.YQ".encode(), id="not-ascii"),
    ],
)
def test_malformed(token: bytes) -> None:
    """Any other spelling is refused, because it would be the same token under another id."""
    assert split_token(token) is None


@unhurried
@given(
    st.text(BASE64URL, max_size=9)
    | st.text(f"{BASE64URL}+/= \n\0é", max_size=9)
    | st.text(max_size=9)
)
def test_one_encoding_only(text: str) -> None:
    """A part is decoded exactly if encoding the octets again gives the same characters."""
    part = text.encode()
    raw = decode_part(part)
    if raw is not None:
        assert urlsafe_b64encode(raw).rstrip(b"=") == part
    elif not text.strip(BASE64URL):
        # The octets that a lenient decoder finds have another encoding, if there are any.
        assert len(part) % 4 == 1 or urlsafe_b64encode(lenient(part)).rstrip(b"=") != part


def lenient(part: bytes) -> bytes:
    """Decode base64url as most libraries do, whatever the unused bits are."""
    return urlsafe_b64decode(part + b"=" * (-len(part) % 4))


@unhurried
@given(st.binary(max_size=40))
def test_every_octet_string_has_an_encoding(raw: bytes) -> None:
    """What a library encodes is decoded to the same octets."""
    assert decode_part(urlsafe_b64encode(raw).rstrip(b"=")) == raw
