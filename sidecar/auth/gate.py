"""The decision: allow, deny, or say which session to look up. Pure, and the hottest path of all.

It never fetches; it returns what it needs. Denials are values prepared at start. The fast forms
here are measured: a known bearer token costs one SHA-256, one dict look-up and a few comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.auth.claims import holds, roles_of, scopes_of, set_of
from sidecar.auth.credentials import SessionCookie, parse_credentials
from sidecar.auth.denylist import revocable_token
from sidecar.auth.reason import REALM, Reason
from sidecar.auth.same_origin import changes_state, is_same_origin
from sidecar.auth.session import FOREVER, SessionKey, token_id
from sidecar.auth.strict_json import read_again
from sidecar.auth.token_cache import DEFAULT_SIZE, TokenCache
from sidecar.auth.tokens import SessionMode, belongs

if TYPE_CHECKING:
    from sidecar.auth.identity import IdentityHeaders
    from sidecar.auth.routes import Requirement, Route
    from sidecar.auth.session import Session
    from sidecar.auth.tokens import Verified, Verifier
    from sidecar.wire.head import RequestHead

_NOTHING: Final[frozenset[str]] = frozenset()


class Allow(msgspec.Struct, frozen=True, gc=False):
    """Let through, until `expires` if it is set. `identity` is every identity header line.

    `payload` is the JSON of all claims.
    """

    identity: bytes
    subject: str
    session_id: str
    payload: bytes
    expires: float | None
    roles: frozenset[str] = _NOTHING
    scopes: frozenset[str] = _NOTHING

    def __repr__(self) -> str:
        return f"<Allow {self.subject!r} until {self.expires}>"

    @property
    def claims(self) -> dict[str, Any]:
        """All claims, read anew each time."""
        return read_again(self.payload)


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused. `challenge` is the value of WWW-Authenticate, None when none is due."""

    reason: Reason
    challenge: bytes | None


class NeedSession:
    """The session of this token id decides; or whether the token is denied, if it is `claimed`.

    One object for as long as its credential is remembered. `verified` is what `verifier` made of a
    token, None for a cookie, which says nothing until its session is known. The rest is the gate's
    own: the session last found to belong here, what it gives, and whether that needs none.
    """

    __slots__ = (
        *("allow", "decided", "digest", "expires", "not_before", "revocable", "session"),
        *("token_id", "until", "verified", "verifier"),
    )
    allow: Allow

    def __init__(
        self, token_id: str, digest: bytes, verified: Verified | None, verifier: Verifier
    ) -> None:
        self.verifier = verifier
        self.token_id = token_id
        self.digest = digest
        self.verified = verified
        self.session: Session | None = None
        self.decided = verified is not None and verified.session_mode is SessionMode.NONE
        self.revocable = revocable_token(verified, token_id, digest)
        self.expires = self.until = FOREVER if verified is None else verified.expires
        self.not_before = 0.0 if verified is None else verified.not_before

    def __repr__(self) -> str:
        kind = "cookie" if self.verified is None else f"token of {self.verified.subject!r}"
        return f"<NeedSession {kind}>"


