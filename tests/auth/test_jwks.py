"""JWKS documents: which keys are read from one, and which are put into ours."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.jwks import MAX_KEYS, JwksKeys, jwks_keys
from sidecar.auth.keys import KeyRing, public_jwks
from sidecar.auth.symmetric import secret_key
from tests.auth.forge import GONE, ISSUER, SECRET, b64, private_key, private_pem, sign, unhurried

ALGORITHMS = ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"]


def jwk(alg: str = "ES256", /, **members: Any) -> dict[str, Any]:
    """Return a public key as other issuers publish it, except for the given members."""
    made = pem_key(ISSUER, private_pem(private_key(alg))).public_jwk() or {}
    merged = {**made, "alg": GONE, "kid": "k1", **members}
    return {name: value for name, value in merged.items() if value is not GONE}


def read(*keys: object, algorithms: tuple[str, ...] = ()) -> JwksKeys:
    """Read a document with these keys."""
    return jwks_keys(ISSUER, json.dumps({"keys": keys}).encode(), algorithms)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_round_trip(alg: str) -> None:
    """A key that we publish is read back with the same id and algorithm, and verifies."""
    own = pem_key(ISSUER, private_pem(private_key(alg)), alg)
    secret = secret_key(ISSUER, SECRET)
    found = jwks_keys("another", public_jwks([own, secret]))
    (key,) = found.keys
    assert found.refused == ()
    assert (key.issuer, key.kid, key.alg, key.can_sign) == ("another", own.kid, alg, False)
    assert key.verify(b"message", own.sign(b"message"))


@pytest.mark.parametrize(
    ("members", "algorithms", "alg"),
    [
        pytest.param({}, (), "RS256", id="usual"),
        pytest.param({"alg": "PS256"}, (), "PS256", id="own"),
        pytest.param({}, ("ES256", "PS384", "RS512"), "PS384", id="first-configured-that-fits"),
        pytest.param({"alg": "RS512"}, ("RS256", "RS512"), "RS512", id="own-among-configured"),
        pytest.param({"alg": "RS256"}, ("RS512",), None, id="own-not-configured"),
        pytest.param({}, ("ES256",), None, id="none-configured-fits"),
        pytest.param({"alg": "ES256"}, (), None, id="own-does-not-fit"),
        pytest.param({"alg": "HS256"}, (), None, id="secret"),
        pytest.param({"alg": "HS256"}, ("HS256",), None, id="secret-configured"),
        pytest.param({"alg": "none"}, (), None, id="none"),
        pytest.param({"alg": ""}, (), None, id="empty"),
        pytest.param({"alg": None}, (), None, id="null"),
        pytest.param({"alg": ["RS256"]}, (), None, id="list"),
        pytest.param({"alg": "RSA-OAEP"}, (), None, id="encryption"),
    ],
)
def test_one_algorithm(
    members: dict[str, Any], algorithms: tuple[str, ...], alg: str | None
) -> None:
    """A key gets the algorithm that it states if configured, or else the first that fits."""
    found = read(jwk("RS256", **members), algorithms=algorithms)
    assert [key.alg for key in found.keys] == ([] if alg is None else [alg])
    assert bool(found.refused) is (alg is None)


@pytest.mark.parametrize(
    ("curve", "stated", "algorithms", "alg"),
    [
        pytest.param("Ed25519", GONE, (), "EdDSA", id="usual"),
        pytest.param("Ed25519", "Ed25519", (), "Ed25519", id="own"),
        pytest.param("Ed448", "Ed448", (), "Ed448", id="own-ed448"),
        pytest.param("Ed25519", "Ed448", (), None, id="of-another-curve"),
        pytest.param("Ed25519", GONE, ("RS256", "Ed25519"), "Ed25519", id="configured"),
        pytest.param("Ed25519", "Ed25519", ("EdDSA",), "Ed25519", id="eddsa-is-both"),
        pytest.param("Ed448", "Ed448", ("EdDSA",), "Ed448", id="eddsa-is-both-ed448"),
        pytest.param("Ed448", GONE, ("Ed25519",), None, id="another-curve-configured"),
        pytest.param("Ed25519", "EdDSA", ("Ed25519",), None, id="only-the-new-name-configured"),
    ],
)
def test_names_of_edwards_curves(
    curve: str, stated: object, algorithms: tuple[str, ...], alg: str | None
) -> None:
    """A key on an Edwards curve may state either name of its algorithm (RFC 9864)."""
    found = read(jwk(curve, alg=stated), algorithms=algorithms)
    assert [key.alg for key in found.keys] == ([] if alg is None else [alg])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("x", "a JSON object", id="text"),
        pytest.param(None, "a JSON object", id="null"),
        pytest.param({}, "an RSA, EC or OKP key", id="nothing"),
        pytest.param(
            {"kty": "oct", "k": b64(SECRET).decode()}, "an RSA, EC or OKP key", id="secret"
        ),
        pytest.param(jwk(kty=["EC"]), "an RSA, EC or OKP key", id="type-is-a-list"),
        pytest.param(jwk(kty="RSA"), "that make up an RSA key", id="members-of-another-type"),
        pytest.param(jwk(d="AA"), "a public key", id="private"),
        pytest.param(jwk(use="enc"), "verifying signatures", id="use-encryption"),
        pytest.param(jwk(use=None), "verifying signatures", id="use-null"),
        pytest.param(jwk(use=GONE, key_ops=["sign"]), "verifying signatures", id="operation-sign"),
        pytest.param(jwk(key_ops="verify"), "verifying signatures", id="operations-as-text"),
        pytest.param(jwk(key_ops=[]), "verifying signatures", id="no-operations"),
        pytest.param(jwk(kid=7), "a string as key id", id="name-is-a-number"),
        pytest.param(jwk(kid=None), "a string as key id", id="name-is-null"),
        pytest.param(jwk(x=GONE), "that make up an EC key", id="member-missing"),
        pytest.param(jwk(x=7), "that make up an EC key", id="member-is-a-number"),
        pytest.param(jwk(x="!"), "that make up an EC key", id="member-is-not-base64"),
        pytest.param(jwk(x="ä"), "that make up an EC key", id="member-is-not-ascii"),
        pytest.param(
            jwk(x=b64(bytes(32)).decode()), "that make up an EC key", id="not-on-the-curve"
        ),
        pytest.param(jwk(crv="P-384"), "that make up an EC key", id="another-curve"),
        pytest.param(jwk(crv="P-192"), "that make up an EC key", id="unknown-curve"),
        pytest.param(jwk("EdDSA", crv="X25519"), "that make up an OKP key", id="key-agreement"),
        pytest.param(jwk("EdDSA", x="AA"), "that make up an OKP key", id="ed25519-too-short"),
        pytest.param(jwk("RS256", e="AA"), "that make up an RSA key", id="exponent-zero"),
        pytest.param(jwk("RS256", n="Aw"), "", id="tiny-modulus"),
        pytest.param(
            {"kty": "RSA", "e": "AQAB", "n": b64(b"\xff" * 128).decode()},
            "2048 to 8192 bits",
            id="rsa-1024",
        ),
        pytest.param(
            {"kty": "RSA", "e": "AQAB", "n": b64(b"\xff" * 2048).decode()},
            "2048 to 8192 bits",
            id="rsa-16384",
        ),
    ],
)
def test_refused_key(key: object, expected: str) -> None:
    """An unusable key is left out with a message; the other keys are still used."""
    found = read(jwk(kid="before"), key, jwk("RS256", kid="after"))
    assert [good.kid for good in found.keys] == ["before", "after"]
    (refused,) = found.refused
    assert refused.startswith("key 2: expected ")
    assert expected in refused


def test_secp256k1_is_refused() -> None:
    """A curve without a supported algorithm is refused, even if the library knows it."""
    public = private_key("ES256K").public_key().public_numbers()  # type: ignore[union-attr]  # EC
    x, y = (b64(number.to_bytes(32)).decode() for number in (public.x, public.y))  # type: ignore[union-attr]
    found = read({"kty": "EC", "crv": "secp256k1", "x": x, "y": y})
    (refused,) = found.refused
    assert refused.startswith("key 1: expected an RSA key, an EC key on P-256, P-384 or P-521")


def test_names() -> None:
    """Keys under one id are all used, because some issuers reuse an id; so are keys without one."""
    found = read(
        jwk(kid="a"), jwk("ES384", kid="a"), jwk(kid="a"), jwk(kid=GONE), jwk(kid=GONE), jwk(kid="")
    )
    assert [(key.kid, key.alg) for key in found.keys] == [
        *(("a", "ES256"), ("a", "ES384"), ("a", "ES256")),
        *(("", "ES256"), ("", "ES256"), ("", "ES256")),
    ]
    assert found.refused == ()
    ring = KeyRing(found.keys)
    assert ring.find(found.keys[0].issuer, "a", "ES256") == [found.keys[0], found.keys[2]]


def test_operations() -> None:
    """A key is used if its operations include verifying, or if it states none."""
    found = read(jwk(use=GONE, key_ops=["verify"]), jwk("ES384", use=GONE))
    assert [key.alg for key in found.keys] == ["ES256", "ES384"]


def test_certificates_and_addresses_are_ignored() -> None:
    """The x5c and x5u members of a key are ignored."""
    (key,) = read(jwk(x5c=["!"], x5u="http://evil.test/", x5t=7)).keys
    assert key.verify(b"message", sign(b"message", "ES256"))


def test_too_many_keys() -> None:
    """Only the first hundred keys of a document are read."""
    found = read(*({"kty": "oct"} for _ in range(MAX_KEYS)), jwk(), jwk())
    assert found.keys == ()
    assert len(found.refused) == MAX_KEYS + 1
    assert found.refused[-1] == "key 101: expected at most 100 keys"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no-keys"),
        pytest.param(b'{"keys": {}}', id="keys-are-an-object"),
        pytest.param(b'{"keys": [], "keys": []}', id="keys-twice"),
        pytest.param('{"keys": []}'.encode("utf-16"), id="utf-16"),
    ],
)
def test_no_document(document: bytes) -> None:
    """A document that is not a JWK set raises ValueError instead of giving an empty set."""
    with pytest.raises(ValueError, match="a JWK set"):
        jwks_keys(ISSUER, document)


def test_empty_document() -> None:
    """A set without keys is valid, and removes all keys."""
    assert read() == JwksKeys((), ())


MEMBERS = (
    st.none() | st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=5), max_size=2)
)


@unhurried
@given(
    st.sampled_from(["RS256", "ES256", "EdDSA"]),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "d"]),
        MEMBERS,
    ),
)
def test_any_key_is_taken_or_refused(alg: str, members: dict[str, object]) -> None:
    """Any members of a key give a usable or refused key, and raise nothing."""
    found = jwks_keys(ISSUER, msgspec.json.encode({"keys": [jwk(alg) | members]}))
    assert len(found.keys) + len(found.refused) == 1
