"""Valid tokens and their claims, dates, audiences, issuers and types.

The attacks are in `test_token_attacks`.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.claim_checks import MAX_DATE
from sidecar.auth.credentials import MAX_TOKEN
from sidecar.auth.keys import ALGORITHMS, KeyRing, with_names
from sidecar.auth.reason import Reason
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import FOREIGN_TYPES, REFRESH_TYPES, IssuerConfig, Verifier
from sidecar.auth.verified import SessionMode, Verified
from sidecar.claim_path import ClaimPath
from tests.auth.forge import (
    AUDIENCE,
    CLAIMS,
    GONE,
    ISSUER,
    NOW,
    REFRESH_SECRET,
    SECRET,
    b64,
    private_key,
    private_pem,
    public_pem,
    raw_token,
    token,
    unhurried,
)

OWN = IssuerConfig(issuer=ISSUER, audiences=frozenset((AUDIENCE,)))
REFRESH = IssuerConfig(issuer=ISSUER, audiences=frozenset((AUDIENCE,)), types=REFRESH_TYPES)
VERIFIER = Verifier(
    [
        OWN,
        IssuerConfig(issuer="", types=FOREIGN_TYPES, session_mode=SessionMode.NONE),
        IssuerConfig(issuer="foreign", types=FOREIGN_TYPES, algorithms=frozenset(("ES256",))),
        IssuerConfig(issuer="nokeys", algorithms=frozenset(("RS256",))),
    ],
    KeyRing(
        [
            secret_key(ISSUER, SECRET, kid="k1"),
            secret_key("", SECRET, kid=""),
            pem_key("foreign", public_pem(private_key("ES256")), kid="f1"),
            pem_key("foreign", public_pem(private_key("RS256")), kid="f2"),
        ]
    ),
    REFRESH,
    KeyRing([secret_key(ISSUER, REFRESH_SECRET)]),
    leeway=5,
)


def verify(raw: bytes, now: float = NOW) -> Verified | Reason:
    """Verify an access token."""
    return VERIFIER.verify_access(raw, now)


def test_good_token() -> None:
    """A valid token gives user, login, permissions and times, including the leeway."""
    raw = token()
    found = verify(raw)
    assert isinstance(found, Verified)
    assert found.claims == CLAIMS
    assert found == Verified(
        issuer=ISSUER,
        local=True,
        subject="alice",
        user="alice",
        session_id="s1",
        jti="t1",
        roles=("user",),
        scopes=("read", "write"),
        payload=urlsafe_b64decode(raw.split(b".")[1] + b"=="),
        expires=NOW + 905,
        not_before=NOW - 5,
        issued=CLAIMS["iat"],
        session_mode=SessionMode.REQUIRED,
    )


def test_least_token() -> None:
    """Only issuer, subject and expiry are required, and an audience if one is configured."""
    claims = dict.fromkeys(("aud", "sid", "jti", "iat", "nbf", "roles", "scope"), GONE)
    least = verify(token({**claims, "iss": "foreign"}, alg="ES256"))
    assert isinstance(least, Verified)
    assert (least.session_id, least.jti, least.roles, least.scopes) == ("", "", (), ())
    assert least.not_before == -5


def test_claims_are_not_shown() -> None:
    """The repr of a verified token shows only subject and issuer."""
    assert "secret" not in repr(verify(token({"x": "secret"})))
    assert repr(VERIFIER).startswith(f"<Verifier ['{ISSUER}', '', 'foreign', 'nokeys'] <KeyRing 4")


@pytest.mark.parametrize("alg", sorted(ALGORITHMS))
def test_every_algorithm(alg: str) -> None:
    """Every algorithm verifies with its own key, and with no other."""
    if alg.startswith("HS"):
        key = secret_key(ISSUER, SECRET * 2, alg)
        raw = token(alg=alg, key=SECRET * 2)
    else:
        key = pem_key(ISSUER, private_pem(private_key(alg)), alg)
        raw = token(alg=alg)
    verifier = Verifier([OWN], KeyRing([key]))
    assert isinstance(verifier.verify_access(raw, NOW), Verified)
    head, _, signature = raw.rpartition(b".")
    changed = head + b"." + (b"A" if signature[:1] != b"A" else b"B") + signature[1:]
    assert verifier.verify_access(changed, NOW) is Reason.SIGNATURE


def test_several_secrets() -> None:
    """Tokens of the previous secret are accepted, with and without a key id."""
    current, previous = secret_key(ISSUER, SECRET), secret_key(ISSUER, REFRESH_SECRET)
    verifier = Verifier([OWN], KeyRing([current, previous]))
    for key, secret in ((current, SECRET), (previous, REFRESH_SECRET)):
        for kid in (key.kid, GONE):
            raw = token(header={"kid": kid}, key=secret)
            assert isinstance(verifier.verify_access(raw, NOW), Verified)
    crossed = token(header={"kid": current.kid}, key=REFRESH_SECRET)
    assert verifier.verify_access(crossed, NOW) is Reason.SIGNATURE
    unknown = token(key=b"x" * 32)
    assert verifier.verify_access(unknown, NOW) is Reason.SIGNATURE


@pytest.mark.parametrize(
    ("claims", "now", "reason"),
    [
        pytest.param({}, NOW + 904.9, None, id="in-the-leeway"),
        pytest.param({}, NOW + 905, Reason.EXPIRED, id="after-the-leeway"),
        pytest.param({"exp": 0}, NOW, Reason.EXPIRED, id="expiry-zero"),
        pytest.param({"exp": -1}, NOW, Reason.EXPIRED, id="expiry-negative"),
        pytest.param({"exp": NOW + 0.5}, NOW, None, id="expiry-not-whole"),
        pytest.param({"exp": MAX_DATE}, NOW, None, id="expiry-latest"),
        pytest.param({}, NOW - 5, None, id="before-but-in-the-leeway"),
        pytest.param({}, NOW - 5.1, Reason.NOT_YET_VALID, id="before"),
        pytest.param({"nbf": NOW + 6}, NOW, Reason.NOT_YET_VALID, id="not-before"),
        pytest.param({"nbf": MAX_DATE}, NOW, Reason.NOT_YET_VALID, id="not-before-latest"),
        pytest.param({"nbf": GONE}, NOW - 1000, None, id="no-not-before"),
        pytest.param({"iat": NOW + 1000}, NOW, None, id="issued-later-with-a-session"),
    ],
)
def test_dates(claims: dict[str, Any], now: float, reason: Reason | None) -> None:
    """A token is valid from `nbf` to `exp`, plus the leeway on both sides."""
    found = verify(token(claims), now)
    assert (found if isinstance(found, Reason) else None) is reason


@pytest.mark.parametrize(
    ("foreign", "mode", "checked"),
    [
        pytest.param(False, SessionMode.REQUIRED, False, id="own-with-session"),
        pytest.param(False, SessionMode.DENYLIST, True, id="own-denylist"),
        pytest.param(False, SessionMode.NONE, True, id="own-none"),
        pytest.param(True, SessionMode.REQUIRED, True, id="foreign-with-session"),
        pytest.param(True, SessionMode.DENYLIST, True, id="foreign-denylist"),
        pytest.param(True, SessionMode.NONE, True, id="foreign-none"),
    ],
)
def test_issued_in_the_future(foreign: bool, mode: SessionMode, checked: bool) -> None:  # noqa: FBT001
    """A token is valid from its `iat` on, except an own one whose session says when it began."""
    config = IssuerConfig(issuer=ISSUER, foreign=foreign, session_mode=mode)
    verifier = Verifier([config], KeyRing([secret_key(ISSUER, SECRET)]), leeway=5)
    late = token({"iat": NOW + 5.5})
    refused = Reason.NOT_YET_VALID if checked else None
    found = verifier.verify_access(late, NOW)
    assert (found if isinstance(found, Reason) else None) is refused
    soon = verifier.verify_access(late, NOW + 0.5)
    assert isinstance(soon, Verified)
    assert soon.not_before == (NOW + 0.5 if checked else NOW - 5)
    earlier = verifier.verify_access(token({"nbf": NOW - 60}), NOW)
    assert isinstance(earlier, Verified)
    assert earlier.not_before == (NOW - 5 if checked else NOW - 65)


def test_a_clock_that_is_ahead() -> None:
    """How far an issuer's clock is ahead is the most that its tokens showed, by issuer."""
    verifier = Verifier(
        [
            IssuerConfig(issuer=name, foreign=True, session_mode=SessionMode.DENYLIST)
            for name in (ISSUER, "other")
        ],
        KeyRing([secret_key(name, SECRET) for name in (ISSUER, "other")]),
        leeway=5,
    )
    for iat, ahead in ((NOW - 60, 0), (GONE, 0), (NOW + 2.5, 2.5), (NOW + 1, 2.5), (NOW + 6, 2.5)):
        verifier.verify_access(token({"iat": iat}), NOW)
        assert verifier.clock_ahead(ISSUER) == ahead
    verifier.verify_access(token({"iat": NOW + 4}, key=b"forged" * 6), NOW)
    assert (verifier.clock_ahead(ISSUER), verifier.clock_ahead("other")) == (2.5, 0)


