"""Decides about a request: allow it, deny it, or say which session to look up. Pure.

The gate never fetches: it returns what it needs. Denials are prepared at start. This is the hottest
code, and measured: a known bearer token costs one SHA-256, a dict look-up and a few comparisons.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from sidecar.auth.authorisation import authorise
from sidecar.auth.cached_credential import CachedCredential, estimate_octets
from sidecar.auth.claimed_issuer import claimed_issuer
from sidecar.auth.claims import display_name, interned_set, roles_of, scopes_of
from sidecar.auth.cors import NO_CORS
from sidecar.auth.credentials import Accepts, SessionCookie, is_without_bearer, parse_credentials
from sidecar.auth.decision import Allow, Deny
from sidecar.auth.denials import Denials
from sidecar.auth.denylist import revocable_token
from sidecar.auth.identity import Identity
from sidecar.auth.password_logins import PasswordLogins
from sidecar.auth.reason import REALM, Reason
from sidecar.auth.same_origin import changes_state, is_same_origin
from sidecar.auth.session import SessionKey, token_id
from sidecar.auth.token_cache import DEFAULT_SIZE, TokenCache
from sidecar.auth.verified import belongs

if TYPE_CHECKING:
    from sidecar.auth.identity import IdentityHeaders
    from sidecar.auth.need_session import NeedSession
    from sidecar.auth.routes import Route
    from sidecar.auth.session import Session
    from sidecar.auth.tokens import Verifier
    from sidecar.auth.verified import Verified
    from sidecar.wire.head import RequestHead


class Gate:
    """Decides about requests.

    `replace` replaces the keys and the users, and forgets what was decided by the old ones.
    `cache_size` limits the remembered bearer tokens and, separately, the remembered cookies.
    `cors`, which a reload replaces, names other origins whose pages may use cookies as ours do.
    """

    __slots__ = (
        *("_basis", "_bearers", "_cookie_mark", "_cookie_name", "_cookies", "_denials"),
        *("_identity", "_logins", "_revoked", "_session_key", "_verifier"),
        *("anonymous", "cors"),
    )

    def __init__(
        self,
        verifier: Verifier,
        identity: IdentityHeaders,
        logins: PasswordLogins | None = None,
        *,
        cookie_name: str = "__Host-session",
        session_key: SessionKey = SessionKey.SHA256,
        realm: str = REALM,
        cache_size: int = DEFAULT_SIZE,
    ) -> None:
        self._verifier = verifier
        self._logins = PasswordLogins() if logins is None else logins
        self._basis = object()  # another one for each pair of keys and users
        self._identity = identity
        self._cookie_name = cookie_name.encode("ascii")
        self._cookie_mark = self._cookie_name + b"="
        self._session_key = session_key
        self._denials = Denials(realm)
        self._revoked = self._denials[Reason.REVOKED]
        self._bearers: TokenCache[CachedCredential] = TokenCache(cache_size)
        self._cookies: TokenCache[CachedCredential] = TokenCache(cache_size)
        self.anonymous = Allow(identity.anonymous, "", "", b"{}", None)
        self.cors = NO_CORS

    def __repr__(self) -> str:
        return f"<Gate bearers={self._bearers!r} cookies={self._cookies!r}>"

    def replace(self, verifier: Verifier, logins: PasswordLogins) -> None:
        """Decide by other keys and users from now on.

        Every remembered credential is forgotten. The next request of each is bound to its session
        again, so the users cost nothing while they stay the same.
        """
        self._verifier, self._logins, self._basis = verifier, logins, object()
        self._bearers.clear()
        self._cookies.clear()

    def deny(self, reason: Reason) -> Deny:
        """Return the prepared denial for a reason that was found outside the gate."""
        return self._denials[reason]

    def decide(self, route: Route, head: RequestHead, now: float) -> Allow | Deny | NeedSession:
        """Decide about a request on this route as far as possible without its session."""
        if route.special:
            if route.public:
                return self.anonymous
            # What is remembered of such a head would be of the kind that does not count.
            if (head.authorization is None) is (route.credentials is Accepts.BEARER):
                return self._decide_anew(route, head, now)
        need = head.remembered
        if not isinstance(need, CachedCredential) or need.basis is not self._basis:
            found = self._find(head)
            if not isinstance(found, CachedCredential):
                return self._decide_anew(route, head, now, found)
            need = found
        if not need.not_before <= now < need.expires:
            return self._decide_anew(route, head, now)
        if not need.decided:
            return need
        return authorise(route, need.allow, self._denials) if route.restricted else need.allow

    def resume(
        self, route: Route, need: NeedSession, session: Session | None, now: float
    ) -> Allow | Deny:
        """Decide after the session look-up; `session` is None if no session was found.

        Raises TypeError if `need` was not made by a gate.
        """
        if session is None:
            return self._revoked if need.revocable is not None else self._end(route, need)
        if not isinstance(need, CachedCredential):
            raise TypeError(f"expected an answer of this gate; got {need!r}")
        # A look-up that a reload overtook may return the session that is bound already.
        if session is not need.session or need.basis is not self._basis:
            denied = self._bind(need, session, now)
            if denied is not None:
                return self._end(route, need, denied.reason)
        if session.exp <= now:
            return self._end(route, need)
        return authorise(route, need.allow, self._denials) if route.restricted else need.allow

    def trust(self, route: Route, verified: Verified) -> Allow | Deny:
        """Decide by a verified token alone, because its session cannot be looked up."""
        allow = self._allow_token(verified, None)
        if isinstance(allow, Deny) or not route.restricted:
            return allow
        return authorise(route, allow, self._denials)

    def admits(self, route: Route, session: Session) -> bool:
        """Whether the user of this session exists and meets the requirements of the route."""
        allow = self._allow_cookie(session)
        if isinstance(allow, Allow) and route.restricted:
            allow = authorise(route, allow, self._denials)
        return isinstance(allow, Allow)

    def _find(self, head: RequestHead) -> CachedCredential | bytes | None:
        """Return what is remembered of usual headers, or the SHA-256 of an unknown bearer token."""
        value, cookie = head.authorization, head.cookie
        if value is None:
            if cookie is not None and head.method == b"GET" and head.upgrade is None:
                return self._recall(cookie)
            return None
        if (
            value[:7] != b"Bearer "
            or head.repeated
            # `in` would try to read the mark as a number first, which takes 1,600 instructions.
            or (cookie is not None and cookie.find(self._cookie_mark) >= 0)
        ):
            return None
        # No check of the token's syntax: only verified tokens are remembered.
        digest = sha256(value[7:]).digest()
        need = head.remembered = self._bearers.entries.get(digest)
        return need or digest

    def _recall(self, cookie: bytes) -> CachedCredential | None:
        """Return what is remembered of the session cookie if the header has the usual form."""
        before, mark, after = cookie.partition(self._cookie_mark)
        if not mark or mark in after or (before and before[-2:] != b"; "):
            return None
        return self._cookies.entries.get(sha256(after.partition(b";")[0]).digest())

    def _decide_anew(
        self, route: Route, head: RequestHead, now: float, digest: bytes | None = None
    ) -> Allow | Deny | NeedSession:
        """Decide by the credentials themselves; `digest` is what `_find` says about the token."""
        verifier = self._verifier
        sent = parse_credentials(
            head, self._cookie_name, verifier.issuers, route.credentials, verifier.max_token
        )
        if isinstance(sent, Reason):
            if route.optional and sent is Reason.NO_CREDENTIALS:
                return self.anonymous
            if route.optional and is_without_bearer(head, route.credentials):
                return self._denials.stale_cookie(sent)
            return self._denials[sent]
        if isinstance(sent, SessionCookie):
            if changes_state(head) and not (is_same_origin(head) or self.cors.trusts(head)):
                return self._denials[Reason.CROSS_ORIGIN]
            return self._need_of_cookie(sent.value)
        # With more than one space before the token, something else was hashed.
        if digest is None or len(sent.token) + 7 != len(head.authorization or b""):
            digest = sha256(sent.token).digest()
        need = self._need_of_token(sent.token, digest, now)
        if need is Reason.KEY_UNKNOWN:
            return self._denials.unknown_key(claimed_issuer(sent.token))
        if isinstance(need, Reason):
            return self._denials[need]
        if not need.decided:
            return need
        return authorise(route, need.allow, self._denials) if route.restricted else need.allow

    def _need_of_cookie(self, value: bytes) -> CachedCredential:
        # Remembered only in `_bind`, with a session: made-up values must not fill the cache.
        digest = sha256(value).digest()
        return self._cookies.find(digest) or CachedCredential(
            token_id(value, self._session_key, digest), digest, None, self._basis
        )

    def _need_of_token(self, token: bytes, digest: bytes, now: float) -> CachedCredential | Reason:
        need = self._bearers.find(digest)
        if need is None:
            verified = self._verifier.verify_access(token, now)
            if isinstance(verified, Reason):
                return verified
            name = token_id(token, self._session_key, digest)
            revocable = revocable_token(verified, name, token)
            need = CachedCredential(name, digest, verified, self._basis, revocable)
            if need.decided:
                if isinstance(allow := self._allow_token(verified, None), Deny):
                    return allow.reason
                need.allow = allow
            self._bearers.put(digest, need, now)
        if now >= need.expires:
            return Reason.EXPIRED
        return Reason.NOT_YET_VALID if now < need.not_before else need

    def _bind(self, need: CachedCredential, session: Session, now: float) -> Deny | None:
        """Bind this session to this credential; a denial if it is another's or its user is gone."""
        verified = need.verified
        if not belongs(session, need.token_id, verified):
            return self._denials[Reason.SESSION_MISMATCH]
        # Keys and users may have been replaced while the session was looked up.
        current = need.basis is self._basis
        if session != need.session or not current:  # a store may return an equal object each time
            if verified is None:
                allow = self._allow_cookie(session)
            else:
                allow = self._allow_token(verified, session)
            if isinstance(allow, Deny):
                return allow
            need.allow = allow
        need.session = session
        # Share one string: with 100,000 tokens in use, each object less saves memory and cache
        # misses (measured: 130 octets a session).
        need.token_id = session.id
        if verified is None and current:
            need.until, found = session.exp, need.allow
            if not need.octets:  # the cache counts on what it was when the entry was put there
                need.octets = estimate_octets(found.payload, found.roles | found.scopes)
            self._cookies.put(need.digest, need, now)
        return None

    def _allow_token(self, verified: Verified, session: Session | None) -> Allow | Deny:
        """Build the Allow for a token: its own claims, and the login and expiry of its session.

        The claims about a user of the users file are those in the file now.
        """
        stated, payload = verified.claims, verified.payload
        claims = self._logins.token_claims(verified, stated, session)
        if claims is None:
            return self._denials[Reason.USER_GONE]
        user, roles, scopes = verified.user, verified.roles, verified.scopes
        if claims is not stated and (present := msgspec.json.encode(claims)) != payload:
            payload = present  # otherwise both share one object
            user = display_name(claims, verified.subject)
            roles, scopes = roles_of(claims), scopes_of(claims)
        sid, expires = verified.session_id, verified.expires
        if session is not None:
            sid, expires = sid or session.sid, min(expires, session.exp)
        named = Identity(claims, user, verified.subject, verified.issuer, sid, roles, scopes)
        return Allow(
            identity=self._identity.lines(named),
            subject=verified.subject,
            session_id=sid,
            payload=payload,
            expires=expires,
            roles=interned_set(roles),
            scopes=interned_set(scopes),
            issuer=verified.issuer,
            local=verified.local,
        )

    def _allow_cookie(self, session: Session) -> Allow | Deny:
        """Build the Allow for a cookie, from its session alone: the cookie itself is opaque."""
        claims = self._logins.present_claims(session.method, session.sub, session.claims)
        if claims is None:
            return self._denials[Reason.USER_GONE]
        subject, sid, issuer = session.sub, session.sid, self._verifier.issuer
        user, roles, scopes = display_name(claims, subject), roles_of(claims), scopes_of(claims)
        named = Identity(claims, user, subject, issuer, sid, roles, scopes)
        return Allow(
            identity=self._identity.lines(named),
            subject=subject,
            session_id=sid,
            payload=msgspec.json.encode({**claims, "sub": subject, "sid": sid}),
            expires=session.exp,
            roles=interned_set(roles),
            scopes=interned_set(scopes),
            issuer=issuer,
            local=True,
        )

    def _end(
        self, route: Route, need: NeedSession, reason: Reason = Reason.SESSION_MISSING
    ) -> Deny:
        """Deny because of the session. On an optional route, a token must still have one."""
        if route.optional and need.verified is None:
            return self._denials.stale_cookie(reason)
        return self._denials[reason]
