"""The gate: every state of the credentials and session of a request, and the decision."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from sidecar.auth.asymmetric import pem_key
from sidecar.auth.credentials import Accepts
from sidecar.auth.decision import Allow, Deny, NeedKeys, StaleCookie
from sidecar.auth.gate import Gate
from sidecar.auth.identity import Identity, IdentityHeaders
from sidecar.auth.issue import Issuer
from sidecar.auth.keys import KeyRing
from sidecar.auth.need_session import NeedSession
from sidecar.auth.password_logins import PasswordLogins
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access
from sidecar.auth.routes import Requirement, Route
from sidecar.auth.session import Session, SessionKey, foreign_session, token_id
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
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
    public_pem,
    request,
    token,
    unhurried,
)

PUBLIC = Route("public", Access.PUBLIC)
OPTIONAL = Route("optional", Access.OPTIONAL)
REQUIRED = Route("required")
IDENTITY = IdentityHeaders()
VERIFIER = Verifier(
    [
        IssuerConfig(issuer=ISSUER, audiences=frozenset((AUDIENCE,))),
        IssuerConfig(issuer="sessionless", session_mode=SessionMode.NONE),
    ],
    KeyRing([secret_key(ISSUER, SECRET), secret_key("sessionless", SECRET)]),
    IssuerConfig(issuer=ISSUER),
)

TOKEN = token()
BEARER = b"Bearer " + TOKEN
FREE_BEARER = b"Bearer " + token({"iss": "sessionless"})
BARE = token({"nbf": GONE})  # like the sidecar's own tokens
BARE_BEARER = b"Bearer " + BARE
VALUE = b"an-opaque_value"
COOKIE = b"__Host-session=" + VALUE
ALICE = Identity(CLAIMS, "alice", "alice", ISSUER, "s1", ("user",), ("read", "write"))
SAME = {"fetch_site": b"same-origin"}


def gate(**changed: Any) -> Gate:
    """A gate with an empty cache."""
    return Gate(VERIFIER, IDENTITY, **changed)


def session(credential: bytes = TOKEN, **changed: Any) -> Session:
    """Return the session that belongs to a credential."""
    made = Session(
        id=token_id(credential),
        sid="s1",
        sub="alice",
        claims={"roles": ["user"], "scopes": ["read"], "tenant": "acme"},
        created=NOW,
        exp=NOW + 900,
    )
    return msgspec.structs.replace(made, **changed)


def decided(
    on: Gate, route: Route, head: Any, live: Session | None = None, now: float = NOW
) -> Allow | Deny:
    """Decide about a request; if the gate needs a session, it gets this one."""
    decision = on.decide(route, head, now)
    if isinstance(decision, NeedSession):
        return on.resume(route, decision, live, now)
    return decision


def why(decision: Allow | Deny) -> Reason | None:
    """Return the reason of a denial, or None if the request is allowed."""
    return decision.reason if isinstance(decision, Deny) else None


@pytest.mark.parametrize(
    ("authorization", "cookie", "fields"),
    [
        pytest.param(None, None, {}, id="nothing"),
        pytest.param(BEARER, None, {}, id="good-token"),
        pytest.param(b"Bearer rubbish", None, {}, id="bad-token"),
        pytest.param(BEARER, COOKIE, {}, id="both"),
        pytest.param(None, COOKIE, {"method": b"POST", "origin": b"null"}, id="cross-origin"),
        pytest.param(BEARER, None, {"repeated": frozenset((b"authorization",))}, id="repeated"),
    ],
)
def test_public(authorization: bytes | None, cookie: bytes | None, fields: dict[str, Any]) -> None:
    """A public route allows every request as anonymous, whatever credentials it has."""
    on = gate()
    assert on.decide(PUBLIC, request(authorization, cookie, **fields), NOW) is on.anonymous


def test_anonymous() -> None:
    """An anonymous request has no name and no roles, and its identity headers are empty."""
    nobody = gate().anonymous
    assert nobody == Allow(IDENTITY.anonymous, "", "", b"{}", None)
    assert nobody.roles == nobody.scopes == frozenset()


def test_bearer_of_live_session() -> None:
    """A valid token with a live session is allowed as its subject, until either expires."""
    live = session(exp=NOW + 500)
    allowed = decided(gate(), REQUIRED, request(BEARER), live)
    assert isinstance(allowed, Allow)
    assert allowed.claims == CLAIMS
    assert allowed == Allow(
        identity=IDENTITY.lines(ALICE),
        subject="alice",
        session_id="s1",
        payload=allowed.payload,
        expires=NOW + 500,
        roles=frozenset(("user",)),
        scopes=frozenset(("read", "write")),
        issuer=ISSUER,
        local=True,
    )
    later = decided(gate(), REQUIRED, request(BEARER), session(exp=NOW + 5000))
    assert isinstance(later, Allow)
    assert later.expires == NOW + 905


def test_cookie_of_live_session() -> None:
    """A cookie is allowed as the user of its session."""
    live = session(VALUE)
    allowed = decided(gate(), REQUIRED, request(cookie=COOKIE), live)
    assert isinstance(allowed, Allow)
    assert allowed.claims == {**live.claims, "sub": "alice", "sid": "s1"}
    assert allowed == Allow(
        identity=IDENTITY.lines(ALICE._replace(claims=live.claims, scopes=("read",))),
        subject="alice",
        session_id="s1",
        payload=allowed.payload,
        expires=NOW + 900,
        roles=frozenset(("user",)),
        scopes=frozenset(("read",)),
        issuer=ISSUER,
        local=True,
    )


def test_cookie_session_with_unusable_claims() -> None:
    """Roles and scopes of an invalid type count as none."""
    live = session(VALUE, claims={"roles": {"admin": 1}, "scopes": True})
    allowed = decided(gate(), REQUIRED, request(cookie=COOKIE), live)
    assert isinstance(allowed, Allow)
    assert allowed.roles == allowed.scopes == frozenset()


def test_need_says_which_session() -> None:
    """The gate asks for the session of the token id, and the repr shows no secret."""
    by_token = gate().decide(REQUIRED, request(BEARER), NOW)
    by_cookie = gate().decide(REQUIRED, request(cookie=COOKIE), NOW)
    assert isinstance(by_token, NeedSession)
    assert isinstance(by_cookie, NeedSession)
    assert (by_token.token_id, by_cookie.token_id) == (token_id(TOKEN), token_id(VALUE))
    assert repr(by_token) == "<NeedSession token of 'alice'>"
    assert repr(by_cookie) == "<NeedSession cookie>"


def test_session_key_token() -> None:
    """With SESSION_KEY=token, the gate asks for the session under the credential itself."""
    on = gate(session_key=SessionKey.TOKEN)
    needs = [on.decide(REQUIRED, head, NOW) for head in (request(BEARER), request(cookie=COOKIE))]
    ids = [need.token_id for need in needs if isinstance(need, NeedSession)]
    assert ids == [TOKEN.decode(), VALUE.decode()]


@pytest.mark.parametrize(
    ("authorization", "cookie", "fields", "reason"),
    [
        pytest.param(None, None, {}, Reason.NO_CREDENTIALS, id="nothing"),
        pytest.param(b"Basic YTpi", None, {}, Reason.NO_CREDENTIALS, id="other-scheme"),
        pytest.param(None, b"a=1", {}, Reason.NO_CREDENTIALS, id="other-cookie"),
        pytest.param(b"Bearer", None, {}, Reason.CREDENTIALS_MALFORMED, id="malformed"),
        pytest.param(BEARER + b" x", None, {}, Reason.CREDENTIALS_MALFORMED, id="two-words"),
        pytest.param(BEARER, COOKIE, {}, Reason.CREDENTIALS_AMBIGUOUS, id="both"),
        pytest.param(b"bearer " + TOKEN, COOKIE, {}, Reason.CREDENTIALS_AMBIGUOUS, id="both-lower"),
        pytest.param(
            BEARER,
            None,
            {"repeated": frozenset((b"authorization",))},
            Reason.CREDENTIALS_AMBIGUOUS,
            id="repeated",
        ),
        pytest.param(None, COOKIE + b"; " + COOKIE, {}, Reason.COOKIE_REPEATED, id="cookies"),
        pytest.param(b"Bearer a.b.c", None, {}, Reason.TOKEN_MALFORMED, id="no-token"),
        pytest.param(
            b"Bearer " + b"a" * 17_000, None, {}, Reason.TOKEN_TOO_LONG, id="token-too-long"
        ),
        pytest.param(
            b"Bearer " + token(key=REFRESH_SECRET), None, {}, Reason.SIGNATURE, id="signature"
        ),
        pytest.param(b"Bearer " + token({"exp": 1}), None, {}, Reason.EXPIRED, id="expired"),
        pytest.param(
            b"Bearer " + token({"nbf": NOW + 99}), None, {}, Reason.NOT_YET_VALID, id="early"
        ),
        pytest.param(b"Bearer " + token({"aud": "x"}), None, {}, Reason.AUDIENCE, id="audience"),
        pytest.param(
            None, b"__Host-session=" + TOKEN, {}, Reason.TOKEN_MALFORMED, id="token-as-cookie"
        ),
        pytest.param(None, COOKIE, {"method": b"POST"}, Reason.CROSS_ORIGIN, id="post"),
        pytest.param(
            None, COOKIE, {"method": b"POST", "origin": b"null"}, Reason.CROSS_ORIGIN, id="null"
        ),
        pytest.param(
            None,
            COOKIE,
            {"method": b"POST", "origin": b"https://evil.test"},
            Reason.CROSS_ORIGIN,
            id="other-origin",
        ),
        pytest.param(
            None,
            COOKIE,
            {"fetch_site": b"cross-site", "upgrade": b"websocket"},
            Reason.CROSS_ORIGIN,
            id="socket",
        ),
        pytest.param(None, COOKIE, {"method": b"POST", **SAME}, None, id="post-same-origin"),
        pytest.param(
            None,
            COOKIE,
            {"method": b"POST", "origin": b"https://shop.test"},
            None,
            id="post-origin",
        ),
        pytest.param(
            None, COOKIE, {"upgrade": b"websocket", **SAME}, None, id="socket-same-origin"
        ),
        pytest.param(None, COOKIE, {"fetch_site": b"cross-site"}, None, id="get-cross-site"),
        pytest.param(None, COOKIE, {"method": b"HEAD"}, None, id="head"),
        pytest.param(BEARER, None, {"method": b"POST", "origin": b"null"}, None, id="bearer-post"),
        pytest.param(BEARER, b"a=1; __Host-session=", {}, None, id="bearer-and-ended-cookie"),
        pytest.param(b"bEARER   " + TOKEN, None, {}, None, id="bearer-any-case"),
        pytest.param(b"Digest " + TOKEN, None, {}, Reason.NO_CREDENTIALS, id="token-as-digest"),
        pytest.param(b"XBearer" + TOKEN, None, {}, Reason.NO_CREDENTIALS, id="token-alone"),
        pytest.param(b"Bearer\t" + TOKEN, None, {}, Reason.CREDENTIALS_MALFORMED, id="tab"),
        pytest.param(
            BEARER, None, {"repeated": frozenset((b"origin",))}, None, id="other-repeated"
        ),
    ],
)
@pytest.mark.parametrize(
    "on_route",
    [
        pytest.param((REQUIRED, False), id="required"),
        pytest.param((REQUIRED, True), id="required-again"),
        pytest.param((OPTIONAL, False), id="optional"),
        pytest.param((OPTIONAL, True), id="optional-again"),
    ],
)
def test_credentials(
    authorization: bytes | None,
    cookie: bytes | None,
    fields: dict[str, Any],
    reason: Reason | None,
    on_route: tuple[Route, bool],
) -> None:
    """Credentials get the same decision the first time and when they are remembered."""
    on = gate()
    route, seen = on_route
    if seen:
        decided(on, REQUIRED, request(BEARER), session())
        decided(on, REQUIRED, request(cookie=COOKIE), session(VALUE))
    live = session(VALUE if authorization is None else TOKEN)
    head = request(authorization, cookie, **fields)
    decision = decided(on, route, head, live)
    if reason is Reason.NO_CREDENTIALS and route is OPTIONAL:
        assert decision is on.anonymous
        return
    assert why(decision) is reason
    assert reason is not None or (isinstance(decision, Allow) and decision.subject == "alice")
    assert why(decided(on, route, head, live)) is reason


FOREIGN_BEARER = b"Bearer " + token({"iss": "https://app.test"})
AMBIGUOUS, MALFORMED = Reason.CREDENTIALS_AMBIGUOUS, Reason.CREDENTIALS_MALFORMED
CROSS, NONE, UNKNOWN = Reason.CROSS_ORIGIN, Reason.NO_CREDENTIALS, Reason.ISSUER_UNKNOWN


@pytest.mark.parametrize(
    ("authorization", "cookie", "fields", "reasons"),
    [
        pytest.param(None, None, {}, (NONE, NONE, NONE), id="nothing"),
        pytest.param(b"Basic YTpi", None, {}, (NONE, NONE, NONE), id="basic"),
        pytest.param(BEARER, None, {}, (None, None, NONE), id="bearer"),
        pytest.param(None, COOKIE, {}, (None, NONE, None), id="cookie"),
        pytest.param(b"Basic YTpi", COOKIE, {}, (None, NONE, None), id="basic-and-cookie"),
        pytest.param(BEARER, COOKIE, {}, (AMBIGUOUS, None, None), id="both"),
        pytest.param(
            b"Bearer " + token({"exp": 1}),
            COOKIE,
            {},
            (AMBIGUOUS, Reason.EXPIRED, None),
            id="expired-and-cookie",
        ),
        pytest.param(
            b"Bearer " + token(key=REFRESH_SECRET),
            COOKIE,
            {},
            (AMBIGUOUS, Reason.SIGNATURE, None),
            id="forged-and-cookie",
        ),
        pytest.param(
            FREE_BEARER, COOKIE, {}, (AMBIGUOUS, None, None), id="of-another-known-issuer"
        ),
        pytest.param(FOREIGN_BEARER, None, {}, (UNKNOWN, UNKNOWN, NONE), id="foreign"),
        pytest.param(FOREIGN_BEARER, COOKIE, {}, (None, UNKNOWN, None), id="foreign-and-cookie"),
        pytest.param(
            b"Bearer null", COOKIE, {}, (None, Reason.TOKEN_MALFORMED, None), id="null-and-cookie"
        ),
        pytest.param(b"Bearer", COOKIE, {}, (None, MALFORMED, None), id="empty-and-cookie"),
        pytest.param(
            FOREIGN_BEARER,
            COOKIE,
            {"method": b"POST"},
            (CROSS, UNKNOWN, CROSS),
            id="foreign-and-cookie-post",
        ),
        pytest.param(
            FOREIGN_BEARER,
            COOKIE,
            {"method": b"POST", **SAME},
            (None, UNKNOWN, None),
            id="foreign-and-cookie-post-same-origin",
        ),
        pytest.param(
            b"Bearer null",
            COOKIE,
            {"upgrade": b"websocket", "fetch_site": b"cross-site"},
            (CROSS, Reason.TOKEN_MALFORMED, CROSS),
            id="null-and-cookie-socket",
        ),
        pytest.param(
            BEARER,
            COOKIE,
            {"method": b"POST", "fetch_site": b"cross-site"},
            (AMBIGUOUS, None, CROSS),
            id="both-post",
        ),
        pytest.param(
            b"Basic YTpi",
            COOKIE,
            {"repeated": frozenset((b"authorization",))},
            (AMBIGUOUS, AMBIGUOUS, None),
            id="repeated-and-cookie",
        ),
        pytest.param(
            BEARER,
            COOKIE + b"; " + COOKIE,
            {},
            (AMBIGUOUS, None, Reason.COOKIE_REPEATED),
            id="two-cookies",
        ),
    ],
)
@pytest.mark.parametrize("access", [Access.REQUIRED, Access.OPTIONAL])
def test_which_credentials_count(
    authorization: bytes | None,
    cookie: bytes | None,
    fields: dict[str, Any],
    reasons: tuple[Reason | None, ...],
    access: Access,
) -> None:
    """The reasons on a route where any credential counts, only a bearer, and only a cookie.

    They are the same whatever was decided before about the same head on another route.
    """
    on = gate()
    head = request(authorization, cookie, **fields)
    by_bearer = session(b"" if authorization is None else authorization[7:])
    for _ in range(2):
        for accepts, reason in zip(Accepts, reasons, strict=True):
            route = Route(accepts, access, credentials=accepts)
            need = on.decide(route, head, NOW)
            decision: Allow | Deny
            if isinstance(need, NeedSession):
                live = session(VALUE) if need.verified is None else by_bearer
                decision = on.resume(route, need, live, NOW)
            else:
                decision = need
            if reason is NONE and access is Access.OPTIONAL:
                assert decision is on.anonymous
            else:
                assert why(decision) is reason, accepts


@pytest.mark.parametrize("accepts", Accepts)
@pytest.mark.parametrize("authorization", [FOREIGN_BEARER, b"Bearer null"])
@pytest.mark.parametrize("route", [REQUIRED, OPTIONAL], ids=["required", "optional"])
def test_a_foreign_bearer_opens_nothing(
    accepts: Accepts, authorization: bytes, route: Route
) -> None:
    """Beside a cookie without a session, the application's bearer token changes no decision."""
    on_route = Route("x", route.access, credentials=accepts)
    beside = decided(gate(), on_route, request(authorization, COOKIE), None)
    bearer = authorization if accepts is Accepts.BEARER else None
    alone = request(bearer, None if accepts is Accepts.BEARER else COOKIE)
    assert why(beside) is why(decided(gate(), on_route, alone, None))
    assert isinstance(beside, Deny) or route is OPTIONAL


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({}, None, id="its-own"),
        pytest.param({"exp": NOW + 0.1}, None, id="about-to-end"),
        pytest.param({"exp": NOW}, Reason.SESSION_MISSING, id="just-ended"),
        pytest.param({"exp": 0.0}, Reason.SESSION_MISSING, id="ended"),
        pytest.param({"id": token_id(b"other")}, Reason.SESSION_MISMATCH, id="of-another"),
        pytest.param({"id": ""}, Reason.SESSION_MISMATCH, id="of-nobody"),
        pytest.param({"id": "x", "exp": 0.0}, Reason.SESSION_MISMATCH, id="of-another-and-ended"),
    ],
)
@pytest.mark.parametrize("kind", ["bearer", "cookie"])
@pytest.mark.parametrize("seen", [False, True], ids=["first", "again"])
def test_session(changed: dict[str, Any], reason: Reason | None, kind: str, seen: bool) -> None:  # noqa: FBT001
    """Only an unexpired session that is bound to this credential is accepted."""
    on = gate()
    head, credential = (
        (request(BEARER), TOKEN) if kind == "bearer" else (request(cookie=COOKIE), VALUE)
    )
    if seen:
        assert isinstance(decided(on, REQUIRED, head, session(credential)), Allow)
    assert why(decided(on, REQUIRED, head, session(credential, **changed))) is reason
    assert why(decided(on, REQUIRED, head, None)) is Reason.SESSION_MISSING
    assert why(decided(on, OPTIONAL, head, None)) is Reason.SESSION_MISSING


