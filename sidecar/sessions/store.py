"""The protocol of session stores. Every backend implements it and passes one contract suite.

Absence is `None`; an outage is `errors.StoreUnavailable`. A store never infers one from the other.
Pure; knows no backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.sessions.listing import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.revocation import Revocation
    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.coherence import PendingLookup
    from sidecar.sessions.listing import Position


class RevocationStore(Protocol):
    """The denylist: which of the tokens that need no stored session are revoked.

    The session of a token that is not revoked comes from its claims. A revocation lasts until it
    expires; a later, weaker one never shortens it.
    """

    def peek(self, revocable: RevocableToken) -> Session | None:
        """The session, if it is certain without waiting. None means only that `get` must be asked.

        The hot path.
        """

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this process knows that the token is revoked."""

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The session, or None if the token is revoked. Raises StoreUnavailable."""

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Record these revocations, by name.

        Raises StoreUnavailable; a second call then completes the work.
        """


class SessionStore(Protocol):
    """Sessions by token id. Times are seconds since the epoch, from the store's clock.

    A login is live from the `write` of its first grant until it is revoked, expires, or is evicted
    to make room. A late write never brings back a revoked login.
    """

    async def start(self) -> None:
        """Begin background work. A shared store that cannot be reached is not an error."""

    @property
    def revocations(self) -> RevocationStore:
        """The denylist of tokens that need no session."""

    @property
    def degraded(self) -> bool:
        """Whether the shared store is known to be unusable. Calling `get` is then pointless."""

    @property
    def outage_confirmed(self) -> bool:
        """Whether the shared store is known to be away, and not just slow for a moment."""

    @property
    def transitions(self) -> Sequence[Mapping[str, Any]]:
        """The latest changes between the shared store and local memory, oldest first."""

    def describe(self) -> dict[str, Any]:
        """The store's state as plain JSON values, for `/status`. Its `kind` names the backend."""

    def peek(self, token_id: str) -> Session | None:
        """The live session, if it is certain without waiting.

        None means only that `get` must be asked. The hot path.
        """

    def last_known(self, token_id: str) -> Session | None:
        """The session as this process last knew it. For when `get` raises StoreUnavailable."""

    def is_ended(self, session: Session) -> bool:
        """Whether this process knows that the session was ended, by its id, `sid` or user."""

    @property
    def reports_changes(self) -> bool:
        """Whether the change listener is notified of changes that other processes make."""

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` with the token id of each session that ends or changes.

        None means that any session may have changed. Some reports are false alarms. When the
        listener is called, a look-up already returns the new state.
        """

    async def token_of(self, sid: str) -> str | None:
        """The current token id of a login, or None. Raises StoreUnavailable."""

    async def get(self, token_id: str) -> Session | None:
        """The live session under this token id, or None. Raises StoreUnavailable."""

    async def write(self, grant: Grant) -> bool:
        """Write everything that one login or refresh grants, then end the token it replaces.

        Idempotent. A grant that replaces a token continues the login `session.sid`. False means
        that this login has been ended, or has another grant of this generation or of a later one:
        nothing of the grant is live, and the caller must not hand out its credentials. Raises
        StoreUnavailable.
        """

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None. Raises StoreUnavailable.

        A used record expires soon; after that, the generation of its login shows that it was used.
        """

    async def generation_of(self, sid: str) -> int | None:
        """How often a live login has been refreshed, or None. Raises StoreUnavailable."""

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Replace a live record by `used`, in one atomic step.

        Returns the previous record. The caller has won the claim if its `used_at` is None. Raises
        StoreUnavailable.
        """

    async def count_repeat(self, refresh_id: str, used: RefreshRecord) -> int | None:
        """Count a repeat of a used token, whose record is `used`. Returns how many there were.

        None if the record has expired. Raises StoreUnavailable.
        """

    async def revoke_session(self, sid: str) -> bool:
        """End one login: its access token, its refresh token, its listing. True if it existed.

        Raises StoreUnavailable; a second call then completes the work.
        """

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and the login it belongs to. True if it existed."""

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user. Returns how many there were."""

    async def login_of(self, sub: str, sid: str) -> SessionInfo | None:
        """The login under this sid if it is one of the user's live logins. Cheap."""

    async def sessions_of(
        self, sub: str, after: Position | None = None, limit: int = PAGE
    ) -> list[SessionInfo]:
        """The first `limit` of the user's live logins after this position, newest first.

        Fewer than `limit` means that no more follow.
        """

    async def login_times(self, sub: str, *, above: int) -> dict[str, float]:
        """When each of the user's live logins began, by sid; empty unless more than `above`.

        Raises StoreUnavailable.
        """

    async def close(self) -> None:
        """Close connections and end background work."""


class Durations(Protocol):
    """A histogram of durations."""

    def observe(self, seconds: float) -> None:
        """Count one duration."""


class LookupMetrics(Protocol):
    """Counters of look-ups by (source, result), and their durations by source.

    A result is `hit`, `miss`, `unreadable`, `bad_mac`, or the `Fault` that kept Redis from
    answering.
    """

    lookups: dict[tuple[str, str], int]

    @property
    def lookup_duration(self) -> Mapping[str, Durations]:
        """The durations of look-ups, by source."""


class LookupObserver(Protocol):
    """Records what look-ups find, in the loop iteration in which the answer arrives."""

    def begin_lookup(self) -> PendingLookup:
        """A look-up is about to be sent."""

    def record_session(
        self, token_id: str, session: Session | None, lookup: PendingLookup
    ) -> Session | None:
        """Record what a look-up found under one token id.

        Returns it, or None if the session was ended here while the answer was under way.
        """

    def record_revocations(
        self, revocable: RevocableToken, found: Sequence[Revocation | None], lookup: PendingLookup
    ) -> Session | None:
        """Record what a look-up found under each name of a token.

        Returns the token's session, or None if the token is revoked.
        """

    def end_lookup(self, lookup: PendingLookup) -> None:
        """The look-up is complete, or has failed."""


class ReadableNames(Protocol):
    """Reads what a key of the shared store is about."""

    def token_in(self, key: bytes) -> str | None:
        """The token id in the key of a session, or None."""

    def revocation_in(self, key: bytes) -> str | None:
        """The name in the key of a revocation, or None."""


@dataclass(frozen=True, slots=True)
class ServerName:
    """What logs call a shared store: its address, and the user there; neither is secret."""

    address: str = ""
    user: str = ""


class SharedStore(SessionStore, Protocol):
    """A store that all pods share and that may be unavailable. It raises RedisUnavailable."""

    @property
    def server(self) -> ServerName:
        """Its name in logs."""

    @property
    def names(self) -> ReadableNames:
        """The names of its keys."""

    async def ping(self) -> None:
        """Check that the store answers a look-up."""

    async def revoke_user(
        self, sub: str, before: float | None = None, also: Iterable[str] = ()
    ) -> int:
        """End a user's logins; with `before`, only those that began before that time.

        `also` are sids of this user that are ended whether they are listed or not.
        """

    async def touch(self, sids: Sequence[str]) -> None:
        """Record that these logins were seen now, unless that was recorded recently."""

    def set_observer(self, observer: LookupObserver) -> None:
        """Report every look-up to `observer`."""

    def read_through(self, reads: Any) -> None:
        """Make look-ups through these `TrackedReads`; None restores the store's own client."""