EMAIL = ClaimPath("email")
NAMED = {"preferred_username": "root", "name": "Root", "email": "a@example.org"}


@pytest.mark.parametrize(
    ("config", "claims", "user"),
    [
        pytest.param({}, NAMED, "root", id="own"),
        pytest.param({}, {}, "alice", id="own-without-a-name"),
        pytest.param({"foreign": True}, NAMED, "alice", id="foreign"),
        pytest.param({"foreign": True, "user_claim": EMAIL}, NAMED, "a@example.org", id="chosen"),
        pytest.param(
            {"foreign": True, "user_claim": ClaimPath("sub")}, NAMED, "alice", id="subject-chosen"
        ),
        pytest.param(
            {"foreign": True, "user_claim": EMAIL}, {}, Reason.CLAIM_MISSING, id="missing"
        ),
        *(
            pytest.param(
                {"foreign": True, "user_claim": EMAIL},
                {"email": value},
                Reason.CLAIM_INVALID,
                id=f"chosen-{value!r:.20}",
            )
            for value in ("", 7, True, ["a"], {"a": 1}, "a\nb", "x" * 256)
        ),
    ],
)
def test_user(config: dict[str, Any], claims: dict[str, Any], user: str | Reason) -> None:
    """A foreign user is known by the subject or the chosen claim, never by a name for display."""
    verifier = Verifier(
        [IssuerConfig(issuer=ISSUER, **config)], KeyRing([secret_key(ISSUER, SECRET)])
    )
    found = verifier.verify_access(token(claims), NOW)
    assert (found.user if isinstance(found, Verified) else found) == user