@pytest.mark.parametrize(
    ("cookie", "live", "now", "reason"),
    [
        pytest.param(COOKIE, None, NOW, Reason.SESSION_MISSING, id="unknown"),
        pytest.param(COOKIE, session(VALUE), NOW + 900, Reason.SESSION_MISSING, id="expired"),
        pytest.param(COOKIE + b".", None, NOW, Reason.TOKEN_MALFORMED, id="malformed"),
        pytest.param(COOKIE + b"x" * 600, None, NOW, Reason.TOKEN_TOO_LONG, id="too-long"),
    ],
)
def test_stale_cookie(cookie: bytes, live: Session | None, now: float, reason: Reason) -> None:
    """On an optional route, a cookie that no longer counts is one that can be left out."""
    on = gate()
    assert decided(on, OPTIONAL, request(None, cookie), live, now) == StaleCookie(
        reason, on.deny(reason).challenge
    )
    assert decided(on, REQUIRED, request(None, cookie), live, now) is on.deny(reason)


def test_what_is_no_stale_cookie() -> None:
    """On an optional route, a token without a session and a copied session stay plain denials."""
    on = gate()
    assert decided(on, OPTIONAL, request(BEARER)) is on.deny(Reason.SESSION_MISSING)
    copied = decided(on, OPTIONAL, request(None, COOKIE), session())
    assert copied is on.deny(Reason.SESSION_MISMATCH)
    beside = decided(on, OPTIONAL, request(b"Bearer opaque", COOKIE + b"."))
    assert beside is on.deny(Reason.TOKEN_MALFORMED)
    alone = decided(on, OPTIONAL, request(b"Basic eDp5", COOKIE + b"."))
    assert isinstance(alone, StaleCookie)


