"""Ends tunnels, uploads and long answers when the session that allowed them is over.

Owns when each stream is checked again, and ends those that are no longer allowed. A login that
continues with another token (a refresh) keeps its streams. The decision is the gate's, as for a
request.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from sidecar.auth.decision import Allow
from sidecar.auth.need_session import NeedSession
from sidecar.auth.reason import Reason
from sidecar.auth.session import FOREVER, foreign_session
from sidecar.errors import StoreUnavailable
from sidecar.sessions.check import authenticate
from sidecar.tasks import wait_any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.auth.decision import Deny
    from sidecar.auth.gate import Gate
    from sidecar.auth.routes import Route, RouteTable
    from sidecar.sessions.store import SessionStore
    from sidecar.tasks import Tasks
    from sidecar.wire.head import RequestHead

_LONGEST: Final = 60.0  # seconds that a timer runs: the wall clock may be set meanwhile
# Reasons that concern a token alone: its login may continue with another one.
_TOKEN_ENDED: Final = frozenset((Reason.EXPIRED, Reason.SESSION_MISSING))
POLL_INTERVAL: Final = 5.0  # seconds between checks while the store reports no changes


class WatchedStream:
    """One stream that ends with its session. `release` it when it has ended by itself."""

    __slots__ = (
        *("again", "checking", "deny", "end", "expires", "head", "listed", "registry", "route"),
        *("sid", "token", "who"),
    )

    def __init__(
        self,
        registry: SessionWatcher,
        route: Route,
        head: RequestHead,
        allow: Allow,
        end: Callable[[], None],
    ) -> None:
        self.registry: SessionWatcher | None = registry
        self.route = route
        self.head = head
        self.end = end
        self.sid = allow.session_id if allow.local else ""  # of the login here
        self.who = (allow.issuer, allow.subject, allow.session_id)
        self.expires = allow.expires or 0.0
        self.token = ""  # the id of its session's current token
        self.listed = False  # in the heap of expiry times
        self.checking = False
        self.again = False  # something changed during the check
        self.deny: Deny | None = None  # how a request would be denied, at the last check

    def __repr__(self) -> str:
        return f"<WatchedStream on {self.route.name} until {self.expires}>"

    def release(self) -> None:
        """Stop watching a stream that has ended."""
        registry, self.registry = self.registry, None
        if registry is not None:
            registry.forget(self)
            # The heap may keep this object for a while; it must not keep the request alive.
            del self.head, self.end


class SessionWatcher:
    """All streams of one data plane.

    `clock` gives seconds since the epoch; `sleep` waits for a number of seconds.
    """

    def __init__(
        self,
        gate: Gate,
        store: SessionStore,
        tasks: Tasks,
        *,
        clock: Callable[[], float] = time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gate = gate
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._sleep = sleep
        self._by_token: dict[str, set[WatchedStream]] = {}
        self._size = 0  # of all these sets together
        self._ends: list[
            tuple[float, int, WatchedStream]
        ] = []  # a heap; released ones stay for a while
        self._numbers = count()
        self._earlier = asyncio.Event()  # a stream ends before all others in the heap
        self._routes: RouteTable | None = None  # None until the routes are replaced
        self._changed = -FOREVER  # the last change of a session or a route, in monotonic seconds
        self.ended = 0
        store.set_change_listener(self._on_ended)

    def __repr__(self) -> str:
        return f"<SessionWatcher {len(self)} streams, {self.ended} ended>"

    def __len__(self) -> int:
        return self._size

    def start(self) -> None:
        """Start the tasks that check streams."""
        self._tasks.spawn(self._run(), "stream expiry")
        self._tasks.spawn(self._poll(), "stream poll")

    def watch(
        self,
        route: Route,
        head: RequestHead,
        allow: Allow,
        end: Callable[[], None],
        *,
        began: float,
    ) -> WatchedStream | None:
        """Call `end` once when the session is over; None for a request that no session limits.

        The request was decided on after `began` (monotonic seconds): it is checked at once if
        anything has changed since then.
        """
        late = began <= self._changed
        if late and self._routes is not None:
            route = self._routes.match(head.method, head.host, head.path)
        if allow.expires is None or not route.ends_live:
            return None
        watched = WatchedStream(self, route, head, allow, end)
        need = self._gate.decide(route, head, self._clock())
        if isinstance(need, NeedSession):
            watched.token = need.token_id
        self._keep(watched)
        if late:
            self._look_at(watched)
        return watched

    def replace_routes(self, routes: RouteTable) -> None:
        """Check every stream again, by the route that applies to it now."""
        self._routes, self._changed = routes, monotonic()
        for watched in self._all():
            head = watched.head
            watched.route = routes.match(head.method, head.host, head.path)
            self._look_at(watched)

    def look_again(self) -> None:
        """Check every stream again by its present route: a key or a session may have changed."""
        self._on_ended(None)

    def forget(self, watched: WatchedStream) -> None:
        """Remove a stream from the index."""
        same = self._by_token.get(watched.token)
        if same is not None and watched in same:
            same.remove(watched)
            self._size -= 1
            if not same:
                del self._by_token[watched.token]
        if len(self._ends) > 2 * self._size + 1000:
            self._ends = [
                each
                for each in self._ends
                if each[2].registry is not None and each[0] == each[2].expires
            ]
            self._ends.sort()  # a sorted list is a heap

    def _keep(self, watched: WatchedStream) -> None:
        self._by_token.setdefault(watched.token, set()).add(watched)
        self._size += 1
        self._list(watched)

    def _list(self, watched: WatchedStream) -> None:
        watched.listed = True
        heappush(self._ends, (watched.expires, next(self._numbers), watched))
        if self._ends[0][2] is watched:
            self._earlier.set()

    def _on_ended(self, token_id: str | None) -> None:
        """Check the streams of this session; None: of every session."""
        self._changed = monotonic()
        for watched in self._all() if token_id is None else tuple(self._by_token.get(token_id, ())):
            self._look_at(watched)

    def _all(self) -> tuple[WatchedStream, ...]:
        return tuple(watched for same in self._by_token.values() for watched in same)

    def _look_at(self, watched: WatchedStream) -> None:
        if watched.checking:
            watched.again = True
        else:
            watched.checking = True
            self._tasks.spawn(self._check(watched), "stream check")

    async def _run(self) -> None:
        """Check each stream when it expires."""
        while True:
            self._earlier.clear()
            now = self._clock()
            while self._ends and self._ends[0][0] <= now:
                watched = heappop(self._ends)[2]
                if watched.registry is not None and watched.expires <= now:
                    watched.listed = False
                    self._look_at(watched)
            delay = min(_LONGEST, self._ends[0][0] - now) if self._ends else _LONGEST
            await wait_any(delay, self._earlier)

    async def _poll(self) -> None:
        """Check every stream regularly while the store reports no changes."""
        while True:
            await self._sleep(POLL_INTERVAL)
            if not self._store.reports_changes and not self._store.degraded:
                self._on_ended(None)

    async def _check(self, watched: WatchedStream) -> None:
        try:
            allowed = True
            watched.again = True
            while watched.again and allowed and watched.registry is not None:
                watched.again = False
                allowed = await self._is_allowed(watched)
        finally:
            watched.checking = False
        if watched.registry is None:
            return
        if not allowed:
            end = watched.end
            watched.release()
            self.ended += 1
            end()
        elif not watched.listed:  # it had expired, but the clock was set back
            self._list(watched)

    async def _is_allowed(self, watched: WatchedStream) -> bool:
        """Whether the stream may continue; if so, until when is updated."""
        now = self._clock()
        decision = await authenticate(self._gate, self._store, watched.route, watched.head, now)
        if isinstance(decision, Allow):
            if decision.expires is None:
                return self._prolong(watched, watched.token, FOREVER)
            # The request may have two credentials, and a reload may change which of them counts.
            if (decision.issuer, decision.subject, decision.session_id) != watched.who:
                return False
            return self._prolong(watched, watched.token, decision.expires)
        watched.deny = decision
        waits = watched.expires > now
        if decision.reason is Reason.STORE_UNAVAILABLE:
            waits = waits and not self._is_known_to_end(watched)
            if waits:
                return True
        elif decision.reason not in _TOKEN_ENDED:
            return False
        return await self._continues(watched, now, unknown=waits)

    async def _continues(self, watched: WatchedStream, now: float, *, unknown: bool) -> bool:
        """Whether the stream's login continues with another token; `unknown` if that is unknown."""
        if not watched.sid:
            return False
        token_id = None
        try:
            token_id = await self._store.token_of(watched.sid)
            session = None if token_id is None else await self._store.get(token_id)
        except StoreUnavailable:
            session = None if token_id is None else self._store.last_known(token_id)
            if session is None:
                return unknown
        if session is None or session.sid != watched.sid or session.exp <= now:
            return False
        if not self._gate.admits(watched.route, session):
            return False
        return self._prolong(watched, session.id, session.exp)

    def _is_known_to_end(self, watched: WatchedStream) -> bool:
        """Whether this process knows enough to end a stream although the store cannot answer.

        Otherwise the stream continues until it expires: an outage alone ends nothing.
        """
        login = replace(foreign_session(watched.token), sid=watched.sid)
        if self._store.is_ended(login):
            return True
        session = self._store.last_known(watched.token)
        if session is not None and session.sub:
            return not self._gate.admits(watched.route, session)
        # Otherwise only the token says what it permits.
        need = self._gate.decide(watched.route, watched.head, self._clock())
        verified = need.verified if isinstance(need, NeedSession) else None
        return verified is not None and not isinstance(
            self._gate.trust(watched.route, verified), Allow
        )

    def _prolong(self, watched: WatchedStream, token_id: str, expires: float) -> bool:
        if watched.registry is not None and (
            token_id != watched.token or expires != watched.expires
        ):
            self.forget(watched)
            watched.token, watched.expires = token_id, expires
            self._keep(watched)
        return True