ELSEWHERE: dict[str, Any] = {
    "claims": ((ClaimPath("hd"), ("acme", "globex")), (ClaimPath("org.level"), (2, 3))),
    "audience_claim": ClaimPath("client_id"),
    "subject_claim": ClaimPath("oid"),
    "roles_claims": (ClaimPath("realm_access.roles"), ClaimPath("/https:~1~1x.test~1roles")),
    "scopes_claims": (ClaimPath("permissions"),),
}
NESTED = {
    "aud": "another",
    "client_id": AUDIENCE,
    "oid": 7,
    "hd": "globex",
    "org": {"level": [1, 2]},
    "realm_access": {"roles": ["r"]},
    "https://x.test/roles": [{"name": "s"}],
    "permissions": ["p"],
}


@pytest.mark.parametrize(
    ("curve", "stated", "algorithms", "accepted"),
    [
        pytest.param("Ed25519", "Ed25519", (), True, id="new-name"),
        pytest.param("Ed25519", "EdDSA", (), True, id="old-name"),
        pytest.param("Ed448", "Ed448", (), True, id="ed448"),
        pytest.param("Ed25519", "Ed448", (), False, id="name-of-another-curve"),
        pytest.param("Ed448", "Ed25519", (), False, id="name-of-another-curve-ed448"),
        pytest.param("Ed25519", "ED25519", (), False, id="case"),
        pytest.param("Ed25519", "Ed25519", ("EdDSA",), True, id="old-name-allows-both"),
        pytest.param("Ed25519", "EdDSA", ("Ed25519",), False, id="new-name-alone"),
    ],
)
@pytest.mark.parametrize("made_for", ["", "EdDSA", "same"])
def test_edwards_curves(
    curve: str,
    stated: str,
    algorithms: tuple[str, ...],
    accepted: bool,  # noqa: FBT001
    made_for: str,
) -> None:
    """A key verifies tokens under both names of its algorithm, and of no other (RFC 9864)."""
    pair = private_key(curve)
    key = pem_key(ISSUER, public_pem(pair), curve if made_for == "same" else made_for, kid="")
    config = IssuerConfig(issuer=ISSUER, algorithms=frozenset(with_names(algorithms)))
    shown = token({}, {"alg": stated}, alg=curve, key=pair)
    found = Verifier([config], KeyRing([key])).verify_access(shown, NOW)
    assert isinstance(found, Verified) if accepted else found is Reason.ALGORITHM