def test_unknown_key() -> None:
    """A token whose key is unknown is denied with the issuer that might have published the key."""
    on = Gate(Verifier([IssuerConfig(issuer=ISSUER)], KeyRing()), IDENTITY)
    need = on.decide(OPTIONAL, request(BEARER), NOW)
    assert isinstance(need, NeedKeys)
    assert (need.issuer, need.reason) == (ISSUER, Reason.KEY_UNKNOWN)
    assert need.challenge == on.deny(Reason.KEY_UNKNOWN).challenge


@pytest.mark.parametrize(
    ("claims", "changed", "reason", "sid"),
    [
        pytest.param({}, {"sub": "bob"}, Reason.SESSION_MISMATCH, "", id="other-user"),
        pytest.param({}, {"sid": "s2"}, Reason.SESSION_MISMATCH, "", id="other-login"),
        pytest.param({}, {"sid": ""}, Reason.SESSION_MISMATCH, "", id="login-unknown"),
        pytest.param({"sid": GONE}, {}, None, "s1", id="token-does-not-say"),
        pytest.param(
            {"sid": GONE}, {"sub": "bob"}, Reason.SESSION_MISMATCH, "", id="does-not-say-other-user"
        ),
        pytest.param(
            {}, {"sub": "", "sid": "", "claims": {}}, None, "s1", id="session-does-not-say"
        ),
        pytest.param(
            {"sid": GONE}, {"sub": "", "sid": "", "claims": {}}, None, "", id="neither-says"
        ),
    ],
)
def test_session_of_a_token(
    claims: dict[str, Any], changed: dict[str, Any], reason: Reason | None, sid: str
) -> None:
    """The session of a token must have its subject and its session id, if it has one."""
    raw = token(claims)
    decision = decided(gate(), REQUIRED, request(b"Bearer " + raw), session(raw, **changed))
    assert why(decision) is reason
    if isinstance(decision, Allow):
        assert (decision.subject, decision.session_id) == ("alice", sid)
        assert f"X-Auth-Session: {sid}\r\n".encode() in decision.identity


