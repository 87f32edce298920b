"""Streams and tunnels end with their session, even if the wall clock is changed."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from sidecar.api.grants import ClientInfo, UsedToken, issue_pair, new_login
from sidecar.auth.decision import Allow
from sidecar.auth.gate import Gate
from sidecar.auth.identity import IdentityHeaders
from sidecar.auth.issue import Issuer
from sidecar.auth.keys import KeyRing
from sidecar.auth.route_rule import Access, Outage, RouteRule
from sidecar.auth.routes import Route, RouteTable
from sidecar.auth.session import FOREVER, SessionKey
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
from sidecar.proxy.session_watch import SessionWatcher, WatchedStream
from sidecar.sessions.memory.local import LocalStore
from sidecar.tasks import Tasks
from sidecar.wire.head import RequestHead
from tests.auth.forge import ISSUER, REFRESH_SECRET, SECRET
from tests.peers.clock import START, Clock
from tests.sessions.tier import Tier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.sessions.store import SessionStore

ROUTE: Final = Route("r")
TTL: Final = 900.0  # seconds
HOUR: Final = 3600.0
GRACE: Final = 10.0


class Glimpse(Clock):
    """A clock that can show another time for a single reading."""

    shown: float | None = None

    def __call__(self) -> float:
        """Return the time, or `shown` once."""
        shown, self.shown = self.shown, None
        return self.now if shown is None else shown


class Lasting:
    """A login, and a session watcher that watches its streams."""

    def __init__(
        self, clock: Clock, store: SessionStore | None = None, route: Route = ROUTE
    ) -> None:
        key = secret_key(ISSUER, SECRET)
        issuer = Issuer(key, secret_key(ISSUER, REFRESH_SECRET), issuer=ISSUER, access_ttl=TTL)
        own = IssuerConfig(issuer=ISSUER)
        gate = Gate(Verifier([own], KeyRing([key]), own), IdentityHeaders())
        store = LocalStore(clock) if store is None else store
        login = new_login("alice", {}, clock.now)
        client = ClientInfo("", "")
        pair = issue_pair(issuer, login, client, clock.now, session_key=SessionKey.SHA256)
        self.grant, self.route = pair.grant, route
        self.head = RequestHead()
        self.head.method, self.head.path = b"GET", "/"
        self.head.authorization = f"Bearer {pair.access_token}".encode()
        self.tasks = Tasks()
        self.live = SessionWatcher(gate, store, self.tasks, clock=clock, sleep=clock.sleep)
        self.store, self.sid = store, login.sid
        assert pair.grant.refresh is not None
        self.next, self.graced = (
            issue_pair(
                *(issuer, login, client, clock.now + 1),
                session_key=SessionKey.SHA256,
                after=UsedToken(pair.grant.refresh_id or "", pair.grant.refresh),
                access_grace=grace,
            ).grant
            for grace in (0.0, GRACE)
        )
        exp = pair.grant.session.exp
        self.allow = Allow(b"", "alice", login.sid, b"{}", exp, issuer=ISSUER, local=True)
        self.ended: list[str] = []

    def watch(
        self, name: str, *, until: float | None = None, began: float | None = None
    ) -> WatchedStream:
        """Watch one more stream; one that expires before the others has them all checked."""
        allow = self.allow if until is None else replace(self.allow, expires=until)
        watched = self.live.watch(
            *(self.route, self.head, allow, lambda: self.ended.append(name)),
            began=monotonic() if began is None else began,
        )
        assert watched is not None
        return watched


@pytest.fixture
def clock() -> Glimpse:
    """The wall clock."""
    return Glimpse()


@pytest.fixture
async def lasting(clock: Glimpse) -> AsyncIterator[Lasting]:
    """A login with one watched tunnel."""
    made = Lasting(clock)
    await made.store.write(made.grant)
    made.live.start()
    made.watch("tunnel")
    await clock.turn()
    yield made
    await made.tasks.close()


async def test_a_clock_set_forward(lasting: Lasting, clock: Glimpse) -> None:
    """If the clock is set past its expiry, a stream ends, as a request would be denied."""
    clock.advance(HOUR)
    lasting.watch("other", until=START)
    await clock.turn()
    assert lasting.ended == ["other", "tunnel"]


async def test_a_clock_set_back(lasting: Lasting, clock: Glimpse) -> None:
    """If the clock is set back, a stream continues and ends at its expiry by the new clock."""
    clock.advance(-HOUR)
    lasting.watch("other", until=START - 2 * HOUR)
    await clock.turn()
    assert lasting.ended == []
    clock.advance(HOUR + TTL)
    lasting.watch("another", until=START)
    await clock.turn()
    assert sorted(lasting.ended) == ["another", "other", "tunnel"]


async def test_a_clock_that_was_wrong_for_a_moment(lasting: Lasting, clock: Glimpse) -> None:
    """A stream that seemed expired for a moment still ends when it really expires."""
    lasting.watch("other", until=START)
    clock.shown = START + HOUR
    await clock.turn()
    assert lasting.ended == []
    clock.advance(TTL)
    lasting.watch("another", until=START)
    await clock.turn()
    assert sorted(lasting.ended) == ["another", "other", "tunnel"]


async def test_a_logout_before_an_answer_began(lasting: Lasting, clock: Glimpse) -> None:
    """A stream allowed before a logout and begun after it ends like the others."""
    began = monotonic()
    await lasting.store.revoke_session(lasting.sid)
    await clock.turn()
    lasting.watch("late", began=began)
    await clock.turn()
    assert lasting.ended == ["tunnel", "late"]


async def test_a_login_continues_only_its_own_streams(lasting: Lasting, clock: Glimpse) -> None:
    """After a refresh the login's streams continue, and those of another issuer's user end."""
    lasting.allow = replace(lasting.allow, issuer="https://other.test", local=False)
    lasting.watch("namesake")
    assert await lasting.store.write(lasting.next)
    await clock.turn()
    assert lasting.ended == ["namesake"]


async def test_a_grace(lasting: Lasting, clock: Glimpse) -> None:
    """A stream of a replaced token goes on while the token counts, and then with the login."""
    assert await lasting.store.write(lasting.graced)
    until = START + 1 + GRACE
    watched = lasting.watch("late", until=until)  # opened with the replaced token
    await clock.turn()
    assert (watched.token, watched.expires) == (lasting.grant.session.id, until)
    clock.advance(GRACE + 1)
    lasting.watch("other", until=START)
    await clock.turn()
    assert (watched.token, watched.expires) == (lasting.graced.session.id, START + 1 + TTL)
    assert lasting.ended == []
    await lasting.store.revoke_session(lasting.sid)
    await clock.turn()
    assert sorted(lasting.ended) == ["late", "other", "tunnel"]


async def test_a_logout_in_a_grace(lasting: Lasting, clock: Glimpse) -> None:
    """A logout ends the streams of the replaced token as well."""
    assert await lasting.store.write(lasting.graced)
    lasting.watch("late")
    await clock.turn()
    await lasting.store.revoke_session(lasting.sid)
    await clock.turn()
    assert sorted(lasting.ended) == ["late", "tunnel"]


@pytest.mark.parametrize("mode", list(Outage))
@pytest.mark.parametrize("grace", [True, False])
async def test_a_refresh_in_an_outage(clock: Glimpse, mode: Outage, *, grace: bool) -> None:
    """A stream outlives the refresh of its login at this pod, and ends with the login."""
    async with Tier(clock=clock) as tier:
        made = Lasting(clock, tier.store, Route("r", outage=mode))
        assert await tier.store.write(made.grant)
        watched = made.watch("stream")
        await tier.lose_redis()
        assert await tier.store.write(made.graced if grace else made.next)
        for seconds in (0.0, GRACE + 1):
            clock.advance(seconds)
            made.live.look_again()
            await clock.turn()
            assert made.ended == []
        if mode is not Outage.STRICT:
            assert watched.token == (made.graced if grace else made.next).session.id
        await tier.store.revoke_session(made.sid)
        made.live.look_again()
        await clock.turn()
        assert made.ended == ["stream"]
        await made.tasks.close()


async def test_rules_that_ask_nothing_for_a_while(lasting: Lasting, clock: Glimpse) -> None:
    """While a public rule applies, a stream has no expiry and is not checked repeatedly."""
    watched = lasting.watch("stream")
    lasting.live.replace_routes(RouteTable([RouteRule(path="/*", access=Access.PUBLIC)]))
    await clock.turn()
    assert watched.expires == FOREVER
    lasting.live.replace_routes(RouteTable([RouteRule(path="/*")]))
    await clock.turn()
    assert watched.expires == START + TTL
    assert lasting.ended == []


async def test_one_that_ends_by_itself_is_looked_at_no_more(
    lasting: Lasting, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that is released during its check is forgotten without being ended or logged."""
    watched = lasting.watch("one", until=START - 1)
    for _ in range(10):  # iterations of the loop, until its expiry has been noticed
        if watched.checking:
            break
        await asyncio.sleep(0)
    assert watched.checking
    watched.release()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not watched.checking
    assert (lasting.ended, lasting.live.ended, len(lasting.live)) == ([], 0, 1)
    assert caplog.messages == []