def test_longest_token() -> None:
    """A token of exactly `max_token` octets is verified; a longer one is refused unread."""
    shown = token({"x": "y" * 12_000})
    keys = KeyRing([secret_key(ISSUER, SECRET)])
    assert isinstance(
        Verifier([OWN], keys, max_token=len(shown)).verify_access(shown, NOW), Verified
    )
    refused = Verifier([OWN], keys, max_token=len(shown) - 1).verify_access(shown, NOW)
    assert refused is Reason.TOKEN_TOO_LONG


def test_claims_elsewhere() -> None:
    """The claims of a foreign issuer are where its configuration says, and nowhere else."""
    config = IssuerConfig(
        issuer=ISSUER, foreign=True, audiences=frozenset((AUDIENCE,)), **ELSEWHERE
    )
    verifier = Verifier([config], KeyRing([secret_key(ISSUER, SECRET)]))
    found = verifier.verify_access(token(NESTED), NOW)
    assert isinstance(found, Verified)
    assert (found.subject, found.user) == ("7", "7")
    assert (found.roles, found.scopes) == (("r", "s"), ("p",))
    session = found.as_session("id", NOW)
    assert (session.sub, session.sid) == ("", "")
    without_sub = verifier.verify_access(token({**NESTED, "sub": GONE}), NOW)
    assert isinstance(without_sub, Verified)
    for gone, reason in (("oid", Reason.CLAIM_MISSING), ("client_id", Reason.CLAIM_MISSING)):
        assert verifier.verify_access(token({**NESTED, gone: GONE}), NOW) is reason
    refused = verifier.verify_access(token({**NESTED, "client_id": "other"}), NOW)
    assert refused is Reason.AUDIENCE
    wrong: tuple[dict[str, Any], ...] = ({"hd": "x"}, {"hd": GONE}, {"org": {"level": "2"}})
    for changed in (*wrong, {"org": {}}):
        refused = verifier.verify_access(token({**NESTED, **changed}), NOW)
        assert refused is Reason.CLAIM_REFUSED
    least = {name: NESTED[name] for name in ("client_id", "oid", "hd", "org")}
    plain = verifier.verify_access(token(least), NOW)
    assert isinstance(plain, Verified)
    assert (plain.roles, plain.scopes) == ((), ())


def test_own_claims_stay_where_they_are() -> None:
    """Under an issuer's name that a key server shares, own tokens are read as they are issued."""
    shared = IssuerConfig(
        issuer=ISSUER, foreign=True, audiences=frozenset((AUDIENCE,)), **ELSEWHERE
    )
    elsewhere = pem_key(ISSUER, public_pem(private_key("ES256")), kid="theirs")
    verifier = Verifier(
        [shared], KeyRing([secret_key(ISSUER, SECRET, kid="ours"), elsewhere]), OWN, KeyRing()
    )
    for kid, alg, key in (("ours", "HS256", SECRET), ("theirs", "ES256", private_key("ES256"))):
        found = verifier.verify_access(token(NESTED, {"kid": kid}, alg=alg, key=key), NOW)
        own = verifier.verify_access(token({}, {"kid": kid}, alg=alg, key=key), NOW)
        if kid == "ours":
            assert found is Reason.AUDIENCE
            assert isinstance(own, Verified)
            assert (own.subject, own.roles, own.scopes) == ("alice", ("user",), ("read", "write"))
        else:
            assert isinstance(found, Verified)
            assert (found.subject, found.local) == ("7", False)
            assert own is Reason.CLAIM_MISSING