def test_foreign_session() -> None:
    """A session that another program wrote is live for a token, which names the user."""
    on = gate(session_key=SessionKey.TOKEN)
    allowed = decided(on, REQUIRED, request(BEARER), foreign_session(TOKEN.decode()))
    assert isinstance(allowed, Allow)
    assert (allowed.subject, allowed.session_id, allowed.expires) == ("alice", "s1", NOW + 905)


def test_foreign_session_of_a_cookie() -> None:
    """A session that another program wrote names no user, so it is refused for a cookie."""
    on = gate(session_key=SessionKey.TOKEN)
    for _ in range(2):
        decision = decided(on, REQUIRED, request(cookie=COOKIE), foreign_session(VALUE.decode()))
        assert why(decision) is Reason.SESSION_MISMATCH


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        pytest.param(NOW + 904, None, id="still"),
        pytest.param(NOW + 905, Reason.EXPIRED, id="expired"),
        pytest.param(NOW - 5, None, id="earlier"),
        pytest.param(NOW - 6, Reason.NOT_YET_VALID, id="before-its-nbf"),
    ],
)
@pytest.mark.parametrize("raw", [BEARER, FREE_BEARER], ids=["session", "sessionless"])
def test_remembered_token_and_time(now: float, reason: Reason | None, raw: bytes) -> None:
    """The times of a remembered token are checked at each request, on every kind of route."""
    on, live = gate(), session(exp=NOW + 5000)
    assert isinstance(decided(on, REQUIRED, request(raw), live), Allow)
    for route in (
        REQUIRED,
        OPTIONAL,
        Route("roles", requirement=Requirement(frozenset(("user",)))),
    ):
        assert why(decided(on, route, request(raw), live, now)) is reason
        assert why(decided(on, route, request(b"bearer" + raw[6:]), live, now)) is reason


@pytest.mark.parametrize("step", [pytest.param(3600, id="on"), pytest.param(-3600, id="back")])
@pytest.mark.parametrize(
    ("head", "credential", "over"),
    [
        pytest.param(request(BARE_BEARER), BARE, Reason.EXPIRED, id="token"),
        pytest.param(request(cookie=COOKIE), VALUE, Reason.SESSION_MISSING, id="cookie"),
    ],
)
def test_a_clock_that_is_set(head: Any, credential: bytes, over: Reason, step: int) -> None:
    """After the clock is set, validity follows the new time, remembered or not."""
    on, live = gate(), session(credential)
    for now in (NOW, NOW + step, NOW, NOW + 5000, NOW + step, NOW):
        for asked in (on, gate()):
            expected = over if now > NOW else None
            assert why(decided(asked, REQUIRED, head, live, now)) is expected


def test_longest_bearer() -> None:
    """The gate refuses tokens that are longer than its verifier allows, before reading them."""
    free = IssuerConfig(issuer=ISSUER, session_mode=SessionMode.NONE)
    keys = KeyRing([secret_key(ISSUER, SECRET)])
    for most, reason in ((len(TOKEN), None), (len(TOKEN) - 1, Reason.TOKEN_TOO_LONG)):
        on = Gate(Verifier([free], keys, max_token=most), IDENTITY)
        assert why(decided(on, REQUIRED, request(BEARER))) is reason
        unread = request(b"Bearer " + b"\xff" * (most + 1))
        assert why(decided(on, REQUIRED, unread)) is Reason.TOKEN_TOO_LONG