class Gate:
    """Decides about requests.

    `replace_verifier` replaces the keys and forgets the tokens remembered under the old ones.
    `cache_size` bounds the remembered bearer tokens, and again the remembered cookies.
    """

    __slots__ = (
        *("_bearers", "_challenge", "_cookie_mark", "_cookie_name", "_cookies", "_denials"),
        *("_identity", "_missing", "_revoked", "_session_key", "_verifier", "anonymous"),
    )

    def __init__(
        self,
        verifier: Verifier,
        identity: IdentityHeaders,
        *,
        cookie_name: str = "__Host-session",
        session_key: SessionKey = SessionKey.SHA256,
        realm: str = REALM,
        cache_size: int = DEFAULT_SIZE,
    ) -> None:
        self._verifier = verifier
        self._identity = identity
        self._cookie_name = cookie_name.encode("ascii")
        self._cookie_mark = self._cookie_name + b"="
        self._session_key = session_key
        self._challenge = b'Bearer realm="%b"' % realm.encode("ascii")
        self._denials = {reason: Deny(reason, self._challenge_of(reason)) for reason in Reason}
        self._missing = self._denials[Reason.SESSION_MISSING]
        self._revoked = self._denials[Reason.REVOKED]
        self._bearers: TokenCache[NeedSession] = TokenCache(cache_size)
        self._cookies: TokenCache[NeedSession] = TokenCache(cache_size)
        self.anonymous = Allow(identity.anonymous, "", "", b"{}", None)

    def __repr__(self) -> str:
        return f"<Gate bearers={self._bearers!r} cookies={self._cookies!r}>"

    def replace_verifier(self, verifier: Verifier) -> None:
        """Verify with these keys from now on."""
        self._verifier = verifier
        self._bearers.clear()

    def deny(self, reason: Reason) -> Deny:
        """The prepared denial for a reason that is found outside the gate."""
        return self._denials[reason]

    def decide(self, route: Route, head: RequestHead, now: float) -> Allow | Deny | NeedSession:
        """What to do with a request on this route, as far as it shows without its session."""
        if route.public:
            return self.anonymous
        need = head.remembered
        if not isinstance(need, NeedSession) or need.verifier is not self._verifier:
            need = self._find(head)
        if need is None or not need.not_before <= now < need.expires:
            return self._decide_anew(route, head, now)
        if not need.decided:
            return need
        return self._authorise(route, need.allow) if route.restricted else need.allow

    def resume(
        self, route: Route, need: NeedSession, session: Session | None, now: float
    ) -> Allow | Deny:
        """The decision, now that the session (None: there is none) is known."""
        if session is None:
            return self._missing if need.revocable is None else self._revoked
        if session is not need.session:
            denied = self._bind(need, session, now)
            if denied is not None:
                return denied
        if session.exp <= now:
            return self._missing
        return self._authorise(route, need.allow) if route.restricted else need.allow

    def trust(self, route: Route, verified: Verified) -> Allow | Deny:
        """The decision by a good token alone, whose session cannot be asked for."""
        allow = self._allow_token(verified, None)
        return self._authorise(route, allow) if route.restricted else allow

    def admits(self, route: Route, session: Session) -> bool:
        """Whether the route is for whom this session speaks of."""
        allow = self._allow_cookie(session)
        return not (route.restricted and isinstance(self._authorise(route, allow), Deny))

    def _find(self, head: RequestHead) -> NeedSession | None:
        """What is remembered of the credentials, if they come in the usual form."""
        value, cookie = head.authorization, head.cookie
        if value is None:
            if cookie is not None and head.method == b"GET" and head.upgrade is None:
                return self._recall(cookie)
            return None
        if (
            value[:7] != b"Bearer "
            or head.repeated
            or (cookie is not None and self._cookie_mark in cookie)
        ):
            return None
        # Whatever stands behind the scheme: if it is remembered, it has been a good token.
        need = self._bearers.entries.get(sha256(value[7:]).digest())
        head.remembered = need
        return need

    def _recall(self, cookie: bytes) -> NeedSession | None:
        """What is remembered of the one session cookie in a Cookie header of the usual form."""
        before, mark, after = cookie.partition(self._cookie_mark)
        if not mark or mark in after or (before and before[-2:] != b"; "):
            return None
        return self._cookies.entries.get(sha256(after.partition(b";")[0]).digest())

    def _decide_anew(
        self, route: Route, head: RequestHead, now: float
    ) -> Allow | Deny | NeedSession:
        credentials = parse_credentials(head, self._cookie_name)
        if isinstance(credentials, Reason):
            if route.optional and credentials is Reason.NO_CREDENTIALS:
                return self.anonymous
            return self._denials[credentials]
        if isinstance(credentials, SessionCookie):
            if changes_state(head) and not is_same_origin(head):
                return self._denials[Reason.CROSS_ORIGIN]
            return self._need_of_cookie(credentials.value)
        need = self._need_of_token(credentials.token, now)
        if isinstance(need, Reason):
            return self._denials[need]
        if not need.decided:
            return need
        return self._authorise(route, need.allow) if route.restricted else need.allow

    def _need_of_cookie(self, value: bytes) -> NeedSession:
        """Remembered only once it has a session: what clients make up must not fill the cache."""
        digest = sha256(value).digest()
        return self._cookies.entries.get(digest) or NeedSession(
            token_id(value, self._session_key), digest, None, self._verifier
        )

    def _need_of_token(self, token: bytes, now: float) -> NeedSession | Reason:
        digest = sha256(token).digest()
        need = self._bearers.entries.get(digest)
        if need is None:
            verified = self._verifier.verify_access(token, now)
            if isinstance(verified, Reason):
                return verified
            name = token_id(token, self._session_key)
            need = NeedSession(name, digest, verified, self._verifier)
            if need.decided:
                need.allow = self._allow_token(verified, None)
            self._bearers.put(digest, need, now)
        if now >= need.expires:
            return Reason.EXPIRED
        return Reason.NOT_YET_VALID if now < need.not_before else need

    def _bind(self, need: NeedSession, session: Session, now: float) -> Deny | None:
        """Take this session for this credential, if it is its own and not another's."""
        verified = need.verified
        if not belongs(session, need.token_id, verified):
            return self._denials[Reason.SESSION_MISMATCH]
        if session != need.session:  # a store may give an equal one each time
            need.allow = (
                self._allow_cookie(session)
                if verified is None
                else self._allow_token(verified, session)
            )
        need.session = session
        # One text for both: where any of 100,000 tokens may come, each object less is memory that
        # need not be waited for, nor kept (measured: 130 octets a session).
        need.token_id = session.id
        if verified is None:
            need.until = session.exp
            self._cookies.put(need.digest, need, now)
        return None

    def _allow_token(self, verified: Verified, session: Session | None) -> Allow:
        """What a token gives: it speaks for itself; its session says which login, and how long."""
        sid, expires = verified.session_id, verified.expires
        if session is not None:
            sid, expires = sid or session.sid, min(expires, session.exp)
        return Allow(
            identity=self._identity.lines(verified.claims, verified.subject, sid),
            subject=verified.subject,
            session_id=sid,
            payload=verified.payload,
            expires=expires,
            roles=set_of(verified.roles),
            scopes=set_of(verified.scopes),
        )

    def _allow_cookie(self, session: Session) -> Allow:
        """What a cookie gives: the cookie is opaque, its session speaks."""
        return Allow(
            identity=self._identity.lines(session.claims, session.sub, session.sid),
            subject=session.sub,
            session_id=session.sid,
            payload=msgspec.json.encode({**session.claims, "sub": session.sub, "sid": session.sid}),
            expires=session.exp,
            roles=set_of(roles_of(session.claims) or ()),
            scopes=set_of(scopes_of(session.claims) or ()),
        )

    def _authorise(self, route: Route, allow: Allow) -> Allow | Deny:
        """Hold what the caller has against what is required; what is missing is the reason."""
        required = route.requirement
        if required.roles and required.roles.isdisjoint(allow.roles):
            return self._denials[Reason.ROLE]
        if not required.scopes <= allow.scopes:
            return self._deny_scope(required)
        if required.claims:
            claims = allow.claims
            for name, accepted in required.claims:
                if not holds(claims.get(name), accepted):
                    return self._denials[Reason.CLAIM]
        return allow

    def _deny_scope(self, required: Requirement) -> Deny:
        """RFC 6750 section 3.1: the challenge may name the scopes that are needed."""
        scope = " ".join(sorted(required.scopes)).encode("ascii")
        challenge = self._denials[Reason.SCOPE].challenge or b""
        return Deny(Reason.SCOPE, b'%b, scope="%b"' % (challenge, scope))

    def _challenge_of(self, reason: Reason) -> bytes | None:
        """RFC 6750 section 3: no error code when there were no credentials at all."""
        if reason.error is not None:
            return b'%b, error="%b"' % (self._challenge, reason.error.encode("ascii"))
        return self._challenge if reason.status == 401 else None
