"""The session store's protocol. Every backend passes the same contract suite.

Absence is `None`; an outage is `errors.StoreUnavailable`. Neither is ever inferred from the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sidecar.auth.denylist import RevocableToken, Revocation
    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.coherence import PendingLookup


class RevocationStore(Protocol):
    """Of tokens that count unless they are denied, which those are. What was denied stays so.

    A token that is not denied has a session, that of its claims, for who asks for one.
    """

    def peek(self, revocable: RevocableToken) -> Session | None:
        """The session if that is certain without waiting; None says only "ask `get`"."""

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this process knows that the token is denied."""

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The session, or None: the token is denied. Raises StoreUnavailable."""

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Deny these, by name. Raises StoreUnavailable; a second call does what was not done."""


class SessionStore(Protocol):
    """Sessions by token id. Times are seconds since the epoch, as the store's clock gives them.

    A login is live from the `write` of its first grant until it is revoked, expires, or is dropped
    for want of room. Nothing that was revoked comes back, whatever is written late.
    """

    @property
    def revocations(self) -> RevocationStore:
        """What is denied of tokens that need no session."""

    @property
    def degraded(self) -> bool:
        """Whether the shared store is known to be away: then `get` is not worth a try."""

    def peek(self, token_id: str) -> Session | None:
        """The live session if that is certain without waiting; None says only "ask `get`"."""

    def known(self, token_id: str) -> Session | None:
        """The session as far as this process knows it; for when `get` raises StoreUnavailable."""

    def ended_here(self, session: Session) -> bool:
        """Whether this process knows that this session was ended, by its id, `sid` or user."""

    @property
    def tells(self) -> bool:
        """Whether what changes elsewhere is told of."""

    def on_ended(self, listener: Callable[[str | None], None]) -> None:
        """Call this with the token id of each session that ends or changes; None: any may have.

        Also of some that did not, and not before they are looked up differently.
        """

    async def token_of(self, sid: str) -> str | None:
        """The id of the token that a login has now, or None. Raises StoreUnavailable."""

    async def get(self, token_id: str) -> Session | None:
        """The live session under this token id, or None. Raises StoreUnavailable."""

    async def write(self, grant: Grant) -> bool:
        """Write all of one login or refresh, then end the token it replaces. Idempotent.

        A grant that replaces a token continues the login `session.sid`; False says that this login
        has been ended meanwhile: nothing of the grant is live then, and the credentials made for it
        must not be handed out. Raises StoreUnavailable.
        """

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None. Raises StoreUnavailable."""

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """In one atomic step: if the record is live, put `used` in its place.

        Returns what was there before: the caller won the claim if its `used_at` is None. Raises
        StoreUnavailable.
        """

    async def revoke_session(self, sid: str) -> bool:
        """End one login: its access token, its refresh token, its listing. True if there was one.

        Raises StoreUnavailable; what was not ended then, a second call ends.
        """

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and the login it belongs to. True if there was one."""

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user; how many there were."""

    async def sessions_of(self, sub: str) -> list[SessionInfo]:
        """The user's live logins, newest first."""

    async def close(self) -> None:
        """Give back connections and tasks."""


class Durations(Protocol):
    """Where durations in seconds go."""

    def observe(self, seconds: float) -> None:
        """Count one."""


class LookupMetrics(Protocol):
    """What look-ups are counted in: by (source, result), and by source.

    A result is `hit`, `miss`, `unreadable`, or the `Fault` that kept Redis from answering.
    """

    lookups: dict[tuple[str, str], int]

    @property
    def lookup_duration(self) -> Mapping[str, Durations]:
        """How long they took."""


class Observer(Protocol):
    """Who remembers what look-ups found; told in the moment in which the answer came."""

    def begin(self) -> PendingLookup:
        """A look-up is about to be sent."""

    def confirm(self, token_id: str, session: Session | None, lookup: PendingLookup) -> None:
        """What it found under one token id."""

    def admit(
        self, revocable: RevocableToken, found: Sequence[Revocation | None], lookup: PendingLookup
    ) -> Session | None:
        """What it found under each name of a token; the session of one that is not denied."""

    def end(self, lookup: PendingLookup) -> None:
        """It is over."""


class SharedStore(SessionStore, Protocol):
    """A store that all pods share, and that may be away. Its faults are RedisUnavailable."""

    async def ping(self) -> None:
        """Ask it anything."""

    async def revoke_user(
        self, sub: str, before: float | None = None, also: Iterable[str] = ()
    ) -> int:
        """End a user's logins, or those that began before a moment, in seconds since the epoch.

        `also` are sids of the user's that are ended whatever the listing says of them.
        """

    async def touch(self, sids: Sequence[str]) -> None:
        """Write that these logins were seen, where that was not done for a while."""

    def observe(self, observer: Observer) -> None:
        """Tell this one of every look-up."""

    def read_through(self, client: Any) -> None:
        """Look sessions up by this client of Redis, or (None) by its own."""