def test_tokens_with_many_groups_take_the_place_of_others() -> None:
    """Remembered tokens are bounded by the memory that they take, not by their number alone."""
    free = IssuerConfig(issuer=ISSUER, session_mode=SessionMode.NONE)
    verifier = Verifier([free], KeyRing([secret_key(ISSUER, SECRET)]))
    for groups, most in ((2, 100), (200, 6), (1000, 2)):
        on = Gate(verifier, IDENTITY, cache_size=100)
        for number in range(100):
            claims = {"jti": f"{number}", "roles": [f"g{each}" for each in range(groups)]}
            raw = b"Bearer " + token(claims)
            for _ in range(2):
                assert isinstance(on.decide(REQUIRED, request(raw), NOW), Allow)
        kept = int(repr(on).partition("TokenCache ")[2].partition(" ")[0])
        assert (groups, kept <= most, kept >= most // 2) == (groups, True, True)


class CountingVerifier(Verifier):
    """Counts the tokens that are verified."""

    verified = 0

    def verify_access(self, token: bytes, now: float) -> Verified | Reason:
        """Count, and verify."""
        self.verified += 1
        return super().verify_access(token, now)


def test_tokens_that_are_used_once_push_out_no_other() -> None:
    """A token is verified twice at most, however many are used once between its uses."""
    verifier = CountingVerifier(
        [IssuerConfig(issuer=ISSUER)], KeyRing([secret_key(ISSUER, SECRET)])
    )
    on = Gate(verifier, IDENTITY, cache_size=64)
    used = [token({"jti": f"used{number}"}) for number in range(20)]
    for turn in range(12):
        for raw in used:
            assert isinstance(decided(on, REQUIRED, request(b"Bearer " + raw), session(raw)), Allow)
        for number in range(30):
            once = token({"jti": f"{turn}-{number}"})
            assert why(decided(on, REQUIRED, request(b"Bearer " + once), None)) is (
                Reason.SESSION_MISSING
            )
    assert verifier.verified - 12 * 30 <= 2 * len(used) + 6  # of a few, the first use is forgotten


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_whatever_is_remembered_of_a_token(uses: int) -> None:
    """Times, session and keys decide in the same way after its first use, and after later ones."""
    changes: list[tuple[Reason, Session | None, float]] = [
        (Reason.SESSION_MISSING, None, NOW),
        (Reason.SESSION_MISMATCH, session(id="x"), NOW),
        (Reason.EXPIRED, session(exp=NOW + 5000), NOW + 905),
        (Reason.NOT_YET_VALID, session(), NOW - 6),
    ]
    for reason, present, now in changes:
        on = gate()
        for _ in range(uses):
            assert isinstance(decided(on, REQUIRED, request(BEARER), session()), Allow)
        assert why(decided(on, REQUIRED, request(BEARER), present, now)) is reason
        on.replace(
            Verifier([IssuerConfig(issuer=ISSUER)], KeyRing([secret_key(ISSUER, REFRESH_SECRET)])),
            PasswordLogins(),
        )
        assert why(decided(on, REQUIRED, request(BEARER), session())) is Reason.SIGNATURE


def test_sessionless_issuer() -> None:
    """Tokens of an issuer without sessions are allowed without a look-up."""
    on = gate()
    for raw in (FREE_BEARER, FREE_BEARER, b"bearer" + FREE_BEARER[6:]):
        allowed = on.decide(REQUIRED, request(raw), NOW)
        assert isinstance(allowed, Allow)
        assert (allowed.subject, allowed.session_id, allowed.expires) == ("alice", "s1", NOW + 905)


REQUIREMENTS = [
    pytest.param(Requirement(roles=frozenset(("user",))), None, id="role"),
    pytest.param(Requirement(roles=frozenset(("admin", "user"))), None, id="any-role"),
    pytest.param(Requirement(roles=frozenset(("admin",))), Reason.ROLE, id="no-role"),
    pytest.param(Requirement(roles=frozenset(("User",))), Reason.ROLE, id="role-case"),
    pytest.param(Requirement(scopes=frozenset(("read",))), None, id="scope"),
    pytest.param(
        Requirement(scopes=frozenset(("read", "x"))), Reason.SCOPE, id="one-scope-missing"
    ),
    pytest.param(Requirement(scopes=frozenset(("rea",))), Reason.SCOPE, id="scope-prefix"),
    pytest.param(Requirement(claims=((ClaimPath("tenant"), ("acme",)),)), None, id="claim"),
    pytest.param(Requirement(claims=((ClaimPath("tenant"), ("x", "acme")),)), None, id="any-value"),
    pytest.param(
        Requirement(claims=((ClaimPath("tenant"), ("acme2",)),)), Reason.CLAIM, id="other-value"
    ),
    pytest.param(
        Requirement(claims=((ClaimPath("missing"), ("acme",)),)), Reason.CLAIM, id="no-claim"
    ),
    pytest.param(Requirement(claims=((ClaimPath("groups"), ("b",)),)), None, id="listed"),
    pytest.param(
        Requirement(claims=((ClaimPath("groups"), ("c",)),)), Reason.CLAIM, id="not-listed"
    ),
    pytest.param(Requirement(claims=((ClaimPath("level"), (3,)),)), None, id="number"),
    pytest.param(Requirement(claims=((ClaimPath("object.a"), (1,)),)), None, id="member"),
    pytest.param(Requirement(claims=((ClaimPath("/groups/1"), ("b",)),)), None, id="pointer"),
    pytest.param(
        Requirement(claims=((ClaimPath("object.b"), (1,)),)), Reason.CLAIM, id="no-member"
    ),
    pytest.param(
        Requirement(claims=((ClaimPath("level"), ("3",)),)), Reason.CLAIM, id="number-as-text"
    ),
    pytest.param(Requirement(claims=((ClaimPath("staff"), (True,)),)), None, id="true"),
    pytest.param(
        Requirement(claims=((ClaimPath("staff"), (1,)),)), Reason.CLAIM, id="true-is-not-one"
    ),
    pytest.param(
        Requirement(claims=((ClaimPath("one"), (True,)),)), Reason.CLAIM, id="one-is-not-true"
    ),
    pytest.param(Requirement(claims=((ClaimPath("object"), ("a",)),)), Reason.CLAIM, id="object"),
    pytest.param(Requirement(claims=((ClaimPath("sub"), ("alice",)),)), None, id="subject"),
    pytest.param(Requirement(claims=((ClaimPath("sid"), ("s1",)),)), None, id="session-id"),
    pytest.param(
        Requirement(claims=((ClaimPath("tenant"), ("acme",)), (ClaimPath("level"), (4,)))),
        Reason.CLAIM,
        id="each-claim",
    ),
    pytest.param(
        Requirement(frozenset(("x",)), frozenset(("x",)), ((ClaimPath("x"), ("x",)),)),
        Reason.ROLE,
        id="first",
    ),
    pytest.param(
        Requirement(frozenset(("user",)), frozenset(("x",)), ((ClaimPath("x"), ("x",)),)),
        Reason.SCOPE,
        id="second",
    ),
]
HELD: dict[str, Any] = {
    "roles": ["user"],
    "tenant": "acme",
    "groups": ["a", "b"],
    "level": 3,
    "staff": True,
    "one": 1,
    "object": {"a": 1},
}


@pytest.mark.parametrize(("requirement", "reason"), REQUIREMENTS)
@pytest.mark.parametrize("kind", ["bearer", "cookie", "sessionless"])
def test_requirements(requirement: Requirement, reason: Reason | None, kind: str) -> None:
    """A route requires any role, all scopes and each claim, from token and session alike."""
    route, on = Route("restricted", requirement=requirement), gate()
    raw = token(HELD | ({"iss": "sessionless"} if kind == "sessionless" else {}))
    head, live = request(b"Bearer " + raw), session(raw)
    if kind == "cookie":
        head, live = request(cookie=COOKIE), session(VALUE, claims=HELD | {"scopes": ["read"]})
    for _ in range(2):
        assert why(decided(on, route, head, live)) is reason
    assert isinstance(decided(on, REQUIRED, head, live), Allow)


def test_claims_cannot_be_someone_else() -> None:
    """A `sub` among a session's claims does not replace the session's user."""
    route = Route("root", requirement=Requirement(claims=((ClaimPath("sub"), ("root",)),)))
    live = session(VALUE, claims={"sub": "root", "sid": "x"})
    assert why(decided(gate(), route, request(cookie=COOKIE), live)) is Reason.CLAIM


@pytest.mark.parametrize("reason", Reason)
def test_challenges(reason: Reason) -> None:
    """A 401 has a challenge, with an error code if there were credentials (RFC 6750 section 3)."""
    denial = gate(realm="shop").deny(reason)
    if reason.error is not None:
        assert denial.challenge == f'Bearer realm="shop", error="{reason.error}"'.encode()
    else:
        assert denial.challenge == (b'Bearer realm="shop"' if reason.status == 401 else None)
    assert denial.reason is reason


def test_scope_challenge() -> None:
    """The challenge for a missing scope names the required scopes."""
    route = Route("scoped", requirement=Requirement(scopes=frozenset(("write", "delete:all"))))
    denial = decided(gate(), route, request(BEARER), session())
    assert isinstance(denial, Deny)
    assert denial.challenge == (
        b'Bearer realm="sidecar", error="insufficient_scope", scope="delete:all write"'
    )


def test_known_token_costs_no_objects() -> None:
    """A remembered credential returns the same objects each time."""
    on = gate()
    for head, live in ((request(BEARER), session()), (request(cookie=COOKIE), session(VALUE))):
        allowed = decided(on, REQUIRED, head, live)
        need = on.decide(REQUIRED, head, NOW)
        assert isinstance(need, NeedSession)
        assert on.decide(REQUIRED, head, NOW) is need
        assert on.resume(REQUIRED, need, live, NOW) is allowed
        equal = msgspec.structs.replace(live)
        assert on.resume(REQUIRED, need, equal, NOW) is allowed


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"a=1; " + COOKIE, id="after"),
        pytest.param(COOKIE + b"; a=1", id="before"),
        pytest.param(b"a=1; " + COOKIE + b"; b=2", id="between"),
        pytest.param(b"a=1;" + COOKIE, id="without-space"),
        pytest.param(b"a=1;\t" + COOKIE + b" ;b=2", id="white-space"),
        pytest.param(b"__Host-session=; " + COOKIE, id="after-an-ended-one"),
        pytest.param(b"x__Host-session=1; " + COOKIE, id="after-a-longer-name"),
    ],
)
def test_remembered_cookie_in_any_header(header: bytes) -> None:
    """A remembered cookie is found at any position in the header."""
    on = gate()
    decided(on, REQUIRED, request(cookie=COOKIE), session(VALUE))
    need = on.decide(REQUIRED, request(cookie=COOKIE), NOW)
    assert on.decide(REQUIRED, request(cookie=header), NOW) is need


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param(b"x" + COOKIE, Reason.NO_CREDENTIALS, id="longer-name"),
        pytest.param(b"a=" + COOKIE, Reason.NO_CREDENTIALS, id="in-a-value"),
        pytest.param(b"a=1, " + COOKIE, Reason.NO_CREDENTIALS, id="after-a-comma"),
        pytest.param(b"a b; c " + COOKIE, Reason.NO_CREDENTIALS, id="after-a-space"),
        pytest.param(COOKIE + b"; " + COOKIE, Reason.COOKIE_REPEATED, id="twice"),
        pytest.param(COOKIE + b"; __Host-session=x", Reason.COOKIE_REPEATED, id="and-another"),
        pytest.param(COOKIE.lower(), Reason.NO_CREDENTIALS, id="case"),
        pytest.param(COOKIE + b"=", Reason.TOKEN_MALFORMED, id="value-and-more"),
    ],
)
def test_remembered_cookie_is_no_short_cut(header: bytes, reason: Reason) -> None:
    """An invalid header stays invalid if its cookie is remembered."""
    on = gate()
    decided(on, REQUIRED, request(cookie=COOKIE), session(VALUE))
    assert why(decided(on, REQUIRED, request(cookie=header), session(VALUE))) is reason


