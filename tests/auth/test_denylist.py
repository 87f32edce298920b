"""Revocations: their names, what they refuse, and how they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.decision import Allow, Deny
from sidecar.auth.denylist import (
    RevocationKind,
    content_digest,
    is_revoked,
    revocable_token,
    revocation_name,
    revocations_of_token,
)
from sidecar.auth.gate import Gate
from sidecar.auth.identity import IdentityHeaders
from sidecar.auth.keys import KeyRing
from sidecar.auth.need_session import NeedSession
from sidecar.auth.reason import Reason
from sidecar.auth.revocation import (
    EVERYTHING,
    UNREADABLE,
    Revocation,
    decode_revocation,
    encode_revocation,
)
from sidecar.auth.routes import Route
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
from sidecar.auth.verified import SessionMode, Verified
from tests.auth.forge import GONE, ISSUER, NOW, SECRET, request, token, unhurried

if TYPE_CHECKING:
    from sidecar.auth.denylist import RevocableToken

OTHER = "https://other.test"
TOKEN = b"header.payload.signature"
DIGEST = content_digest(TOKEN)
VERIFIER = Verifier(
    [IssuerConfig(issuer=name, session_mode=SessionMode.DENYLIST) for name in (ISSUER, OTHER)],
    KeyRing([secret_key(name, SECRET) for name in (ISSUER, OTHER)]),
)


def verified(**claims: Any) -> Verified:
    """Return a verified token with these changes."""
    found = VERIFIER.verify_access(token(claims), NOW)
    assert isinstance(found, Verified)
    return found


def revocable(**claims: Any) -> RevocableToken:
    """Return that token as a RevocableToken."""
    made = revocable_token(verified(**claims), "id", TOKEN)
    assert made is not None
    return made


def test_names_are_of_a_kind_an_issuer_and_a_value() -> None:
    """Names of different kinds, issuers or values never collide, wherever one part ends."""
    names = {
        revocation_name(kind, issuer, value)
        for kind in RevocationKind
        for issuer in ("a", "ab", "")
        for value in ("b", "", "ab", "a")
    }
    assert len(names) == len(RevocationKind) * 3 * 4
    assert all(len(name) == 64 for name in names)


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        pytest.param({}, 3, id="jti, sid and user"),
        pytest.param({"sid": GONE}, 2, id="no login"),
        pytest.param({"jti": GONE}, 3, id="by its digest"),
        pytest.param({"jti": GONE, "sid": GONE}, 2, id="by its digest, no login"),
    ],
)
def test_what_a_token_is_denied_by(changed: dict[str, Any], number: int) -> None:
    """A token is revoked under its own names and its user's, and not under another issuer's."""
    mine, theirs = revocable(**changed), revocable(**changed, iss=OTHER)
    assert len(mine.names) == number
    ends = revocations_of_token(verified(**changed), DIGEST, NOW)
    assert {*ends, revocation_name(RevocationKind.USER, ISSUER, "alice")} == set(mine.names)
    if "jti" in changed:
        assert revocation_name(RevocationKind.TOKEN, ISSUER, DIGEST.hex()) in mine.names
    assert set(mine.names).isdisjoint(theirs.names)


def test_a_token_is_named_by_what_was_signed() -> None:
    """Another signature under the same content is the same token; another content is not."""
    assert content_digest(b"header.payload.other") == DIGEST
    assert content_digest(b"header.payloae.signature") != DIGEST
    assert content_digest(b"headeq.payload.signature") != DIGEST


def test_how_long_a_token_is_denied() -> None:
    """A token is revoked until it expires, its login as long as another token may be valid."""
    shown = verified(exp=NOW + 900)
    ends = revocations_of_token(shown, DIGEST, NOW + 5000)
    assert ends[revocation_name(RevocationKind.JTI, ISSUER, "t1")].until == shown.expires
    assert ends[revocation_name(RevocationKind.SID, ISSUER, "s1")].until == NOW + 5000
    ends = revocations_of_token(shown, DIGEST, NOW)
    assert ends[revocation_name(RevocationKind.SID, ISSUER, "s1")].until == shown.expires


@pytest.mark.parametrize(
    ("issued", "before", "refused"),
    [
        pytest.param(NOW, NOW + 0.5, True, id="earlier"),
        pytest.param(NOW, NOW, False, id="at that moment"),
        pytest.param(NOW + 1, NOW, False, id="later"),
        pytest.param(GONE, 1.0, True, id="does not say when"),
        pytest.param(NOW + 5, EVERYTHING, True, id="everything"),
    ],
)
def test_before(issued: object, before: float, refused: bool) -> None:  # noqa: FBT001
    """A revocation refuses only what was issued before its time."""
    found = [None, Revocation(before, NOW + 900)]
    assert is_revoked(revocable(iat=issued), found) is refused


def test_only_tokens_of_that_mode_are_claimed() -> None:
    """Tokens of an issuer without a denylist are not revocable."""
    assert revocable_token(None, "id", TOKEN) is None
    for mode in (SessionMode.REQUIRED, SessionMode.NONE):
        config = IssuerConfig(issuer=ISSUER, session_mode=mode)
        found = Verifier([config], KeyRing([secret_key(ISSUER, SECRET)])).verify_access(
            token(), NOW
        )
        assert isinstance(found, Verified)
        assert revocable_token(found, "id", TOKEN) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, EVERYTHING))
def test_it_is_read_as_it_was_written(before: float, until: float) -> None:
    """An encoded revocation decodes to the same numbers."""
    assert decode_revocation(encode_revocation(Revocation(before, until))) == Revocation(
        before, until
    )


@unhurried
@given(st.binary())
def test_what_cannot_be_read_denies(value: bytes) -> None:
    """An unreadable value refuses everything, and nothing is raised."""
    found = decode_revocation(value)
    assert found is UNREADABLE or isinstance(found, Revocation)
    assert decode_revocation(b"x" + value) is UNREADABLE
    assert is_revoked(revocable(), [UNREADABLE])


def test_the_stronger_of_each() -> None:
    """Two revocations of one name are joined into one that covers both."""
    assert Revocation(2.0, 3.0).joined(Revocation(1.0, 4.0)) == Revocation(2.0, 4.0)


def test_the_gate_asks_and_obeys() -> None:
    """The gate allows a revocable token with its session, and denies it as revoked without."""
    gate, route = Gate(VERIFIER, IdentityHeaders()), Route("required")
    need = gate.decide(route, request(b"Bearer " + token()), NOW)
    assert isinstance(need, NeedSession)
    assert need.revocable is not None
    decision = gate.resume(route, need, need.revocable.session, NOW)
    assert isinstance(decision, Allow)
    assert (decision.subject, decision.session_id) == ("alice", "s1")
    assert gate.resume(route, need, need.revocable.session, NOW) is decision
    refused = gate.resume(route, need, None, NOW)
    assert isinstance(refused, Deny)
    assert refused.reason is Reason.REVOKED
    assert "s1" not in repr(need.revocable)
