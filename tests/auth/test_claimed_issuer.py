"""Which bearer tokens could be one of ours, as far as their form and their `iss` say."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.claimed_issuer import may_be_issued_by
from tests.auth.forge import GONE, ISSUER, b64, raw_token, token, unhurried

OURS: Final = frozenset((ISSUER, "https://other.test"))
THEIRS: Final = "https://app.test"
OWN: Final = token()
HEADER, PAYLOAD, SIGNATURE = OWN.split(b".")
FOREIGN: Final = token({"iss": THEIRS})
JWE: Final = b64(b'{"alg":"RSA-OAEP","enc":"A128GCM"}')


def claims(text: str) -> bytes:
    """Return a token with this JSON as its payload."""
    return raw_token(b'{"alg":"HS256","typ":"JWT"}', text.encode())


@pytest.mark.parametrize(
    ("bearer", "ours"),
    [
        pytest.param(b"null", False, id="null"),
        pytest.param(b"ghp_16C7e42F292c6912E7", False, id="opaque"),
        pytest.param(b"a.b", False, id="one-dot"),
        pytest.param(b"a.b.c", False, id="no-json"),
        pytest.param(b"a.b.c.d", False, id="three-dots"),
        pytest.param(b"v4.local.AAAAAAAA", False, id="paseto-local"),
        pytest.param(b"v4.public." + b64(b'{"iss":"%b"}' % ISSUER.encode()), False, id="paseto"),
        pytest.param(FOREIGN, False, id="of-another-issuer"),
        pytest.param(token({"iss": THEIRS}, alg="none", key=None), False, id="unsigned"),
        pytest.param(token({"iss": GONE}), False, id="without-issuer"),
        pytest.param(claims("{}"), False, id="no-claims"),
        pytest.param(claims("[]"), False, id="a-list"),
        pytest.param(JWE + b"." + b64(b"{key") + b".iv.text.tag", False, id="jwe"),
        pytest.param(JWE + b"..iv.text.tag", False, id="jwe-direct"),
        pytest.param(OWN, True, id="own"),
        pytest.param(token({"iss": "https://other.test"}), True, id="of-the-other"),
        pytest.param(token({"aud": "another application"}), True, id="other-audience"),
        pytest.param(token(key=b"x" * 32), True, id="forged"),
        pytest.param(token({"exp": 1}), True, id="expired"),
        pytest.param(OWN + b"=", True, id="padded"),
        pytest.param(HEADER + b"." + PAYLOAD + b".", True, id="signature-cut-off"),
        pytest.param(HEADER + b"." + PAYLOAD + b"." + SIGNATURE[:-1], True, id="signature-cut"),
        pytest.param(b"." + PAYLOAD + b"." + SIGNATURE, True, id="header-cut-off"),
        pytest.param(b"x." + OWN, True, id="a-part-before"),
        pytest.param(OWN + b".x", True, id="a-part-behind"),
        pytest.param(OWN + b".x.y", True, id="five-parts-and-no-jwe"),
        pytest.param(HEADER + b".~" + PAYLOAD + b"." + SIGNATURE, True, id="ignored-character"),
        pytest.param(HEADER + b"." + PAYLOAD + b"A." + SIGNATURE, True, id="odd-length"),
        pytest.param(
            HEADER + b"." + b64encode(json.dumps({"iss": ISSUER, "x": "\x7f?"}).encode()) + b".x",
            True,
            id="standard-alphabet",
        ),
        pytest.param(claims(f'{{"iss":"{THEIRS}","iss":"{ISSUER}"}}'), True, id="twice"),
        pytest.param(claims(f'{{"iss":"{THEIRS}",}}'), True, id="comma"),
        pytest.param(claims(f' \r\n\t{{"iss":"{ISSUER}"}}'), True, id="white-space"),
        pytest.param(claims(f'\ufeff{{"iss":"{THEIRS}"}}'), True, id="byte-order-mark"),
        pytest.param(raw_token(b"{}", f'{{"iss":"{THEIRS}"}}'.encode("utf-16")), True, id="utf-16"),
        pytest.param(claims(f'{{"iss":["{ISSUER}"]}}'), True, id="issuer-in-a-list"),
        pytest.param(claims('{"iss":null}'), True, id="issuer-null"),
        pytest.param(raw_token(b"[]", b'{"iss":"x"}'), True, id="header-is-a-list"),
        pytest.param(claims('{"a":' * 40 + "1" + "}" * 40), True, id="too-deep-to-be-read"),
    ],
)
def test_ownership(bearer: bytes, ours: bool) -> None:  # noqa: FBT001
    """Only what says clearly that it is no token of these issuers is none; in doubt it is one."""
    assert may_be_issued_by(bearer, OURS) is ours


def test_tokens_without_issuer() -> None:
    """If tokens without `iss` count, one without `iss` may be ours."""
    assert may_be_issued_by(token({"iss": GONE}), {""})
    assert not may_be_issued_by(FOREIGN, {""})


@unhurried
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_token_of_ours_is_found(before: bytes, behind: bytes) -> None:
    """Whatever replaces header and signature, the claims of an issuer of ours are found."""
    changed = b64(before) + b"." + PAYLOAD + b"." + b64(behind)
    assert may_be_issued_by(changed, OURS)


@unhurried
@given(st.text("ABab01_-.~+/=", max_size=80))
def test_never_raises(text: str) -> None:
    """Any b64token gets an answer, and an opaque one is never ours."""
    found = may_be_issued_by(text.encode(), OURS)
    assert not (found and text.count(".") < 2)


def test_random_keys_of_a_jwe() -> None:
    """The second part of a JWE is random; no value of it makes the token ours."""
    for first in range(256):
        part = bytes((first,)) + b'"iss"' + os.urandom(40)
        assert not may_be_issued_by(b".".join((JWE, b64(part), b"iv", b"text", b"tag")), OURS)