def test_changed_session_of_a_cookie() -> None:
    """If the session of a cookie changes, the identity headers change as well."""
    on = gate()
    for role in ("user", "admin", "user"):
        live = session(VALUE, claims={"roles": [role]})
        allowed = decided(on, REQUIRED, request(cookie=COOKIE), live)
        assert isinstance(allowed, Allow)
        assert allowed.roles == {role}
        assert f"X-Auth-Roles: {role}\r\n".encode() in allowed.identity


def test_made_up_cookies_are_not_remembered() -> None:
    """Cookies without a session and invalid tokens are not remembered."""
    on = gate()
    for number in range(50):
        decided(on, REQUIRED, request(cookie=b"__Host-session=x%d" % number), None)
        decided(
            on, REQUIRED, request(b"Bearer " + token({"jti": f"t{number}"}, key=REFRESH_SECRET))
        )
    assert repr(on) == "<Gate bearers=<TokenCache 0 of 8192> cookies=<TokenCache 0 of 8192>>"


def test_bounded() -> None:
    """The caches keep to their size, and a forgotten credential is verified again."""
    on = gate(cache_size=8)
    raws = [token({"jti": f"t{number}"}) for number in range(40)]
    values = [b"value%d" % number for number in range(40)]
    for _ in range(2):
        for raw, value in zip(raws, values, strict=True):
            bearer = request(b"Bearer " + raw)
            head = request(cookie=b"__Host-session=" + value)
            for _ in range(2):
                assert isinstance(decided(on, REQUIRED, bearer, session(raw)), Allow)
                assert isinstance(decided(on, REQUIRED, head, session(value)), Allow)
        assert repr(on) == "<Gate bearers=<TokenCache 8 of 8> cookies=<TokenCache 8 of 8>>"