@pytest.mark.parametrize(
    ("claims", "alg", "expected"),
    [
        pytest.param({}, "HS256", ("s1", "alice", NOW), id="own"),
        pytest.param({"iss": "foreign"}, "ES256", ("", "", NOW), id="foreign"),
        pytest.param({"iat": GONE, "sid": GONE}, "HS256", ("", "alice", 0.0), id="least"),
        pytest.param({"iat": NOW + 1}, "HS256", ("s1", "alice", 0.0), id="from-the-future"),
    ],
)
def test_as_session(claims: dict[str, Any], alg: str, expected: tuple[str, str, float]) -> None:
    """Only an own token names a user and a login here; a future date says nothing."""
    found = verify(token(claims, alg=alg))
    assert isinstance(found, Verified)
    session = found.as_session("id", NOW)
    assert (session.sid, session.sub, session.created) == expected
    assert (session.id, session.exp) == ("id", found.expires)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("1800000900", id="text"),
        pytest.param("", id="empty"),
        pytest.param(True, id="true"),
        pytest.param(False, id="false"),
        pytest.param(None, id="null"),
        pytest.param([NOW], id="list"),
        pytest.param({"a": NOW}, id="object"),
        pytest.param(10**400, id="400-digits"),
        pytest.param(-(10**400), id="minus-400-digits"),
        pytest.param(1e300, id="float-beyond-all-clocks"),
        pytest.param(NOW * 1000, id="milliseconds"),
        pytest.param(MAX_DATE + 1, id="year-10000"),
    ],
)
def test_no_date(name: str, value: object) -> None:
    """A date must be a number up to the year 9999; any other value is refused."""
    assert verify(token({name: value})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"1_000", b"0x7fffffff"]
)
def test_no_number(name: str, value: bytes) -> None:
    """A number that JSON does not allow makes the token malformed."""
    payload = json.dumps({**CLAIMS, name: "@"}).encode().replace(b'"@"', value)
    assert verify(raw_token(b'{"alg":"HS256","typ":"at+jwt"}', payload)) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"exp": GONE}, Reason.CLAIM_MISSING, id="no-expiry"),
        pytest.param({"sub": GONE}, Reason.CLAIM_MISSING, id="no-subject"),
        pytest.param(
            {"iss": GONE, "exp": GONE}, Reason.CLAIM_MISSING, id="unnamed-issuer-no-expiry"
        ),
        pytest.param({"aud": GONE}, Reason.CLAIM_MISSING, id="no-audience"),
        pytest.param({"sub": ""}, Reason.CLAIM_INVALID, id="subject-empty"),
        pytest.param({"sub": 7}, Reason.CLAIM_INVALID, id="subject-number"),
        pytest.param({"sub": None}, Reason.CLAIM_INVALID, id="subject-null"),
        pytest.param({"sub": ["alice"]}, Reason.CLAIM_INVALID, id="subject-list"),
        pytest.param({"sub": "a" * 256}, Reason.CLAIM_INVALID, id="subject-too-long"),
        pytest.param({"sub": "a\nb"}, Reason.CLAIM_INVALID, id="subject-two-lines"),
        pytest.param({"sub": "a\n"}, Reason.CLAIM_INVALID, id="subject-line-feed-at-the-end"),
        pytest.param({"sub": "a\0"}, Reason.CLAIM_INVALID, id="subject-nul"),
        pytest.param({"sub": "a\x85"}, Reason.CLAIM_INVALID, id="subject-c1-control"),
        pytest.param({"sid": ""}, Reason.CLAIM_INVALID, id="session-empty"),
        pytest.param({"sid": 7}, Reason.CLAIM_INVALID, id="session-number"),
        pytest.param({"sid": None}, Reason.CLAIM_INVALID, id="session-null"),
        pytest.param({"jti": ["t1"]}, Reason.CLAIM_INVALID, id="token-id-list"),
        pytest.param({"jti": "a" * 256}, Reason.CLAIM_INVALID, id="token-id-too-long"),
        pytest.param({"roles": 7}, None, id="roles-number"),
        pytest.param({"roles": ["a", 7]}, None, id="roles-mixed"),
        pytest.param({"roles": {"admin": True}}, None, id="roles-object"),
        pytest.param({"scope": 7}, None, id="scope-number"),
        pytest.param({"scope": [["a"]]}, None, id="scope-nested"),
        pytest.param({"sub": "a" * 255}, None, id="subject-longest"),
        pytest.param({"sub": "Zoë 日本"}, None, id="subject-any-script"),
        pytest.param({"roles": "user"}, None, id="roles-text"),
        pytest.param({"scope": ["a"]}, None, id="scope-list"),
        pytest.param({"anything": {"else": [1]}}, None, id="other-claims"),
    ],
)
def test_claims(claims: dict[str, Any], reason: Reason | None) -> None:
    """Each claim that is used must have the right type."""
    found = verify(token(claims))
    assert (found if isinstance(found, Reason) else None) is reason


