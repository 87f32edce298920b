"""Issued tokens: their claims, who can verify them, and the sealed successor."""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.issue import NONCE_BYTES, Issuer, seal, unseal
from sidecar.auth.keys import Key, KeyRing
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import REFRESH_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import Verified
from tests.auth.forge import (
    AUDIENCE,
    ISSUER,
    NOW,
    REFRESH_SECRET,
    SECRET,
    private_key,
    private_pem,
    public_pem,
    unhurried,
)

ACCESS_KEY = secret_key(ISSUER, SECRET)
REFRESH_KEY = secret_key(ISSUER, REFRESH_SECRET)
NONCE = bytes(range(NONCE_BYTES))


def issuer(signing_key: Key = ACCESS_KEY, **changed: Any) -> Issuer:
    """Return an issuer configured like that of the sidecar."""
    fields: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "access_ttl": 900, **changed}
    return Issuer(signing_key, REFRESH_KEY, **fields)


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and claims of a token without verifying it."""
    header, payload = (urlsafe_b64decode(part + "==") for part in token.split(".")[:2])
    return json.loads(header), json.loads(payload)


def test_access_token() -> None:
    """An access token has the claims of RFC 9068, its session id, and the user's claims."""
    claims = {"roles": ["user"], "scopes": ["read", "write"], "email": "a@example.org"}
    header, body = parts(issuer().access("alice", "s1", claims, NOW + 0.7, "t1"))
    assert header == {"alg": "HS256", "kid": ACCESS_KEY.kid, "typ": "at+jwt"}
    assert body == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "sid": "s1",
        "jti": "t1",
        "client_id": ISSUER,
        "iat": NOW,
        "exp": NOW + 901,
        "roles": ["user"],
        "scope": "read write",
        "email": "a@example.org",
    }


@pytest.mark.parametrize(
    ("method", "amr"),
    [pytest.param("password", ["pwd"], id="password"), pytest.param("oidc", None, id="other")],
)
def test_how_the_login_began(method: str, amr: list[str] | None) -> None:
    """The token of a login with a password says so (RFC 8176), and no claim of a user can."""
    claims = {"amr": ["otp"]}
    _, body = parts(issuer().access("alice", "s1", claims, NOW, "t1", method=method))
    assert body.get("amr") == amr


def test_refresh_token() -> None:
    """A refresh token names its user and its generation, and has no role, scope or other claim."""
    header, body = parts(issuer(refresh_ttl=3600).refresh("alice", "s1", NOW, "t1", generation=7))
    assert header == {"alg": "HS256", "kid": REFRESH_KEY.kid, "typ": "refresh+jwt"}
    assert body == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "sid": "s1",
        "jti": "t1",
        "iat": NOW,
        "exp": NOW + 3600,
        "gen": 7,
    }


def test_no_audience_no_claims() -> None:
    """Without an audience there is no `aud`; without claims, no roles and scopes."""
    _, body = parts(issuer(audience="").access("alice", "s1", {}, NOW, "t1"))
    assert "aud" not in body
    assert (body["roles"], body["scope"]) == ([], "")


@pytest.mark.parametrize(
    "name",
    ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "client_id", "typ", "scp", "amr"],
)
def test_reserved_claims(name: str) -> None:
    """A user's claim cannot override one that the sidecar sets."""
    own = issuer()
    token = own.access("alice", "s1", {name: "evil"}, NOW, "t1")
    plain = own.access("alice", "s1", {}, NOW, "t1")
    before = parts(plain)[1] | ({"scope": "evil"} if name == "scp" else {})
    assert parts(token)[1] == before


@pytest.mark.parametrize("alg", ["HS256", "RS256", "PS256", "ES256", "EdDSA"])
def test_anybody_can_verify(alg: str) -> None:
    """Our own verifier and PyJWT, an independent one, both accept the tokens."""
    if alg == "HS256":
        key, shared = ACCESS_KEY, SECRET
    else:
        key, shared = (
            pem_key(ISSUER, private_pem(private_key(alg)), alg),
            public_pem(private_key(alg)),
        )
    token = issuer(key).access("Zoë", "s1", {"roles": ["a"]}, NOW, "t1")
    verifier = Verifier(
        [IssuerConfig(issuer=ISSUER, audiences=frozenset((AUDIENCE,)))], KeyRing([key])
    )
    found = verifier.verify_access(token.encode(), NOW)
    assert isinstance(found, Verified)
    assert (found.subject, found.session_id, found.roles) == ("Zoë", "s1", ("a",))
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    theirs = jwt.decode(token, shared, [alg], audience=AUDIENCE, issuer=ISSUER, options=options)
    assert theirs == found.claims


def test_a_clock_set_back() -> None:
    """A pod whose clock was set back accepts a new token, until it expires."""
    own = issuer()
    refreshing = IssuerConfig(issuer=ISSUER, types=REFRESH_TYPES)
    verifier = Verifier(
        [IssuerConfig(issuer=ISSUER)], KeyRing([ACCESS_KEY]), refreshing, KeyRing([REFRESH_KEY])
    )
    access = own.access("alice", "s1", {}, NOW, "t1").encode()
    refresh = own.refresh("alice", "s1", NOW, "t2").encode()
    for verify, token, ttl in (
        (verifier.verify_access, access, own.access_ttl),
        (verifier.verify_refresh, refresh, own.refresh_ttl),
    ):
        assert isinstance(verify(token, NOW - 3600), Verified)
        assert isinstance(verify(token, NOW + ttl), Verified)
        assert verify(token, NOW + ttl + 3600) is Reason.EXPIRED