def test_new_keys() -> None:
    """After a change of keys every token is verified again; those of old keys are refused."""
    on = gate()
    assert isinstance(decided(on, REQUIRED, request(BEARER), session()), Allow)
    on.replace(
        Verifier([IssuerConfig(issuer=ISSUER)], KeyRing([secret_key(ISSUER, REFRESH_SECRET)])),
        PasswordLogins(),
    )
    assert why(decided(on, REQUIRED, request(BEARER), session())) is Reason.SIGNATURE
    on.replace(VERIFIER, PasswordLogins())
    assert isinstance(decided(on, REQUIRED, request(BEARER), session()), Allow)


class Users:
    """The users of a users file; `held` are the roles of alice, None if she is removed."""

    def __init__(self, held: list[str] | None) -> None:
        self._held = held

    def claims_of(self, _: str) -> dict[str, Any] | None:
        """Return the claims of alice."""
        return None if self._held is None else {"roles": self._held}


def logins(*held: str) -> PasswordLogins:
    """The logins of alice, who has these roles now; none if she is removed."""
    return PasswordLogins(Users(list(held) or None), ISSUER)


ADMINS = Route("admins", requirement=Requirement(roles=frozenset(("admin",))))


@pytest.mark.parametrize("cookie", [False, True])
def test_users_who_change(*, cookie: bool) -> None:
    """A credential that is remembered follows the users, whatever its session says."""
    head = request(cookie=COOKIE) if cookie else request(BEARER)
    live = session(VALUE if cookie else TOKEN, claims={"roles": ["admin"]})
    on = gate(logins=logins("admin"))
    for present, reason in (
        (logins("user"), Reason.ROLE),
        (logins(), Reason.USER_GONE),
        (logins("admin"), None),
        (PasswordLogins(), None if cookie else Reason.ROLE),
    ):
        assert why(decided(on, ADMINS, head, live)) is None
        on.replace(VERIFIER, present)
        for _ in range(2):
            assert why(decided(on, ADMINS, head, live)) is reason
        on.replace(VERIFIER, logins("admin"))


@pytest.mark.parametrize("cookie", [False, True])
def test_users_who_change_during_a_look_up(*, cookie: bool) -> None:
    """A request whose session was looked up meanwhile is decided by the new users, as are later."""
    head = request(cookie=COOKIE) if cookie else request(BEARER)

    def stored() -> Session:
        return session(VALUE if cookie else TOKEN, claims={})

    on = gate(logins=logins("admin"))
    assert why(decided(on, ADMINS, head, stored())) is None
    need = on.decide(ADMINS, head, NOW)
    assert isinstance(need, NeedSession)
    on.replace(VERIFIER, logins("user"))
    assert why(on.resume(ADMINS, need, stored(), NOW)) is Reason.ROLE
    assert on.decide(ADMINS, head, NOW) is not need
    assert why(decided(on, ADMINS, head, stored())) is Reason.ROLE


def test_users_who_change_during_a_look_up_on_the_denylist() -> None:
    """The same for a token that counts unless revoked, which has one session object for good."""
    key = secret_key(ISSUER, SECRET)
    own = Issuer(key, secret_key(ISSUER, REFRESH_SECRET), issuer=ISSUER)
    raw = own.access("alice", "s1", {"roles": ["admin"]}, NOW, "t1", method="password").encode()
    config = IssuerConfig(issuer=ISSUER, session_mode=SessionMode.DENYLIST)
    verifier = Verifier([config], KeyRing([key]), config)
    on = Gate(verifier, IDENTITY, logins("admin"))
    for present, reason in ((logins("user"), Reason.ROLE), (logins(), Reason.USER_GONE)):
        on.replace(verifier, logins("admin"))
        need = on.decide(ADMINS, request(b"Bearer " + raw), NOW)
        assert isinstance(need, NeedSession)
        assert need.revocable is not None
        live = need.revocable.session
        assert why(on.resume(ADMINS, need, live, NOW)) is None
        on.replace(verifier, present)
        assert why(on.resume(ADMINS, need, live, NOW)) is reason


def test_users_and_streams() -> None:
    """A stream whose login has a new token may continue if its user may."""
    live = session(VALUE, claims={"roles": ["admin"]})
    assert gate(logins=logins("admin")).admits(ADMINS, live)
    assert gate(logins=logins("user")).admits(REQUIRED, live)
    assert not gate(logins=logins("user")).admits(ADMINS, live)
    assert not gate(logins=logins()).admits(REQUIRED, live)


def test_users_and_tokens_without_sessions() -> None:
    """A token that needs no session follows the users too, if it is that of a password login."""
    issuer = "sessionless"
    config = IssuerConfig(issuer=issuer, session_mode=SessionMode.NONE)
    own = Verifier([config], KeyRing([secret_key(issuer, SECRET)]), config)
    claims = {"iss": issuer, "client_id": issuer, "amr": ["pwd"], "roles": ["admin"]}
    head = request(b"Bearer " + token(claims))
    free = request(b"Bearer " + token({"iss": issuer, "roles": ["admin"]}))
    for held, reason in ((["admin"], None), (["user"], Reason.ROLE), (None, Reason.USER_GONE)):
        on = Gate(own, IDENTITY, logins=PasswordLogins(Users(held), issuer))
        for _ in range(2):
            assert why(decided(on, ADMINS, head)) is reason
        assert why(decided(on, ADMINS, free)) is None
        verified = own.verify_access(token(claims), NOW)
        assert isinstance(verified, Verified)
        assert why(on.trust(ADMINS, verified)) is reason


def test_same_head_again() -> None:
    """A head that repeats is not parsed again, but token times and session are checked again."""
    on, head = gate(), request(BEARER)
    assert head.remembered is None
    for _ in range(3):
        assert isinstance(decided(on, REQUIRED, head, session()), Allow)
    need = on.decide(REQUIRED, request(BEARER), NOW)
    assert head.remembered is need
    assert on.decide(REQUIRED, head, NOW) is need
    assert why(decided(on, REQUIRED, head, None)) is Reason.SESSION_MISSING
    assert why(decided(on, REQUIRED, head, session(id="x"))) is Reason.SESSION_MISMATCH
    assert why(decided(on, REQUIRED, head, session(exp=NOW + 5000), NOW + 905)) is Reason.EXPIRED
    assert why(decided(on, REQUIRED, head, session(), NOW - 6)) is Reason.NOT_YET_VALID


