"""The tiered store before, during and after an outage of Redis."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import StoreUnavailable
from sidecar.sessions.listing import position_of
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.revocation.journal import Journal
from tests.sessions.contract import ACCESS_TTL, new_login, successor_of, used_of
from tests.sessions.tier import MAX_STALE, Tier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.auth.session import Grant
    from tests.peers.clock import Clock

NOT_AVAILABLE = "Redis not available, using in-memory session cache"
AVAILABLE = "Redis available again, using the shared session cache"
REFUSES = "Redis refuses writes, keeping new sessions in memory"


@pytest.fixture
async def here(clock: Clock) -> AsyncIterator[Tier]:
    """The pod under test."""
    async with Tier(clock) as made:
        yield made


@pytest.fixture
async def there(here: Tier) -> AsyncIterator[Tier]:
    """A second pod on the same Redis."""
    async with Tier(here.clock, here.server) as made:
        yield made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The session log."""
    caplog.set_level(logging.INFO, "sidecar.sessions")
    return caplog


async def test_redis_may_be_unavailable_at_start(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    """It is no error: sessions are kept in memory, and one log line says so."""
    tier = Tier(clock)
    tier.server.connected = False
    async with tier:
        assert tier.store.degraded
        grant = await tier.subject.login()
        assert tier.store.last_known(grant.session.id) == grant.session
        assert lines.messages == [NOT_AVAILABLE]
        assert lines.records[0].levelno == logging.INFO
        assert (tier.metrics.degraded, tier.metrics.breaker_state) == (1, "open")
        await tier.find_redis()
        assert lines.messages == [NOT_AVAILABLE, AVAILABLE]
        assert (tier.metrics.degraded, tier.metrics.breaker_state) == (0, "closed")


async def test_an_outage_ends_no_known_session(here: Tier) -> None:
    """Sessions that this pod wrote or read while Redis worked stay known."""
    written = await here.subject.login()
    seen = new_login(here.clock.now)
    await here.remote.write(seen)
    assert await here.look(seen.session.id) is not None
    await here.lose_redis()
    assert here.store.last_known(written.session.id) == written.session
    assert here.store.last_known(seen.session.id) == seen.session


async def test_an_outage_allows_no_unknown_session(here: Tier, there: Tier) -> None:
    """A session that only Redis knew is not live here until Redis is back."""
    unknown = await there.subject.login()
    await here.lose_redis()
    assert await here.look(unknown.session.id) is None
    assert await here.look("made-up") is None
    await here.find_redis()
    assert await here.look(unknown.session.id) == unknown.session


async def test_cached_sessions_expire_in_an_outage(here: Tier) -> None:
    """A session is usable for `max_stale` after Redis last confirmed it."""
    grant = new_login(here.clock.now, cookie=True)
    await here.remote.write(grant)
    assert await here.look(grant.session.id) is not None
    await here.lose_redis()
    await here.clock.turn(MAX_STALE - 1)
    assert await here.look(grant.session.id) is not None
    await here.clock.turn(2)
    assert await here.look(grant.session.id) is None


async def test_a_session_that_ended_elsewhere_is_forgotten(here: Tier, there: Tier) -> None:
    """An outage does not bring back a session that this pod saw ended."""
    grant = await here.subject.login()
    await there.store.revoke_session(grant.session.sid)
    assert await here.look(grant.session.id) is None
    await here.lose_redis()
    assert await here.look(grant.session.id) is None
    with pytest.raises(StoreUnavailable):
        await here.store.get_refresh(grant.refresh_id or "")


async def test_a_refresh_token_only_redis_may_know(here: Tier, there: Tier) -> None:
    """It raises StoreUnavailable in the outage, so that the client keeps it, and works after."""
    grant = await there.subject.login()
    await here.lose_redis()
    with pytest.raises(StoreUnavailable):
        await here.subject.refresh(grant)
    await here.find_redis()
    assert await here.subject.refresh(grant) is not None


async def test_one_log_line_per_transition(here: Tier, lines: pytest.LogCaptureFixture) -> None:
    """It is logged once, however many requests and probes fail."""
    for _ in range(2):
        await here.lose_redis()
        await asyncio.gather(*(here.look(f"{number}") for number in range(50)))
        await here.clock.turn(60)
        await here.find_redis()
    assert lines.messages == [NOT_AVAILABLE, AVAILABLE] * 2
    assert all(getattr(record, "fault", "broken") == "broken" for record in lines.records)


async def test_one_failed_batch_is_one_failure(here: Tier) -> None:
    """A hundred requests that share a look-up count as one failure of the breaker."""
    here.server.connected = False
    await asyncio.gather(*(here.look(f"{number}") for number in range(100)))
    assert not here.store.degraded
    here.server.connected = True
    grant = await here.subject.login()
    assert await here.look(grant.session.id) is not None


async def test_a_single_failure_is_answered_from_memory(here: Tier) -> None:
    """Known sessions are answered from memory before the breaker opens."""
    grant = await here.subject.login()
    here.server.connected = False
    assert await here.look(grant.session.id) == grant.session
    assert await here.store.get_refresh(grant.refresh_id or "") == grant.refresh
    assert not here.store.degraded


async def test_every_operation_survives_a_single_failure(here: Tier) -> None:
    """Listing, refresh and logout fall back to memory, like look-ups."""
    grant, other = await here.subject.login(), await here.subject.login()
    here.server.connected = False
    assert len(await here.store.sessions_of("alice")) == 2
    here.server.connected = True
    await here.look("success")
    here.server.connected = False
    successor = await here.subject.refresh(grant)
    assert successor is not None
    here.server.connected = True
    await here.look("success")
    here.server.connected = False
    assert await here.store.revoke_session(other.session.sid)
    here.server.connected = True
    assert await here.look(successor.session.id) == successor.session
    assert await here.look(other.session.id) is None
    assert not here.store.degraded


async def test_look_ups_are_counted_by_source(here: Tier) -> None:
    """The metric distinguishes Redis and memory."""
    grant = await here.subject.login()
    await here.look(grant.session.id)
    await here.look("unknown")
    assert {key: count for key, count in here.metrics.lookups.items() if count} == {
        ("redis", "hit"): 1,
        ("redis", "miss"): 1,
    }
    await here.lose_redis()
    here.metrics.lookups.clear()
    here.metrics.lookups.update({("local", "hit"): 0, ("local", "miss"): 0})
    await here.look(grant.session.id)
    await here.look("unknown")
    assert here.metrics.lookups == {("local", "hit"): 1, ("local", "miss"): 1}


async def test_a_login_in_an_outage_stays_here(here: Tier, there: Tier) -> None:
    """After the recovery it is live at this pod until it ends, and is not copied to Redis."""
    await here.lose_redis()
    grant = await here.subject.login()
    await here.find_redis()
    assert here.store.peek(grant.session.id) == grant.session
    assert await there.look(grant.session.id) is None
    assert [info.sid for info in await here.store.sessions_of("alice")] == [grant.session.sid]
    assert await here.store.revoke_session(grant.session.sid)
    assert await here.look(grant.session.id) is None


async def test_a_login_in_an_outage_expires(here: Tier) -> None:
    """It is live until its token expires, and not longer."""
    await here.lose_redis()
    grant = await here.subject.login()
    await here.find_redis()
    await here.clock.turn(ACCESS_TTL)
    assert await here.look(grant.session.id) is None


async def test_the_first_refresh_takes_a_login_to_redis(here: Tier, there: Tier) -> None:
    """A login that began in the outage is known to all pods after its next refresh."""
    await here.lose_redis()
    grant = await here.subject.login()
    await here.find_redis()
    successor = await here.subject.refresh(grant)
    assert successor is not None
    assert await here.look(grant.session.id) is None
    assert await there.look(successor.session.id) == successor.session
    assert await there.store.revoke_session(grant.session.sid)
    assert await here.look(successor.session.id) is None
    assert await here.subject.refresh(grant) is None


async def test_a_logout_in_an_outage_holds(here: Tier) -> None:
    """It holds at once, and after the recovery, whatever Redis still holds."""
    by_sid, by_token = await here.subject.login(), await here.subject.login()
    await here.lose_redis()
    assert await here.store.revoke_session(by_sid.session.sid)
    assert await here.store.revoke_token(by_token.session.id)
    for grant in (by_sid, by_token):
        assert await here.look(grant.session.id) is None
        with pytest.raises(StoreUnavailable):
            await here.subject.refresh(grant)
    assert await here.store.sessions_of("alice") == []
    await here.find_redis()
    for grant in (by_sid, by_token):
        assert await here.look(grant.session.id) is None
        assert await here.store.get_refresh(grant.refresh_id or "") is None
        assert await here.subject.refresh(grant) is None
    assert await here.store.sessions_of("alice") == []
    assert await here.remote.get(by_sid.session.id) is None


async def test_made_up_tokens_leave_nothing(here: Tier, there: Tier) -> None:
    """A logout with a token that Redis does not know is not remembered; a real one is."""
    real = await there.subject.login()
    assert await here.store.revoke_token(real.session.id)
    before = here.store.describe()["tombstones"]
    for number in range(50):
        assert not await here.store.revoke_token(f"made-up-{number}")
    assert here.store.describe()["tombstones"] == before
    assert await here.look(real.session.id) is None


async def test_a_second_logout_does_not_undo_the_first(here: Tier, there: Tier) -> None:
    """Redis no longer knows the token then, but may get it back: by a failover, or a late write."""
    grant = await there.subject.login()
    assert await here.store.revoke_token(grant.session.id)
    assert not await here.store.revoke_token(grant.session.id)
    assert await there.store.write(grant)
    assert await here.look(grant.session.id) is None


async def test_an_answer_that_a_logout_overtakes(here: Tier, there: Tier) -> None:
    """It is older than the logout, also if no store knew the session any longer."""
    grant = await there.subject.login()
    token_id = grant.session.id
    observed = here.store._known  # noqa: SLF001 (the answer arrives between the two)
    lookup = observed.begin_lookup()
    session = await there.store.get(token_id)
    assert await there.store.revoke_token(token_id)
    assert not await here.store.revoke_token(token_id)
    assert observed.record_session(token_id, session, lookup) is None
    observed.end_lookup(lookup)
    assert here.store.last_known(token_id) is None


async def test_made_up_tokens_do_not_undo_logouts_of_an_outage(clock: Clock) -> None:
    """They fill half the journal at most: then they are refused, and known logins still end."""
    limit = 20
    async with Tier(clock, journal=Journal(limit=limit)) as here, Tier(clock, here.server) as there:
        known, unknown = await here.subject.login(), await there.subject.login()
        await here.lose_redis()
        assert not await here.store.revoke_token(unknown.session.id)
        for number in range(limit // 2 - 1):
            assert not await here.store.revoke_token(f"made-up-{number}")
        tombstones = here.store.describe()["tombstones"]
        for number in range(limit):
            with pytest.raises(StoreUnavailable):
                await here.store.revoke_token(f"refused-{number}")
        assert here.store.describe()["tombstones"] == tombstones
        assert await here.store.revoke_token(known.session.id)
        await here.find_redis()
        for grant in (known, unknown):
            assert await here.look(grant.session.id) is None
            assert await here.remote.get(grant.session.id) is None


@pytest.mark.parametrize("migrate", [False, True])
@pytest.mark.parametrize("by", ["sid", "token"])
async def test_logins_of_an_outage_do_not_undo_its_logouts(
    clock: Clock, by: str, *, migrate: bool
) -> None:
    """Ends of logins that Redis never had fill half the journal at most; they end all the same."""
    journal = Journal(limit=20)
    async with Tier(clock, migrate=migrate, journal=journal) as here:
        before = await here.subject.login()
        await here.lose_redis()
        assert await here.store.revoke_session(before.session.sid)
        for _ in range(60):
            session = (await here.subject.login()).session
            ended = (
                here.store.revoke_session(session.sid)
                if by == "sid"
                else here.store.revoke_token(session.id)
            )
            assert await ended
            assert here.store.last_known(session.id) is None
        assert (len(journal), journal.dropped) == (10, 0)
        await here.find_redis()
        assert await here.remote.get(before.session.id) is None
        assert await here.look(before.session.id) is None


async def test_a_login_after_a_logout_of_all_whose_time_is_ahead(
    here: Tier, there: Tier, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the clock was set back, the replay of the logout ends the logins before it only."""
    earlier = await there.subject.login()
    clock.now += 10

    async def time_out(*_: object, **__: object) -> int:
        raise RedisUnavailable(Fault.BUSY, 1)

    with monkeypatch.context() as patch:
        patch.setattr(here.remote, "revoke_user", time_out)
        await here.store.revoke_user("alice")
    clock.now -= 5
    later = await here.subject.login()
    assert here.store.describe()["unreplayed"] == 1
    await clock.turn(2.0)
    assert here.store.describe()["unreplayed"] == 0
    assert await here.look(later.session.id) is not None
    for pod in (here, there):
        assert await pod.remote.get(later.session.id) is not None
        assert await pod.look(earlier.session.id) is None


async def test_a_logout_of_an_unknown_login_holds(here: Tier, there: Tier) -> None:
    """The sid is enough to end what Redis has under it after the recovery."""
    grant = await there.subject.login()
    await here.lose_redis()
    assert not await here.store.revoke_session(grant.session.sid)
    await here.find_redis()
    assert await here.look(grant.session.id) is None


async def test_a_logout_of_all_in_an_outage_ends_unknown_logins(here: Tier, there: Tier) -> None:
    """It ends every earlier login of the user at any pod, and no later one."""
    mine, elsewhere = await here.subject.login(), await there.subject.login()
    await here.clock.turn(1)
    await here.lose_redis()
    assert await here.store.revoke_user("alice") == 1
    await here.find_redis()
    assert await here.look(mine.session.id) is None
    assert await here.look(elsewhere.session.id) is None
    assert await here.store.sessions_of("alice") == []
    await here.clock.turn(1)
    again = await there.subject.login()
    assert await here.look(again.session.id) == again.session


async def test_a_logout_of_all_counts_local_logins(here: Tier) -> None:
    """Two logins in Redis and one that began in the outage are three."""
    for _ in range(2):
        await here.subject.login()
    await here.lose_redis()
    await here.subject.login()
    await here.find_redis()
    assert await here.store.revoke_user("alice") == 3


async def test_a_refresh_in_an_outage(here: Tier) -> None:
    """The login continues here. Its old tokens stay ended, although Redis holds them as live."""
    grant = await here.subject.login()
    await here.lose_redis()
    successor = await here.subject.refresh(grant)
    assert successor is not None
    for _ in range(2):
        assert await here.look(successor.session.id) == successor.session
        assert await here.look(grant.session.id) is None
        record = await here.store.get_refresh(grant.refresh_id or "")
        assert record is not None
        assert record.used_at is not None
        assert await here.subject.refresh(grant) is None
        await here.find_redis()
    later = await here.subject.refresh(successor)
    assert later is not None
    assert await here.remote.get(later.session.id) == later.session


async def test_a_logout_during_a_refresh_wins(here: Tier) -> None:
    """With or without an outage, a refresh claimed before the logout writes nothing after it."""
    for lose in (False, True):
        grant = await here.subject.login()
        if lose:
            await here.lose_redis()
        assert grant.refresh is not None
        used = used_of(grant, here.clock.now)
        assert await here.store.claim_refresh(grant.refresh_id or "", used) is not None
        await here.store.revoke_session(grant.session.sid)
        successor = successor_of(grant, here.clock.now)
        assert not await here.store.write(successor)
        assert await here.look(successor.session.id) is None


async def test_an_answer_after_a_logout_is_not_kept(here: Tier) -> None:
    """An answer that arrives after the logout is not kept for the next outage."""
    grant = await here.subject.login()
    pending = asyncio.ensure_future(here.store.get(grant.session.id))
    await asyncio.sleep(0)
    await here.store.revoke_session(grant.session.sid)
    await pending
    await here.lose_redis()
    assert await here.look(grant.session.id) is None


class Unreliable(RedisStore):
    """A store whose writes wait for `gate`, take effect, and then fail with `fault`."""

    fault: Fault | None = None
    gate: asyncio.Event | None = None

    async def write(self, grant: Grant) -> bool:
        """Write the grant; the answer may be lost."""
        if self.gate is not None:
            await self.gate.wait()
        done = await super().write(grant)
        if self.fault is not None:
            raise RedisUnavailable(self.fault, 0)
        return done


@pytest.fixture
async def frail(clock: Clock) -> AsyncIterator[Tier]:
    """A pod whose writes may fail."""
    async with Tier(clock, remote_class=Unreliable) as made:
        yield made


@pytest.fixture
def remote(frail: Tier) -> Unreliable:
    """The unreliable store of that pod."""
    assert isinstance(frail.remote, Unreliable)
    return frail.remote


@pytest.fixture
async def beyond(frail: Tier) -> AsyncIterator[Tier]:
    """A second pod on the same Redis, with reliable writes."""
    async with Tier(frail.clock, frail.server) as made:
        yield made


async def test_a_login_whose_answer_was_lost_is_replayed(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """Redis may have it, so it is written again. Then a logout at any pod ends it here."""
    remote.fault = Fault.TIMEOUT
    grant = await frail.subject.login()
    successor = await frail.subject.refresh(grant)
    assert successor is not None
    assert await frail.look(successor.session.id) == successor.session
    remote.fault = None
    await frail.clock.turn(10.0)
    assert frail.store.peek(successor.session.id) is None
    assert await beyond.look(grant.session.id) is None
    assert await beyond.look(successor.session.id) == successor.session
    await beyond.store.revoke_session(grant.session.sid)
    assert await frail.look(successor.session.id) is None


async def test_a_login_that_got_no_time_is_written_soon(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """This pod was busy while Redis was there, so the login is not left to this pod alone."""
    remote.fault = Fault.BUSY
    grant = await frail.subject.login()
    assert frail.store.peek(grant.session.id) == grant.session
    remote.fault = None
    await beyond.remote.revoke_session(grant.session.sid)  # it must not have been written before
    assert not frail.store.degraded
    await frail.clock.turn(10.0)
    assert await beyond.look(grant.session.id) == grant.session


async def test_reads_recover_before_writes(
    frail: Tier, remote: Unreliable, beyond: Tier, lines: pytest.LogCaptureFixture
) -> None:
    """A Redis that returns as a replica is in use; the backlog waits for a master."""
    remote.fault = Fault.TIMEOUT
    grant = await frail.subject.login()
    await frail.lose_redis()
    remote.fault = Fault.READONLY
    await frail.find_redis()
    assert frail.store.peek(grant.session.id) == grant.session
    remote.fault = None
    await frail.clock.turn(10.0)
    assert frail.store.peek(grant.session.id) is None
    assert await beyond.look(grant.session.id) == grant.session
    assert lines.messages == [NOT_AVAILABLE, REFUSES, AVAILABLE]


async def test_the_backlog_is_bounded(
    frail: Tier, remote: Unreliable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login that was evicted first stays live at this pod only."""
    monkeypatch.setattr("sidecar.sessions.tiered.backlog._MAX_QUEUED", 2)
    remote.fault = Fault.TIMEOUT
    grants = [await frail.subject.login() for _ in range(3)]
    remote.fault = None
    await frail.clock.turn(10.0)
    local_only = [frail.store.peek(grant.session.id) is not None for grant in grants]
    assert local_only == [True, False, False]


async def test_a_login_that_ended_here_is_not_replayed(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """A login that ended while it was queued stays ended, here and elsewhere."""
    remote.fault = Fault.TIMEOUT
    ended, all_ended = await frail.subject.login(), await frail.subject.login("bob")
    await frail.store.revoke_session(ended.session.sid)
    await frail.store.revoke_user("bob")
    remote.fault = None
    await frail.clock.turn(10.0)
    for grant in (ended, all_ended):
        assert await frail.look(grant.session.id) is None
        assert await beyond.look(grant.session.id) is None


async def test_a_login_that_ended_elsewhere_ends_here(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """If Redis received a refresh and the login then ended there, replay ends it here."""
    grant = await frail.subject.login()
    remote.fault = Fault.TIMEOUT
    successor = await frail.subject.refresh(grant)
    assert successor is not None
    await beyond.store.revoke_session(grant.session.sid)
    remote.fault = None
    await frail.clock.turn(10.0)
    assert await frail.look(successor.session.id) is None


async def test_a_logout_during_the_replay(frail: Tier, remote: Unreliable, beyond: Tier) -> None:
    """The login that was being written is ended in Redis as well."""
    remote.fault = Fault.TIMEOUT
    grant = await frail.subject.login()
    remote.fault, remote.gate = None, asyncio.Event()
    await frail.clock.turn(10.0)
    await frail.store.revoke_session(grant.session.sid)
    remote.gate.set()
    await frail.clock.turn(0.0)
    assert await frail.look(grant.session.id) is None
    assert await beyond.look(grant.session.id) is None


async def test_a_logout_while_a_login_is_written(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """If Redis gets the write after the logout, the login is ended and not handed out."""
    await frail.lose_redis()
    grant = await frail.subject.login()
    await frail.find_redis()
    remote.gate = asyncio.Event()
    pending = asyncio.ensure_future(frail.subject.refresh(grant))
    await frail.clock.turn()
    await frail.store.revoke_session(grant.session.sid)
    remote.gate.set()
    assert await pending is None
    assert await beyond.store.sessions_of("alice") == []


class Deaf(RedisStore):
    """A store that ends no login, because its answers are late."""

    async def revoke_session(self, sid: str) -> bool:
        """End nothing."""
        raise RedisUnavailable(Fault.TIMEOUT, 1)


async def test_a_page_without_the_logins_that_ended_here(clock: Clock) -> None:
    """A page is full although Redis still has logins that were ended here, and shows none."""
    async with Tier(clock, remote_class=Deaf) as here:
        sids = []
        for _ in range(7):
            await clock.turn(1.0)
            sids.append((await here.subject.login()).session.sid)
        for sid in sids[3:6]:
            await here.store.revoke_session(sid)
        assert not here.store.degraded
        page = await here.store.sessions_of("alice", limit=3)
        assert [info.sid for info in page] == [sids[6], sids[2], sids[1]]
        after = min(map(position_of, page))
        assert [info.sid for info in await here.store.sessions_of("alice", after, 3)] == [sids[0]]
        assert await here.store.login_of("alice", sids[4]) is None
        assert await here.store.login_of("alice", sids[2]) is not None


async def test_one_login_in_an_outage(here: Tier, there: Tier) -> None:
    """It is found if this pod knows it, and was not ended here."""
    mine, ended, other = [await at.subject.login() for at in (here, here, there)]
    await here.lose_redis()
    local = await here.subject.login()
    await here.store.revoke_session(ended.session.sid)
    found = [
        await here.store.login_of("alice", grant.session.sid)
        for grant in (mine, local, ended, other)
    ]
    assert [info is not None for info in found] == [True, True, False, False]


class Broken(RedisStore):
    """A store whose probe has a programming error."""

    broken = False

    async def ping(self) -> None:
        """Fail with an unexpected exception."""
        if self.broken:
            raise ZeroDivisionError
        await super().ping()


async def test_probing_survives_a_programming_error(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    """It is logged, and a later probe may succeed."""
    async with Tier(clock, remote_class=Broken) as here:
        assert isinstance(here.remote, Broken)
        await here.lose_redis()
        here.remote.broken = True
        await clock.turn(10.0)
        assert here.store.degraded
        assert "probing Redis failed" in lines.messages
        here.remote.broken = False
        await here.find_redis()


async def test_a_probe_that_wakes_early_waits(here: Tier) -> None:
    """A probe is sent only when it is due."""
    await here.lose_redis()
    assert here.metrics.breaker_state == "open"
    await here.clock.turn(0.4)
    here.server.connected = True
    await here.clock.turn(0.05)
    assert here.store.degraded
    await here.clock.turn(0.1)
    assert not here.store.degraded


async def test_repr(here: Tier) -> None:
    """It shows the breaker, what is kept in memory, and the size of the backlog."""
    await here.subject.login()
    assert repr(here.store) == (
        "<TieredStore closed, <KnownSessions 0 local,"
        " <NearCache 1 logins, not coherent, 0 flushes>,"
        " <Tombstones 0 ids, 0 users, 0 dropped>>, 0 unreplayed>"
    )


async def test_its_state_as_fields(here: Tier) -> None:
    """`/status` shows the breaker, what is kept in memory, and what Redis has missed."""
    await here.subject.login()
    await here.lose_redis()
    login = await here.subject.login()
    await here.store.revoke_session(login.session.sid)
    state = here.store.describe()
    assert state == {
        "kind": "tiered",
        "breaker": "open",
        "redis": {"server": here.remote.server.address, "user": "default", "fault": "broken"},
        "local_only": 0,
        "near_cache": {"entries": 1, "coherent": False, "fault": "", "flushes": 0},
        "tombstones": 1,
        "unreplayed": 1,
    }
    assert json.loads(json.dumps(state)) == state
