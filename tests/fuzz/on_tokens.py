"""Tokens: the verifier accepts nothing that PyJWT refuses, and no other spelling of a valid token.

Input: `r` and a token; or `s`, a JSON header, a line end and a JSON payload, to be signed with the
issuer's key; or `f` and octets that modify a valid token.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any, Final

import jwt

from sidecar.auth.asymmetric import asymmetric_key
from sidecar.auth.keys import KeyRing, with_names
from sidecar.auth.reason import Reason
from sidecar.auth.strict_json import parse_object
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import FOREIGN_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import Verified
from sidecar.claim_path import ClaimPath
from tests.auth import forge

LEEWAY: Final = 5.0
LAST_DATE: Final = 253402300799  # the end of the year 9999
FOREIGN: Final = "https://foreign.test"
EDDSA: Final = forge.private_key("EdDSA")
CONFIGS: Final = {
    forge.ISSUER: IssuerConfig(issuer=forge.ISSUER, audiences=frozenset((forge.AUDIENCE,))),
    FOREIGN: IssuerConfig(
        issuer=FOREIGN,
        types=FOREIGN_TYPES,
        algorithms=frozenset(with_names(("EdDSA",))),
        foreign=True,
        roles_claims=(ClaimPath("roles"), ClaimPath("realm_access.roles"), ClaimPath("/a/0/b")),
    ),
}
VERIFIER: Final = Verifier(
    CONFIGS.values(),
    KeyRing(
        [
            secret_key(forge.ISSUER, forge.SECRET, kid="k1"),
            asymmetric_key(FOREIGN, "k2", "EdDSA", EDDSA.public_key()),
        ]
    ),
    IssuerConfig(issuer=forge.ISSUER, types=frozenset(("refresh+jwt",))),
    KeyRing([secret_key(forge.ISSUER, forge.REFRESH_SECRET, kid="k3")]),
    leeway=LEEWAY,
)
GOOD: Final = forge.token()
jwt.register_algorithm("Ed25519", jwt.get_algorithm_by_name("EdDSA"))  # RFC 9864


def check(data: bytes) -> None:
    """Verify the token as an access token and as a refresh token."""
    kind, data = data[:1], data[1:]
    if kind == b"s":
        header, _, payload = data.partition(b"\n")
        token = signed(header, payload)
    elif kind == b"f":
        token = changed(data)
    else:
        token = data
    found = VERIFIER.verify_access(token, forge.NOW)
    assert isinstance(VERIFIER.verify_refresh(token, forge.NOW), Reason)
    assert isinstance(found, Verified | Reason)
    if isinstance(found, Reason):
        assert token != GOOD
        return
    assert kind != b"f" or token == GOOD, "a changed token is accepted"
    check_accepted(token, found)


def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members as an object; names must be unique (RFC 8725 section 3.7)."""
    assert len({name for name, _ in members}) == len(members)
    return dict(members)


def signed(header: bytes, payload: bytes) -> bytes:
    """A token of exactly these bytes, signed as its issuer would sign it."""
    claims = parse_object(payload) or {}
    alg, key = ("EdDSA", EDDSA) if claims.get("iss") == FOREIGN else ("HS256", forge.SECRET)
    return forge.raw_token(header, payload, alg=alg, key=key)


def changed(data: bytes) -> bytes:
    """The valid token with some octets replaced, inserted or deleted."""
    token = bytearray(GOOD)
    for how, at, octet in zip(data[::3], data[1::3], data[2::3], strict=False):
        place = (at * 256 + octet) % (len(token) + 1)
        if how % 3 == 0 and place < len(token):
            token[place] ^= octet or 1
        elif how % 3 == 1:
            token[place:place] = bytes((octet,))
        else:
            del token[place : place + 1]
    return bytes(token)


def check_accepted(token: bytes, found: Verified) -> None:
    """Check that PyJWT accepts the token with the same key and reads the same claims."""
    foreign = found.issuer == FOREIGN
    claims: dict[str, Any] = jwt.decode(
        token,
        EDDSA.public_key() if foreign else forge.SECRET,
        algorithms=["EdDSA", "Ed25519"] if foreign else ["HS256"],
        issuer=found.issuer,
        audience=None if foreign else forge.AUDIENCE,
        options={
            "require": ["exp", "sub", "iss"],
            # The clock of PyJWT cannot be set; dates are compared below.
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_aud": not foreign,
        },
    )
    assert claims == found.claims
    assert (claims["sub"], claims.get("sid", "")) == (found.subject, found.session_id)
    assert all(isinstance(name, str) and name for name in (*found.roles, *found.scopes))
    assert claims["exp"] > forge.NOW - LEEWAY
    assert claims.get("nbf", 0) <= forge.NOW + LEEWAY
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        assert not isinstance(value, bool)
        assert abs(value) <= LAST_DATE
    for part in token.split(b".")[:2]:
        json.loads(urlsafe_b64decode(part + b"=="), object_pairs_hook=unique)
    header = jwt.get_unverified_header(token)
    kind = header.get("typ", "").lower().removeprefix("application/")
    assert kind in CONFIGS[found.issuer].types
    assert "crit" not in header
    session = found.as_session("id", forge.NOW)
    assert session.exp == found.expires
    assert session.sub == ("" if foreign else found.subject)
    if foreign:
        assert found.user == claims["sub"]
        assert claims.get("iat", 0) <= forge.NOW + LEEWAY
        assert "at_hash" not in claims
        assert claims.get("token_use") != "id"
    json.dumps(claims, ensure_ascii=False).encode()
    for other in (token + b"=", token + b".", token[:-1], b" " + token, token + b"\n"):
        assert isinstance(VERIFIER.verify_access(other, forge.NOW), Reason)
