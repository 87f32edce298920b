"""Which of a provider's tokens are access tokens: those of real providers, whole and verified."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.keys import KeyRing
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from sidecar.auth.token_kind import find_other_kind
from sidecar.auth.tokens import ACCESS_TYPES, FOREIGN_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import Verified
from tests.auth.forge import GONE, ISSUER, SECRET, token
from tests.auth.providers import ACCESS_TOKENS, ID_TOKENS, LOGOUT, OTHER_TOKENS, Issued

ALL = (*ACCESS_TOKENS, *ID_TOKENS, *OTHER_TOKENS)


def by_name(*issued: Issued) -> list[Any]:
    """Return these tokens as parameters."""
    return [pytest.param(each, id=each.name) for each in issued]


def verify(issued: Issued, **config: Any) -> Verified | Reason:
    """Verify a provider's token with its own dates and an audience of this application."""
    settings: dict[str, Any] = {"types": FOREIGN_TYPES, "foreign": True, **config}
    verifier = Verifier(
        [IssuerConfig(issuer=ISSUER, **settings)], KeyRing([secret_key(ISSUER, SECRET, kid="k1")])
    )
    gone = dict.fromkeys(("roles", "scope", "sid", "nbf", *issued.gone), GONE)
    header = {"typ": GONE if issued.typ is None else issued.typ, "kid": "k1"}
    return verifier.verify_access(token({**gone, **issued.claims}, header), 1_800_000_000)


@pytest.mark.parametrize("issued", by_name(*ACCESS_TOKENS))
def test_access_tokens(issued: Issued) -> None:
    """An access token of each provider is accepted."""
    found = verify(issued)
    assert isinstance(found, Verified)
    assert found.subject == found.user == issued.claims["sub"]


@pytest.mark.parametrize("issued", by_name(*ID_TOKENS, *OTHER_TOKENS))
def test_other_tokens(issued: Issued) -> None:
    """Every other token of a provider is refused with the reason of its kind."""
    assert verify(issued) is issued.kind


@pytest.mark.parametrize("issued", by_name(*ACCESS_TOKENS, *ID_TOKENS))
def test_id_tokens_by_choice(issued: Issued) -> None:
    """An issuer whose ID tokens are accepted has both kinds accepted."""
    assert isinstance(verify(issued, id_tokens=True), Verified)


@pytest.mark.parametrize("issued", by_name(*OTHER_TOKENS))
def test_by_choice_only_id_tokens(issued: Issued) -> None:
    """That choice lets no logout token and no refresh token in."""
    assert verify(issued, id_tokens=True) is issued.kind


def test_the_kind_is_said_first() -> None:
    """A logout token and an ID token for another client are called what they are."""
    for kind, claims in (
        (Reason.LOGOUT_TOKEN, {"events": LOGOUT, "aud": "other", "exp": GONE, "sub": GONE}),
        (Reason.ID_TOKEN, {"nonce": "n", "aud": "other"}),
    ):
        issued = Issued("", claims, kind)
        assert verify(issued, audiences=frozenset(("app",))) is kind


def test_own_tokens_are_not_guessed_at() -> None:
    """A claim of a user here cannot turn an own access token into another kind."""
    for claims in ({"nonce": "n"}, {"at_hash": "h"}, {"type": "id"}, {"events": LOGOUT}):
        issued = Issued("", {"sub": "alice", **claims}, typ="at+jwt")
        assert isinstance(verify(issued, types=ACCESS_TYPES, foreign=False), Verified)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"typ": 7, "token_use": ["id"], "type": None}, id="kinds-of-other-types"),
        pytest.param({"type": "customer", "typ": "session"}, id="words-of-the-application"),
        pytest.param({"events": {}}, id="no-events"),
        pytest.param({"events": ["x"]}, id="a-list-of-events"),
        pytest.param({"events": {"attended": 3}}, id="events-of-the-application"),
        pytest.param({"tid": "acme"}, id="another-tid"),
        pytest.param({"ver": "2.0"}, id="another-version"),
        pytest.param({"ver": [1], "tid": "acme"}, id="a-version-of-another-type"),
    ],
)
def test_claims_of_the_application(claims: dict[str, Any]) -> None:
    """Claims that only look like those of another kind are no reason to refuse a token."""
    assert find_other_kind(claims) is None
