"""The subject of the contract suite: a store, a way to let time pass, and grants to write."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from secrets import token_bytes
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from sidecar.auth.session import USED_KEPT, Grant, RefreshRecord, Session
from sidecar.errors import StoreUnavailable
from tests.peers.clock import START

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.sessions.store import SessionStore
    from tests.peers.clock import Clock

ACCESS_TTL: Final = 900.0
REFRESH_TTL: Final = 7 * 86400.0
USED_TTL: Final = 15.0
_NUMBERS: Final = count(1)


@dataclass(frozen=True)
class Subject:
    """A store under test. `forward` lets seconds pass for the store and for its Redis.

    `alone` means that its shared store is unavailable, and may hold what the store does not know.
    """

    store: SessionStore
    clock: Clock
    forward: Callable[[float], Awaitable[None]]
    alone: bool = False

    async def found(self, token_id: str) -> Session | None:
        """Look a token up like a request in outage mode `local`."""
        try:
            return self.store.peek(token_id) or await self.store.get(token_id)
        except StoreUnavailable:
            return self.store.last_known(token_id)

    async def login(self, sub: str = "alice") -> Grant:
        """Write a login that begins now."""
        grant = new_login(self.clock.now, sub)
        assert await self.store.write(grant)
        return grant

    async def record(self, refresh_id: str | None) -> RefreshRecord | None:
        """A refresh token's record. None also if only the unavailable store could have it."""
        assert refresh_id is not None
        try:
            return await self.store.get_refresh(refresh_id)
        except StoreUnavailable:
            if not self.alone:
                raise
            return None

    async def claim(self, refresh_id: str | None, used: RefreshRecord) -> RefreshRecord | None:
        """Claim a refresh token. None also if only the unavailable store could have it."""
        assert refresh_id is not None
        try:
            return await self.store.claim_refresh(refresh_id, used)
        except StoreUnavailable:
            if not self.alone:
                raise
            return None

    async def repeats(self, refresh_id: str, used: RefreshRecord) -> int | None:
        """Count a repeat. None also if only the unavailable store could have the record."""
        try:
            return await self.store.count_repeat(refresh_id, used)
        except StoreUnavailable:
            if not self.alone:
                raise
            return None

    async def refresh(self, grant: Grant, grace: float = 0.0) -> Grant | None:
        """Claim the refresh token and write its successor; None if the login was ended."""
        assert grant.refresh is not None
        before = await self.claim(grant.refresh_id, used_of(grant, self.clock.now))
        if before is None or before.used_at is not None:
            return None
        successor = successor_of(grant, self.clock.now, grace)
        return successor if await self.store.write(successor) else None


def new_login(now: float = START, sub: str = "alice", *, cookie: bool = False) -> Grant:
    """The grant of a login, with unique ids. A `cookie` session has no refresh token."""
    number = next(_NUMBERS)
    sid = f"sid-{number}"
    session = Session(
        id=f"{number:064x}",
        sid=sid,
        sub=sub,
        claims={"roles": ["user"]},
        created=now,
        exp=now + (REFRESH_TTL if cookie else ACCESS_TTL),
    )
    grant = Grant(session=session, user_agent="curl/8", address="192.0.2.1")
    return grant if cookie else _with_refresh(grant, number, now)


def used_of(grant: Grant, now: float) -> RefreshRecord:
    """The record of this grant's refresh token after a use now, with a seal that is unique."""
    assert grant.refresh is not None
    return replace(grant.refresh, used_at=now, exp=now + USED_TTL, sealed=token_bytes())


def successor_of(grant: Grant, now: float, grace: float = 0.0) -> Grant:
    """The grant of a refresh that continues the login of `grant`; its token counts for `grace`."""
    assert grant.refresh is not None
    number = next(_NUMBERS)
    session = replace(grant.session, id=f"{number:064x}", exp=now + ACCESS_TTL)
    chain = (grant.refresh_id or "", *grant.refresh.previous)
    successor = Grant(
        session=session,
        replaces=grant.session.id,
        replaced_until=min(now + grace, grant.session.exp) if grace else 0.0,
        ends=grant.refresh.token_before or None,
        discards=chain[USED_KEPT] if len(chain) > USED_KEPT else None,
    )
    generation = grant.generation + 1
    made = _with_refresh(successor, number, now, generation, chain[:USED_KEPT])
    assert made.refresh is not None
    return replace(made, refresh=replace(made.refresh, token_before=grant.session.id))


def _with_refresh(
    grant: Grant, number: int, now: float, generation: int = 0, previous: tuple[str, ...] = ()
) -> Grant:
    session = grant.session
    record = RefreshRecord(
        sid=session.sid,
        sub=session.sub,
        created=session.created,
        exp=now + REFRESH_TTL,
        token_id=session.id,
        claims=session.claims,
        generation=generation,
        issued=now,
        previous=previous,
    )
    return replace(grant, refresh_id=f"refresh-{number}", refresh=record)
