"""The MAC of stored values: what it covers, whose it is, and how its keys are derived."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.value_mac import Purpose, ValueMac, has_mac, hkdf_sha256

KEY = b"session:token:t"
VALUE = b'{"sub":"alice"}'
SECRET, OTHER = b"one-secret-0123456789abcdefghijklmno", b"other-secret-0123456789abcdefghijklm"


def new_mac(*secrets: bytes, issuer: str = "issuer", audience: str = "audience") -> ValueMac:
    """A MAC with these secrets."""
    return ValueMac(secrets or [SECRET], issuer, audience)


STORED = new_mac().sign(Purpose.SESSION, KEY, VALUE)


@pytest.mark.parametrize(
    ("secret", "salt", "info", "length", "derived"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="A.1",
        ),
        pytest.param(
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e"
            "590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            id="A.2",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="A.3",
        ),
    ],
)
def test_key_derivation(secret: str, salt: str, info: str, length: int, derived: str) -> None:
    """Keys are derived as in the test vectors of RFC 5869, appendix A."""
    found = hkdf_sha256(bytes.fromhex(secret), bytes.fromhex(salt), bytes.fromhex(info), length)
    assert found.hex() == derived


@pytest.mark.parametrize("length", [0, 255 * 32 + 1])
def test_key_derivation_has_bounds(length: int) -> None:
    """RFC 5869 allows at most 255 blocks."""
    with pytest.raises(ValueError, match="expected 1 to 8160 bytes"):
        hkdf_sha256(SECRET, b"", b"", length)
    assert len(hkdf_sha256(SECRET, b"", b"", 255 * 32)) == 255 * 32


def test_a_signed_value_stays_readable() -> None:
    """The value comes first, unchanged, and verification returns it."""
    assert STORED.startswith(VALUE + b" mac1:")
    assert json.JSONDecoder().raw_decode(STORED.decode())[0] == {"sub": "alice"}
    assert new_mac().verify(Purpose.SESSION, KEY, STORED) == VALUE
    assert has_mac(STORED)
    assert not has_mac(VALUE)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"", id="empty"),
        pytest.param(VALUE, id="no MAC"),
        pytest.param(STORED[:-1], id="cut"),
        pytest.param(STORED + b"\n", id="longer"),
        pytest.param(STORED[len(VALUE) :], id="only a MAC"),
        pytest.param(STORED.replace(b"alice", b"admin"), id="edited"),
        pytest.param(STORED.replace(b"mac1", b"mac2"), id="another version"),
        pytest.param(STORED[:-64] + STORED[-64:].upper(), id="another spelling"),
        pytest.param(STORED[:-64] + b"0" * 64, id="zeros"),
        pytest.param(STORED[:-64] + b"\xff" * 64, id="not text"),
        pytest.param(STORED + STORED, id="twice"),
    ],
)
def test_what_is_not_valid(stored: bytes) -> None:
    """Whatever is not exactly what was signed has no valid MAC."""
    assert new_mac().verify(Purpose.SESSION, KEY, stored) is None


@pytest.mark.parametrize("purpose", [each for each in Purpose if each is not Purpose.SESSION])
def test_another_purpose(purpose: Purpose) -> None:
    """A value that was signed for one purpose is invalid for every other."""
    assert new_mac().verify(purpose, KEY, STORED) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(new_mac(OTHER), id="secret"),
        pytest.param(new_mac(issuer="another"), id="issuer"),
        pytest.param(new_mac(audience="another"), id="audience"),
        pytest.param(new_mac(audience=""), id="no audience"),
        pytest.param(new_mac(issuer="audience", audience="issuer"), id="swapped"),
        pytest.param(new_mac(issuer="issueraud", audience="ience"), id="shifted"),
    ],
)
def test_another_realm_or_secret(other: ValueMac) -> None:
    """A value counts only with the same secret, issuer and audience."""
    assert other.verify(Purpose.SESSION, KEY, STORED) is None


def test_a_realm_is_named_by_issuer_and_audience() -> None:
    """Its name does not depend on secrets, and no two realms share one."""
    realms = {
        new_mac(issuer=issuer, audience=audience).realm
        for issuer in ("", "a", "ab")
        for audience in ("", "b", "ab")
    }
    assert len(realms) == 9
    assert new_mac().realm == new_mac(OTHER).realm
    assert all(len(realm) == 16 and int(realm, 16) >= 0 for realm in realms)


@given(st.binary(), st.binary(), st.binary(max_size=8))
def test_where_the_key_ends_matters(key: bytes, value: bytes, moved: bytes) -> None:
    """No value under one key has the MAC of another value under another key."""
    mac = new_mac()
    stored = mac.sign(Purpose.SESSION, key + moved, value)
    assert mac.verify(Purpose.SESSION, key + moved, stored) == value
    if moved:
        tail = stored[len(value) :]
        assert mac.verify(Purpose.SESSION, key, moved + value + tail) is None


def test_a_rotation() -> None:
    """The first secret signs, and all verify until they are removed."""
    old, both, new = new_mac(SECRET), new_mac(OTHER, SECRET), new_mac(OTHER)
    assert both.verify(Purpose.SESSION, KEY, STORED) == VALUE
    later = both.sign(Purpose.SESSION, KEY, VALUE)
    assert new.verify(Purpose.SESSION, KEY, later) == VALUE
    assert old.verify(Purpose.SESSION, KEY, later) is None
    assert new.verify(Purpose.SESSION, KEY, STORED) is None


def test_secrets_are_replaced() -> None:
    """The listener is called only if values that were valid no longer are."""
    mac, calls = new_mac(SECRET), []
    mac.set_removal_listener(lambda: calls.append(repr(mac)))
    mac.replace_secrets([SECRET])
    mac.replace_secrets([OTHER, SECRET])
    assert calls == []
    assert mac.verify(Purpose.SESSION, KEY, STORED) == VALUE
    mac.replace_secrets([OTHER])
    assert len(calls) == 1
    assert mac.verify(Purpose.SESSION, KEY, STORED) is None


@pytest.mark.parametrize("secrets", [[], [b""], [SECRET, b""]])
def test_a_secret_is_needed(secrets: list[bytes]) -> None:
    """Without a secret, anybody could sign."""
    with pytest.raises(ValueError, match="expected secrets"):
        new_mac().replace_secrets(secrets)


def test_repr_shows_no_secret() -> None:
    """The realm is public."""
    mac = new_mac()
    assert repr(mac) == f"<ValueMac of realm {mac.realm} with 1 keys>"
