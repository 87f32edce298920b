"""Keys and the key ring: what is published, and how the key of a token is found."""

from __future__ import annotations

import json

import pytest

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.keys import Key, KeyRing, public_jwks
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from tests.auth.forge import ISSUER, SECRET, private_key, private_pem, public_pem

ASYMMETRIC = ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def test_a_key_signs_and_verifies() -> None:
    """A key with its private key or secret signs what it verifies, and nothing else."""
    for key, symmetric in ((make("one"), True), (make("two", "ES256"), False)):
        assert (key.can_sign, key.is_symmetric) == (True, symmetric)
        assert key.verify(b"message", key.sign(b"message"))
        assert not key.verify(b"massage", key.sign(b"message"))


def test_public_key_cannot_sign() -> None:
    """A public key verifies signatures, and raises ValueError when it should sign."""
    public = pem_key(ISSUER, public_pem(private_key("ES256")))
    assert not public.can_sign
    with pytest.raises(ValueError, match="cannot sign"):
        public.sign(b"message")


def make(kid: str, alg: str = "HS256", issuer: str = ISSUER) -> Key:
    """Make a key with this id."""
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
    """Issuer, key id and algorithm of a token find its keys, or give the reason why not."""
    keys = RING.find(issuer, kid, alg)
    assert (keys if isinstance(keys, Reason) else [key.kid for key in keys]) == found


def test_replaced() -> None:
    """Replacing an issuer's keys makes a new ring without the old keys, and keeps the first."""
    ring = RING.replaced(ISSUER, [make("new")])
    assert ring.find(ISSUER, "one", "HS256") is Reason.KEY_UNKNOWN
    assert ring.find(ISSUER, "new", "HS256") == [ring.keys[-1]]
    assert ring.find("other", "one", "ES256") == RING.find("other", "one", "ES256")
    assert RING.find(ISSUER, "new", "HS256") is Reason.KEY_UNKNOWN
    assert (RING.generation, ring.generation, ring.replaced("x", []).generation) == (0, 1, 2)
    assert repr(KeyRing()) == "<KeyRing 0 keys, generation 0>"
    assert ring.replaced(ISSUER, []).find(ISSUER, "new", "HS256") is Reason.KEY_UNKNOWN


def test_nothing_private_is_published() -> None:
    """A published document has no private member and no shared secret."""
    keys = [pem_key(ISSUER, private_pem(private_key(alg)), alg) for alg in ASYMMETRIC]
    document = json.loads(public_jwks([*keys, secret_key(ISSUER, SECRET)]))
    assert len(document["keys"]) == len(ASYMMETRIC)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & {
        name for key in document["keys"] for name in key
    }
    assert public_jwks([]) == b'{"keys":[]}'


def test_secret_issuers() -> None:
    """An algorithm names the issuer whose secret verifies it, unless several have one."""
    secret = b"x" * 64
    a, b = secret_key("a", secret), secret_key("b", secret)
    assert KeyRing([a, secret_key("a", secret, kid="old")]).secret_issuers == {"HS256": "a"}
    assert KeyRing([a, b]).secret_issuers == {}
    strong = secret_key("b", secret, "HS512")
    assert KeyRing([a, strong]).secret_issuers == {"HS256": "a", "HS512": "b"}
    ring = KeyRing([a, pem_key("b", public_pem(private_key("RS256")))])
    assert ring.secret_issuers == ring.replaced("b", []).secret_issuers == {"HS256": "a"}