def test_refresh_token_verifies() -> None:
    """A refresh token is accepted as a refresh token."""
    config = IssuerConfig(issuer=ISSUER, types=REFRESH_TYPES)
    verifier = Verifier([], KeyRing(), config, KeyRing([REFRESH_KEY]))
    token = issuer().refresh("alice", "s1", NOW, "t1").encode()
    assert isinstance(verifier.verify_refresh(token, NOW), Verified)


@pytest.mark.parametrize(
    ("created", "access", "refresh"),
    [
        pytest.param(None, NOW + 900, NOW + 7200, id="not-said"),
        pytest.param(NOW, NOW + 900, NOW + 7200, id="new"),
        pytest.param(NOW - 86400 + 3600, NOW + 900, NOW + 3600, id="near-its-end"),
        pytest.param(NOW - 86400 + 60.5, NOW + 61, NOW + 61, id="last-minute"),
    ],
)
def test_expiry(created: float | None, access: float, refresh: float) -> None:
    """No token is valid for longer than the maximum age of a login."""
    own = issuer(refresh_ttl=7200, max_age=86400)
    assert own.access_expires(NOW, created) == access
    assert own.refresh_expires(NOW, created) == refresh
    assert parts(own.access("a", "s", {}, NOW, "t", created=created))[1]["exp"] == access
    assert parts(own.refresh("a", "s", NOW, "t", created=created))[1]["exp"] == refresh


def test_expiry_is_whole_and_never_early() -> None:
    """Expiry is in whole seconds, and never earlier than configured."""
    assert issuer().access_expires(NOW + 0.2) == NOW + 901
    assert math.isinf(issuer().max_age)


def test_too_many_claims() -> None:
    """A token that the sidecar would refuse as too long is not issued."""
    with pytest.raises(ValueError, match="claims are too many or too long"):
        issuer().access("alice", "s1", {"x": "x" * 12_400}, NOW, "t1")
    assert issuer().access("alice", "s1", {"x": "x" * 11_000}, NOW, "t1")
    with pytest.raises(ValueError, match="a token of at most 1000 bytes"):
        issuer(max_token=1000).access("alice", "s1", {"x": "x" * 700}, NOW, "t1")


def test_keys_that_do_not_do() -> None:
    """The two keys must be able to sign, and must differ."""
    public = pem_key(ISSUER, public_pem(private_key("ES256")))
    with pytest.raises(ValueError, match="keys that can sign"):
        issuer(public)
    with pytest.raises(ValueError, match="different keys"):
        issuer(REFRESH_KEY)


def test_repr() -> None:
    """The repr of an issuer shows its name and key id, and no secret."""
    assert repr(issuer()) == f"<Issuer {ISSUER!r} {ACCESS_KEY!r}>"
    assert SECRET.decode() not in repr(issuer())


def test_seal() -> None:
    """Sealed data is opened only with the token with which it was sealed."""
    sealed = seal(b"used", b"successor", NONCE)
    assert sealed.startswith(NONCE)
    assert b"successor" not in sealed
    assert unseal(b"used", sealed) == b"successor"
    assert unseal(b"other", sealed) is None
    assert unseal(b"", sealed) is None


def test_a_seal_for_one_client() -> None:
    """It is opened for this client only, and does not contain the client."""
    sealed = seal(b"used", b"successor", NONCE, b"192.0.2.1 browser")
    assert b"192.0.2.1" not in sealed
    assert unseal(b"used", sealed, b"192.0.2.1 browser") == b"successor"
    for other in (b"192.0.2.2 browser", b"192.0.2.1 browse", b""):
        assert unseal(b"used", sealed, other) is None


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param(b"", id="empty"),
        pytest.param(NONCE[:-1], id="short-nonce"),
        pytest.param(NONCE, id="only-a-nonce"),
        pytest.param(NONCE + bytes(15), id="shorter-than-a-tag"),
        pytest.param(NONCE + bytes(40), id="zeros"),
    ],
)
def test_not_sealed(sealed: bytes) -> None:
    """Data that was never sealed gives None, and raises nothing."""
    assert unseal(b"used", sealed) is None


def test_changed_seal() -> None:
    """Sealed data with a changed bit, or with bytes missing or added, gives None."""
    sealed = seal(b"used", b"pair", NONCE)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        assert unseal(b"used", bytes(changed)) is None
    assert unseal(b"used", sealed[:-1]) is None
    assert unseal(b"used", sealed + b"\0") is None


@pytest.mark.parametrize("length", [0, 8, 11, 13, 16])
def test_nonce_length(length: int) -> None:
    """A nonce must have twelve bytes."""
    with pytest.raises(ValueError, match="nonce of 12 bytes"):
        seal(b"used", b"", bytes(length))


@unhurried
@given(st.binary(), st.binary(), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_any_seal(token: bytes, plaintext: bytes, nonce: bytes) -> None:
    """Any sealed data is returned unchanged."""
    assert unseal(token, seal(token, plaintext, nonce)) == plaintext


@unhurried
@given(st.binary())
def test_unseal_never_raises(sealed: bytes) -> None:
    """Unsealing arbitrary bytes gives None."""
    assert unseal(b"used", sealed) is None