@pytest.mark.parametrize(
    ("audience", "reason"),
    [
        pytest.param(AUDIENCE, None, id="exact"),
        pytest.param([AUDIENCE], None, id="list"),
        pytest.param(["other", AUDIENCE], None, id="among-others"),
        pytest.param("other", Reason.AUDIENCE, id="other"),
        pytest.param(["other"], Reason.AUDIENCE, id="list-of-others"),
        pytest.param([], Reason.AUDIENCE, id="empty-list"),
        pytest.param("", Reason.AUDIENCE, id="empty"),
        pytest.param("shop2", Reason.AUDIENCE, id="longer"),
        pytest.param("sho", Reason.AUDIENCE, id="shorter"),
        pytest.param("Shop", Reason.AUDIENCE, id="case"),
        pytest.param("shop ", Reason.AUDIENCE, id="white-space"),
        pytest.param("other shop", Reason.AUDIENCE, id="words"),
        pytest.param(None, Reason.CLAIM_INVALID, id="null"),
        pytest.param(7, Reason.CLAIM_INVALID, id="number"),
        pytest.param({AUDIENCE: 1}, Reason.CLAIM_INVALID, id="object"),
        pytest.param([AUDIENCE, 7], Reason.CLAIM_INVALID, id="list-with-number"),
        pytest.param([[AUDIENCE]], Reason.CLAIM_INVALID, id="nested-list"),
    ],
)
def test_audience(audience: object, reason: Reason | None) -> None:
    """One of the audiences must equal ours, and all of them must be strings."""
    found = verify(token({"aud": audience}))
    assert (found if isinstance(found, Reason) else None) is reason


@pytest.mark.parametrize(
    ("audience", "reason"),
    [
        pytest.param(GONE, None, id="none"),
        pytest.param("anything", None, id="any"),
        pytest.param([], None, id="empty-list"),
        pytest.param(7, Reason.CLAIM_INVALID, id="number"),
    ],
)
def test_audience_not_checked(audience: object, reason: Reason | None) -> None:
    """If no audience is configured, any valid one is accepted."""
    found = verify(token({"iss": "foreign", "aud": audience}, alg="ES256"))
    assert (found if isinstance(found, Reason) else None) is reason


