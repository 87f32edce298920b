"""Symmetric keys: which secrets make a key, and what its id reveals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.symmetric import Hmac, secret_key
from tests.auth.forge import ISSUER, SECRET, private_key, private_pem, public_pem, sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.keys import Key


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_secret_key(alg: str) -> None:
    """A secret signs and verifies, and has no public key."""
    key = secret_key(ISSUER, SECRET * 2, alg)
    assert key.verify(b"message", key.sign(b"message"))
    assert key.sign(b"message") == sign(b"message", alg, SECRET * 2)
    assert not key.verify(b"message", b"")
    assert not key.verify(b"massage", key.sign(b"message"))
    assert key.can_sign
    assert key.is_symmetric
    assert key.public_jwk() is None


def test_a_secret_that_looks_like_a_key() -> None:
    """Braces, dashes and NUL bytes alone do not make a secret an asymmetric key."""
    for secret in (b"{---- thirty-two bytes or more ----}", SECRET + b"\x00", b"ssh-" + SECRET):
        key = secret_key(ISSUER, secret)
        assert key.verify(b"message", sign(b"message", key=secret))


def test_algorithm_repr() -> None:
    """The repr of an algorithm shows its hash, and no secret."""
    assert repr(Hmac("HS384")) == "<Hmac sha384>"


def test_secret_key_id() -> None:
    """The id of a secret is the same in every process, unique, and not a part of the secret."""
    first, other = secret_key(ISSUER, SECRET), secret_key(ISSUER, SECRET[::-1])
    assert first.kid == secret_key("another", SECRET).kid != other.kid
    assert len(first.kid) == 16
    assert secret_key(ISSUER, SECRET, kid="mine").kid == "mine"
    assert repr(first) == f"<Key HS256 kid={first.kid!r} of {ISSUER!r}>"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: secret_key(ISSUER, b"x" * 31), "at least 32 bytes", id="short"),
        pytest.param(
            lambda: secret_key(ISSUER, b"x" * 47, "HS384"), "at least 48", id="short-for-hs384"
        ),
        pytest.param(
            lambda: secret_key(ISSUER, b"x" * 63, "HS512"), "at least 64", id="short-for-hs512"
        ),
        pytest.param(lambda: secret_key(ISSUER, b"", allow_weak=True), "neither empty", id="empty"),
        pytest.param(lambda: secret_key(ISSUER, SECRET, "RS256"), "one of HS256", id="algorithm"),
        pytest.param(lambda: secret_key(ISSUER, SECRET, "none"), "one of HS256", id="none"),
        pytest.param(
            lambda: secret_key(ISSUER, public_pem(private_key("RS256"))), "asymmetric", id="pem"
        ),
        pytest.param(
            lambda: secret_key(ISSUER, private_pem(private_key("ES256"))),
            "asymmetric",
            id="private",
        ),
        pytest.param(lambda: secret_key(ISSUER, der("RS256")), "asymmetric", id="der"),
        pytest.param(lambda: secret_key(ISSUER, jwk_text("RS256")), "JWK", id="jwk"),
        pytest.param(
            lambda: secret_key(ISSUER, b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7"),
            "asymmetric",
            id="ssh",
        ),
    ],
)
def test_refused_secret(make: Callable[[], Key], expected: str) -> None:
    """A secret that can be guessed, or is a public key, is refused."""
    with pytest.raises(ValueError, match=expected):
        make()


def der(alg: str) -> bytes:
    """Return a public key in DER."""
    public = private_key(alg).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def jwk_text(alg: str) -> bytes:
    """Return a public key as the text of a JWK."""
    return json.dumps(pem_key(ISSUER, public_pem(private_key(alg))).public_jwk()).encode()


def test_weak_secret() -> None:
    """A short secret is accepted if weak ones are allowed."""
    assert secret_key(ISSUER, b"x", allow_weak=True).sign(b"a") == sign(b"a", key=b"x")
