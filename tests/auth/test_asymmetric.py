"""Keys from PEM: which ones are accepted, for which algorithm, and with which id."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from sidecar.auth.asymmetric import is_key, pem_key, thumbprint
from sidecar.auth.keys import ALGORITHMS
from tests.auth.forge import ISSUER, SECRET, private_key, private_pem, public_pem, sign

ASYMMETRIC = sorted(ALGORITHMS - {"HS256", "HS384", "HS512"})


@pytest.mark.parametrize("alg", ASYMMETRIC)
def test_asymmetric_key(alg: str) -> None:
    """Both halves of a key verify what the private half signs; only the private half signs."""
    pair = private_key(alg)
    private, public = (
        pem_key(ISSUER, private_pem(pair), alg),
        pem_key(ISSUER, public_pem(pair), alg),
    )
    signature = private.sign(b"message")
    for key in (private, public):
        assert key.verify(b"message", signature)
        assert key.verify(b"message", sign(b"message", alg))
        assert not key.verify(b"massage", signature)
        assert not key.verify(b"message", signature[:-1])
        assert not key.verify(b"message", bytes(len(signature)))
        assert not key.verify(b"message", b"")
        assert not key.is_symmetric
    assert (private.can_sign, public.can_sign) == (True, False)
    assert private.kid == public.kid
    with pytest.raises(ValueError, match="cannot sign"):
        public.sign(b"message")


@pytest.mark.parametrize(
    ("alg", "usual"),
    [
        pytest.param("RS256", "RS256", id="rsa"),
        pytest.param("ES256", "ES256", id="p-256"),
        pytest.param("ES384", "ES384", id="p-384"),
        pytest.param("ES512", "ES512", id="p-521"),
        pytest.param("EdDSA", "EdDSA", id="ed25519"),
        pytest.param("Ed448", "EdDSA", id="ed448"),
    ],
)
def test_usual_algorithm(alg: str, usual: str) -> None:
    """A key without a given algorithm gets the usual one for its type."""
    key = pem_key(ISSUER, private_pem(private_key(alg)))
    assert key.alg == usual
    assert key.verify(b"message", key.sign(b"message"))


@pytest.mark.parametrize(
    ("alg", "as_alg"),
    [
        pytest.param("RS256", "ES256", id="rsa-as-ec"),
        pytest.param("RS256", "HS256", id="rsa-as-secret"),
        pytest.param("RS256", "none", id="rsa-as-none"),
        pytest.param("ES256", "ES384", id="curve-of-another"),
        pytest.param("ES256", "EdDSA", id="ec-as-ed"),
        pytest.param("EdDSA", "RS256", id="ed-as-rsa"),
        pytest.param("Ed25519", "Ed448", id="ed25519-as-ed448"),
        pytest.param("Ed448", "Ed25519", id="ed448-as-ed25519"),
    ],
)
def test_algorithm_that_does_not_fit(alg: str, as_alg: str) -> None:
    """A key is refused with an algorithm of another key type, and with HMAC."""
    for pem in (private_pem(private_key(alg)), public_pem(private_key(alg))):
        with pytest.raises(ValueError, match="for a key of this type"):
            pem_key(ISSUER, pem, as_alg)


@pytest.mark.parametrize(
    ("alg", "names"),
    [
        pytest.param("Ed25519", ("EdDSA", "Ed25519"), id="ed25519"),
        pytest.param("Ed448", ("EdDSA", "Ed448"), id="ed448"),
        pytest.param("RS256", ("RS256",), id="rsa"),
        pytest.param("ES384", ("ES384",), id="ec"),
    ],
)
def test_names_of_an_algorithm(alg: str, names: tuple[str, ...]) -> None:
    """Only the algorithms of RFC 9864 have two names, whichever of them a key is made for."""
    for name in names:
        key = pem_key(ISSUER, private_pem(private_key(alg)), name)
        assert (key.alg, key.names) == (name, names)
        jwk = key.public_jwk()
        assert jwk is not None
        assert jwk["alg"] == name


def weak_pem() -> bytes:
    """Return a private key that is too short, in PEM."""
    return private_pem(rsa.generate_private_key(65537, 1024))  # noqa: S505 - the point of it


def encrypted_pem() -> bytes:
    """Return a private key in PEM that is protected by a passphrase."""
    return private_key("ES256").private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize(
    ("pem", "expected"),
    [
        pytest.param(b"", "in PEM", id="empty"),
        pytest.param(
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "in PEM", id="broken"
        ),
        pytest.param(SECRET, "in PEM", id="secret"),
        pytest.param(encrypted_pem(), "without a passphrase", id="encrypted"),
        pytest.param(weak_pem(), "2048 to 8192 bits", id="rsa-1024"),
        pytest.param(private_pem(private_key("ES256K")), "P-256, P-384 or P-521", id="secp256k1"),
        pytest.param(
            dsa.generate_private_key(2048)
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "an RSA key, an EC key",
            id="dsa",
        ),
        pytest.param(
            x25519.X25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "an RSA key, an EC key",
            id="x25519",
        ),
    ],
)
def test_refused_pem(pem: bytes, expected: str) -> None:
    """Anything except a usable key in PEM is refused with a message."""
    with pytest.raises(ValueError, match=expected):
        pem_key(ISSUER, pem)


def test_thumbprint() -> None:
    """The thumbprint of the key in RFC 7638 section 3.1 is the one given there."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP"
        "ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY"
        "368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f"
        "M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_public_jwk() -> None:
    """A published key has its id, algorithm and use, and no private member."""
    key = pem_key(ISSUER, private_pem(private_key("ES256")))
    jwk = key.public_jwk()
    assert jwk is not None
    assert jwk.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (jwk["alg"], jwk["use"], jwk["kid"]) == ("ES256", "sig", thumbprint(jwk))


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        pytest.param(public_pem(private_key("ES256")), True, id="pem"),
        pytest.param(b"---- a secret {that} looks like one ----", False, id="looks-like-pem"),
        pytest.param(b'{"kty": "oct", "k": "AAAA"}', True, id="jwk"),
        pytest.param(b'{"a": "secret"}', False, id="object"),
        pytest.param(b"ecdsa-sha2-nistp256 AAAA", True, id="ssh"),
        pytest.param(b"ssh-something else", False, id="looks-like-ssh"),
        pytest.param(b"a\x00b", False, id="looks-like-der"),
    ],
)
def test_is_key(secret: bytes, key: bool) -> None:  # noqa: FBT001
    """A key is recognised in any format, and a text that only resembles one is not a key."""
    assert is_key(secret) is key