@pytest.mark.parametrize(
    ("issuer", "reason"),
    [
        pytest.param(ISSUER + "/", Reason.ISSUER_UNKNOWN, id="longer"),
        pytest.param(ISSUER[:-1], Reason.ISSUER_UNKNOWN, id="shorter"),
        pytest.param(ISSUER.upper(), Reason.ISSUER_UNKNOWN, id="case"),
        pytest.param("x" + ISSUER, Reason.ISSUER_UNKNOWN, id="suffix"),
        pytest.param(ISSUER + "\0", Reason.ISSUER_UNKNOWN, id="nul"),
        pytest.param("nobody", Reason.ISSUER_UNKNOWN, id="unknown"),
        pytest.param([ISSUER], Reason.CLAIM_INVALID, id="list"),
        pytest.param(None, Reason.CLAIM_INVALID, id="null"),
        pytest.param(7, Reason.CLAIM_INVALID, id="number"),
        pytest.param({ISSUER: 1}, Reason.CLAIM_INVALID, id="object"),
        pytest.param("foreign", Reason.ALGORITHM, id="other-issuer-other-algorithm"),
        pytest.param("nokeys", Reason.ALGORITHM, id="issuer-without-keys-other-algorithm"),
        pytest.param(GONE, None, id="issuer-without-a-name"),
    ],
)
def test_issuer(issuer: object, reason: Reason | None) -> None:
    """The issuer must be a configured one, whose own keys and rules apply."""
    found = verify(token({"iss": issuer}))
    assert (found if isinstance(found, Reason) else None) is reason


def test_no_issuer_is_missing() -> None:
    """If every issuer has a name, a token without `iss` lacks a claim."""
    verifier = Verifier([OWN], KeyRing([secret_key(ISSUER, SECRET)]))
    assert verifier.verify_access(token({"iss": GONE}), NOW) is Reason.CLAIM_MISSING
    assert verifier.verify_access(token({"iss": ""}), NOW) is Reason.ISSUER_UNKNOWN


def test_issuer_whose_keys_are_not_here() -> None:
    """Tokens of an issuer whose keys are not loaded yet are refused: unknown key."""
    raw = token({"iss": "nokeys"}, alg="RS256")
    assert verify(raw) is Reason.KEY_UNKNOWN


def test_session_mode_is_the_issuers() -> None:
    """Each issuer has its own session mode."""
    own, other = verify(token()), verify(token({"iss": GONE}))
    assert isinstance(own, Verified)
    assert isinstance(other, Verified)
    assert (own.session_mode, other.session_mode) == (SessionMode.REQUIRED, SessionMode.NONE)


@pytest.mark.parametrize(
    ("kind", "own", "foreign"),
    [
        pytest.param("at+jwt", True, True, id="access"),
        pytest.param("AT+JWT", True, True, id="case"),
        pytest.param("application/at+jwt", True, True, id="media-type"),
        pytest.param("Application/AT+JWT", True, True, id="media-type-case"),
        pytest.param("JWT", False, True, id="any-jwt"),
        pytest.param("application/jwt", False, True, id="any-jwt-media-type"),
        pytest.param(GONE, False, True, id="absent"),
        pytest.param("", False, False, id="empty"),
        pytest.param("application/", False, False, id="empty-media-type"),
        pytest.param("application/application/at+jwt", False, False, id="media-type-twice"),
        pytest.param("refresh+jwt", False, False, id="refresh"),
        pytest.param("logout+jwt", False, False, id="logout"),
        pytest.param("dpop+jwt", False, False, id="dpop"),
        pytest.param("at+jwt ", False, False, id="white-space"),
        pytest.param("at+jw", False, False, id="shorter"),
        pytest.param(None, False, False, id="null"),
        pytest.param(7, False, False, id="number"),
        pytest.param(["at+jwt"], False, False, id="list"),
    ],
)
def test_type(kind: object, own: bool, foreign: bool) -> None:  # noqa: FBT001
    """Our tokens must have the type of access tokens; other issuers' types are configurable."""
    ours = verify(token(header={"typ": kind}))
    theirs = verify(token({"iss": "foreign"}, {"typ": kind}, alg="ES256"))
    assert (ours is not Reason.TOKEN_TYPE) is own
    assert (theirs is not Reason.TOKEN_TYPE) is foreign
    assert isinstance(ours, Verified) is own
    assert isinstance(theirs, Verified) is foreign


