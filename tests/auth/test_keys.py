"""Keys: which secrets make one, what is published of them, and how a token finds its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.keys import Key, KeyRing, public_jwks
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import Hmac, secret_key
from tests.auth.forge import ISSUER, SECRET, private_key, private_pem, public_pem, sign

if TYPE_CHECKING:
    from collections.abc import Callable

ASYMMETRIC = ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_secret_key(alg: str) -> None:
    """A secret signs and verifies, and has no public half."""
    key = secret_key(ISSUER, SECRET * 2, alg)
    assert key.verify(b"message", key.sign(b"message"))
    assert key.sign(b"message") == sign(b"message", alg, SECRET * 2)
    assert not key.verify(b"message", b"")
    assert not key.verify(b"massage", key.sign(b"message"))
    assert key.can_sign
    assert key.is_symmetric
    assert key.public_jwk() is None


def test_a_secret_that_looks_like_a_key() -> None:
    """Braces, dashes and zeros alone make a secret no key."""
    for secret in (b"{---- thirty-two bytes or more ----}", SECRET + b"\x00", b"ssh-" + SECRET):
        key = secret_key(ISSUER, secret)
        assert key.verify(b"message", sign(b"message", key=secret))


def test_public_key_cannot_sign() -> None:
    """A public key verifies only."""
    public = pem_key(ISSUER, public_pem(private_key("ES256")))
    assert not public.can_sign
    with pytest.raises(ValueError, match="cannot sign"):
        public.sign(b"message")


def test_algorithm_repr() -> None:
    """How a secret signs is shown, the secret is not."""
    assert repr(Hmac("HS384")) == "<Hmac sha384>"


def test_secret_key_id() -> None:
    """A secret's id is the same in every process, different for each secret, and no part of it."""
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
    """A secret that could be guessed, or that everybody has, makes no key."""
    with pytest.raises(ValueError, match=expected):
        make()


def der(alg: str) -> bytes:
    """A public key in DER."""
    public = private_key(alg).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def jwk_text(alg: str) -> bytes:
    """A public key as the text of a JWK."""
    return json.dumps(pem_key(ISSUER, public_pem(private_key(alg))).public_jwk()).encode()


def test_weak_secret() -> None:
    """A short secret is taken when weak ones are allowed."""
    assert secret_key(ISSUER, b"x", allow_weak=True).sign(b"a") == sign(b"a", key=b"x")


def make(kid: str, alg: str = "HS256", issuer: str = ISSUER) -> Key:
    """A key of this name."""
    if alg.startswith("HS"):
        return secret_key(issuer, SECRET * 2, alg, kid=kid)
    return pem_key(issuer, private_pem(private_key(alg)), alg, kid=kid)


RING = KeyRing(
    [
        make("one"),
        make("two"),
        make("rsa", "RS256"),
        make("both", "RS256"),
        make("both", "PS256"),
        make("one", "ES256", "other"),
        make("", "ES256", "files"),
        make("", "HS256", "files"),
        make("named", "ES256", "files"),
        *(make(f"k{n}", "HS256", "many") for n in range(9)),
    ]
)


@pytest.mark.parametrize(
    ("issuer", "kid", "alg", "found"),
    [
        pytest.param(ISSUER, "one", "HS256", ["one"], id="named"),
        pytest.param(ISSUER, "both", "RS256", ["both"], id="one-of-two-algorithms"),
        pytest.param(ISSUER, "both", "PS256", ["both"], id="other-of-two-algorithms"),
        pytest.param(ISSUER, "both", "HS256", Reason.ALGORITHM, id="neither-of-two-algorithms"),
        pytest.param(ISSUER, "rsa", "HS256", Reason.ALGORITHM, id="rsa-key-as-secret"),
        pytest.param(ISSUER, "one", "HS512", Reason.ALGORITHM, id="stronger-algorithm"),
        pytest.param(ISSUER, "three", "HS256", Reason.KEY_UNKNOWN, id="unknown-name"),
        pytest.param(ISSUER, "", "HS256", Reason.KEY_UNKNOWN, id="empty-name"),
        pytest.param(ISSUER, "three", "none", Reason.ALGORITHM, id="no-algorithm"),
        pytest.param(ISSUER, None, "none", Reason.ALGORITHM, id="no-algorithm-no-name"),
        pytest.param(ISSUER, None, "HS256", ["one", "two"], id="no-name"),
        pytest.param(ISSUER, None, "EdDSA", Reason.ALGORITHM, id="no-name-other-algorithm"),
        pytest.param("other", "one", "ES256", ["one"], id="same-name-other-issuer"),
        pytest.param("other", "two", "HS256", Reason.KEY_UNKNOWN, id="name-of-another-issuer"),
        pytest.param("nobody", "one", "HS256", Reason.KEY_UNKNOWN, id="unknown-issuer"),
        pytest.param("nobody", None, "HS256", Reason.KEY_UNKNOWN, id="unknown-issuer-no-name"),
        pytest.param("files", "whatever", "ES256", [""], id="unnamed-key-for-any-name"),
        pytest.param("files", "whatever", "HS512", Reason.ALGORITHM, id="unnamed-other-algorithm"),
        pytest.param("files", "named", "ES256", ["named"], id="named-beside-unnamed"),
        pytest.param("files", "named", "HS256", Reason.ALGORITHM, id="named-does-not-fall-back"),
        pytest.param("files", None, "ES256", ["", "named"], id="all-of-an-issuer"),
        pytest.param("many", None, "HS256", ["k0", "k1", "k2", "k3"], id="no-more-than-four"),
    ],
)
def test_find(issuer: str, kid: str | None, alg: str, found: list[str] | Reason) -> None:
    """A token's issuer, key id and algorithm name its key; what does not fit has its reason."""
    keys = RING.find(issuer, kid, alg)
    assert (keys if isinstance(keys, Reason) else [key.kid for key in keys]) == found


def test_replaced() -> None:
    """Replacing an issuer's keys makes another ring, without the old ones; the first one stays."""
    ring = RING.replaced(ISSUER, [make("new")])
    assert ring.find(ISSUER, "one", "HS256") is Reason.KEY_UNKNOWN
    assert ring.find(ISSUER, "new", "HS256") == [ring.keys[-1]]
    assert ring.find("other", "one", "ES256") == RING.find("other", "one", "ES256")
    assert RING.find(ISSUER, "new", "HS256") is Reason.KEY_UNKNOWN
    assert (RING.generation, ring.generation, ring.replaced("x", []).generation) == (0, 1, 2)
    assert repr(KeyRing()) == "<KeyRing 0 keys, generation 0>"
    assert ring.replaced(ISSUER, []).find(ISSUER, "new", "HS256") is Reason.KEY_UNKNOWN


def test_nothing_private_is_published() -> None:
    """A published document holds no private member and no secret."""
    keys = [pem_key(ISSUER, private_pem(private_key(alg)), alg) for alg in ASYMMETRIC]
    document = json.loads(public_jwks([*keys, secret_key(ISSUER, SECRET)]))
    assert len(document["keys"]) == len(ASYMMETRIC)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & {
        name for key in document["keys"] for name in key
    }
    assert public_jwks([]) == b'{"keys":[]}'