def test_same_head_again_with_other_keys() -> None:
    """What a head remembers from before a change of keys is ignored."""
    on, head = gate(), request(BEARER)
    for _ in range(2):
        assert isinstance(decided(on, REQUIRED, head, session()), Allow)
    on.replace(
        Verifier([IssuerConfig(issuer=ISSUER)], KeyRing([secret_key(ISSUER, REFRESH_SECRET)])),
        PasswordLogins(),
    )
    assert why(decided(on, REQUIRED, head, session())) is Reason.SIGNATURE
    assert why(decided(gate(), REQUIRED, head, session(id="x"))) is Reason.SESSION_MISMATCH


@pytest.mark.parametrize("left", ["a word", 7, Allow(b"", "root", "", b"{}", None)], ids=repr)
def test_head_with_something_else_on_it(left: object) -> None:
    """An object on a head that the gate did not put there is ignored."""
    assert why(decided(gate(), REQUIRED, request(remembered=left))) is Reason.NO_CREDENTIALS


def test_cookie_head_again() -> None:
    """The gate stores nothing on a head with a cookie: the method may change next time."""
    on, head = gate(), request(cookie=COOKIE)
    for _ in range(3):
        assert isinstance(decided(on, REQUIRED, head, session(VALUE)), Allow)
    head.method = b"POST"
    assert why(decided(on, REQUIRED, head, session(VALUE))) is Reason.CROSS_ORIGIN


def test_twin_of_a_signature() -> None:
    """The twin of an ECDSA signature is valid, but makes another token, without a session."""
    key = private_key("ES256")
    on = Gate(
        Verifier(
            [IssuerConfig(issuer=ISSUER)], KeyRing([pem_key(ISSUER, public_pem(key), kid="")])
        ),
        IDENTITY,
    )
    raw = token(alg="ES256")
    twin = raw[:-86] + twin_of(raw[-86:])
    assert isinstance(decided(on, REQUIRED, request(b"Bearer " + raw), session(raw)), Allow)
    need = on.decide(REQUIRED, request(b"Bearer " + twin), NOW)
    assert isinstance(need, NeedSession)
    assert need.token_id != token_id(raw)
    assert why(on.resume(REQUIRED, need, session(raw), NOW)) is Reason.SESSION_MISMATCH


def twin_of(signature: bytes) -> bytes:
    """Return the other valid signature of the same message: (r, n - s)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = urlsafe_b64decode(signature + b"==")
    return b64(raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32))


def test_cookie_name() -> None:
    """Only the cookie with the configured name is used."""
    on = gate(cookie_name="sid")
    allowed = decided(on, REQUIRED, request(cookie=b"sid=" + VALUE), session(VALUE))
    assert isinstance(allowed, Allow)
    assert why(decided(on, REQUIRED, request(cookie=COOKIE))) is Reason.NO_CREDENTIALS


def test_secrets_are_not_shown() -> None:
    """The repr of a decision shows no credential and no claim."""
    allowed = decided(gate(), REQUIRED, request(BEARER), session())
    shown = repr(allowed) + repr(gate().decide(REQUIRED, request(BEARER), NOW))
    assert TOKEN.decode() not in shown
    assert "acme" not in shown


@unhurried
@given(
    st.none() | st.binary() | st.binary().map(lambda raw: b"Bearer " + raw),
    st.none() | st.binary() | st.binary().map(lambda raw: COOKIE + raw),
    st.sampled_from([b"GET", b"POST"]),
    st.none() | st.binary(max_size=20),
)
def test_any_request(
    authorization: bytes | None, cookie: bytes | None, method: bytes, origin: bytes | None
) -> None:
    """Any headers raise nothing, and without a session no request is allowed."""
    head = request(authorization, cookie, method=method, origin=origin)
    assert isinstance(decided(gate(), REQUIRED, head, None), Deny)


USERS = ("alice", "bob", "carol")


class Crowd(RuleBasedStateMachine):
    """Users with tokens and cookies at a small gate, while sessions start and end in any order.

    The model is one sentence: a credential with a live session is allowed as its user.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = gate(cache_size=4)
        self.now = NOW
        self.live: dict[bytes, Session] = {}
        self.tokens = {user: token({"sub": user, "sid": f"sid-{user}"}) for user in USERS}
        self.cookies = {user: f"cookie-of-{user}".encode() for user in USERS}

    @rule(
        user=st.sampled_from(USERS),
        kind=st.sampled_from(["tokens", "cookies"]),
        ttl=st.integers(1, 900),
    )
    def log_in(self, user: str, kind: str, ttl: int) -> None:
        """Start a session, or extend it to another expiry."""
        credential = getattr(self, kind)[user]
        self.live[credential] = session(
            credential, sub=user, sid=f"sid-{user}", exp=self.now + ttl, claims={"roles": [user]}
        )

    @rule(user=st.sampled_from(USERS), kind=st.sampled_from(["tokens", "cookies"]))
    def log_out(self, user: str, kind: str) -> None:
        """End a session."""
        self.live.pop(getattr(self, kind)[user], None)

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @rule()
    def reload(self) -> None:
        """Replace the verifier with an equal one."""
        self.gate.replace(VERIFIER, PasswordLogins())

    @rule(
        user=st.sampled_from(USERS),
        kind=st.sampled_from(["tokens", "cookies"]),
        store=st.sampled_from([*USERS, ""]),
    )
    def visit(self, user: str, kind: str, store: str) -> None:
        """Send a request; the store may return another user's session."""
        credential = getattr(self, kind)[user]
        swapped = getattr(self, kind)[store] if store else credential
        head = request(b"Bearer " + credential)
        if kind == "cookies":
            head = request(cookie=b"__Host-session=" + credential)
        live = self.live.get(swapped)
        decision = decided(self.gate, REQUIRED, head, live, self.now)
        good = live is not None and swapped == credential and live.exp > self.now
        if kind == "tokens" and self.now >= NOW + 905:
            good = False
        assert isinstance(decision, Allow) is good
        if isinstance(decision, Allow):
            assert (decision.subject, decision.session_id) == (user, f"sid-{user}")
            assert f"X-Auth-Subject: {user}\r\n".encode() in decision.identity


Crowd.TestCase.settings = settings(unhurried, max_examples=40, stateful_step_count=30)
TestCrowd = Crowd.TestCase


def test_only_its_own_answers_are_resumed() -> None:
    """An answer that no gate has made carries no credential, and nothing is decided by it."""
    with pytest.raises(TypeError, match="expected an answer of this gate"):
        gate().resume(Route("r"), NeedSession("id", None, None), session(), NOW)