def test_refresh_token() -> None:
    """A refresh token is accepted with its own key and type."""
    found = VERIFIER.verify_refresh(token(header={"typ": "refresh+jwt"}, key=REFRESH_SECRET), NOW)
    assert isinstance(found, Verified)
    assert (found.subject, found.session_id) == ("alice", "s1")


@pytest.mark.parametrize(
    ("kind", "key", "as_access", "as_refresh"),
    [
        pytest.param("at+jwt", SECRET, None, Reason.TOKEN_TYPE, id="access"),
        pytest.param("refresh+jwt", REFRESH_SECRET, Reason.TOKEN_TYPE, None, id="refresh"),
        pytest.param("refresh+jwt", SECRET, Reason.TOKEN_TYPE, Reason.SIGNATURE, id="access-key"),
        pytest.param(
            "at+jwt", REFRESH_SECRET, Reason.SIGNATURE, Reason.TOKEN_TYPE, id="refresh-key"
        ),
    ],
)
def test_neither_passes_for_the_other(
    kind: str, key: bytes, as_access: Reason | None, as_refresh: Reason | None
) -> None:
    """Access and refresh tokens differ in both type and key: one mistake is not enough."""
    raw = token(header={"typ": kind}, key=key)
    access, refresh = verify(raw), VERIFIER.verify_refresh(raw, NOW)
    assert (access if isinstance(access, Reason) else None) is as_access
    assert (refresh if isinstance(refresh, Reason) else None) is as_refresh


def test_no_refresh_tokens() -> None:
    """A verifier without a refresh key refuses all refresh tokens."""
    verifier = Verifier([OWN], KeyRing([secret_key(ISSUER, SECRET)]))
    raw = token(header={"typ": "refresh+jwt"}, key=REFRESH_SECRET)
    assert verifier.verify_refresh(raw, NOW) is Reason.ISSUER_UNKNOWN


def test_length() -> None:
    """A token may have 8 KiB; a longer one is not decoded."""
    empty = len(token({"pad": ""}))
    room = (MAX_TOKEN - empty) * 3 // 4 - 2
    assert isinstance(verify(token({"pad": "x" * room})), Verified)
    assert verify(token({"pad": "x" * (room + 10)})) is Reason.TOKEN_TOO_LONG
    assert verify(b"\xff" * (MAX_TOKEN + 1)) is Reason.TOKEN_TOO_LONG


@unhurried
@given(
    st.binary(max_size=300) | st.lists(st.binary(max_size=60).map(b64), max_size=4).map(b".".join)
)
def test_any_bytes(raw: bytes) -> None:
    """Arbitrary bytes give a reason, and nothing is raised."""
    assert isinstance(verify(raw), Reason)
    assert isinstance(VERIFIER.verify_refresh(raw, NOW), Reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@unhurried
@given(
    st.dictionaries(st.sampled_from([*CLAIMS, "scopes", "scp", "x"]), JSON, max_size=4),
    st.dictionaries(
        st.sampled_from(["typ", "kid", "crit", "b64", "jwk", "x5c", "cty"]), JSON, max_size=3
    ),
)
def test_any_members(claims: dict[str, Any], header: dict[str, Any]) -> None:
    """A signed token with any members is accepted or refused, and nothing is raised."""
    found = verify(token(claims, header))
    assert isinstance(found, Reason | Verified)
    if isinstance(found, Verified):
        assert found.claims == json.loads(json.dumps({**CLAIMS, **claims}))


@unhurried
@given(st.integers(0, 2), st.data())
def test_every_other_spelling_is_refused(part: int, data: st.DataObject) -> None:
    """Changing, adding or removing any character of a valid token makes it invalid."""
    parts = token().split(b".")
    at = data.draw(st.integers(0, len(parts[part]) - 1))
    change = data.draw(
        st.sampled_from([b"", b"A", b"_", b"=", b"+", b"/", b" ", b"\n", b".", b"%3D"])
    )
    changed = parts[part][:at] + change + parts[part][at + data.draw(st.integers(0, 1)) :]
    other = b".".join([*parts[:part], changed, *parts[part + 1 :]])
    assert other == token() or isinstance(verify(other), Reason)
