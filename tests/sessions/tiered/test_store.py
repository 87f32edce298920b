"""Redis for as long as it can be used, memory while it cannot: what holds before, in and after."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.errors import StoreUnavailable
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.store import RedisStore
from tests.sessions.contract import ACCESS_TTL, new_login, successor_of
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
    """This pod."""
    async with Tier(clock) as made:
        yield made


@pytest.fixture
async def there(here: Tier) -> AsyncIterator[Tier]:
    """Another pod on the same Redis."""
    async with Tier(here.clock, here.server) as made:
        yield made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The session log."""
    caplog.set_level(logging.INFO, "sidecar.sessions")
    return caplog


async def test_redis_may_be_absent_at_the_start(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    """No error: sessions are kept here, and the seed's sentence says so, once."""
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


async def test_an_outage_ends_no_session_that_is_known_here(here: Tier) -> None:
    """Written here or seen here while Redis worked: it stays valid, and known at once."""
    written = await here.subject.login()
    seen = new_login(here.clock.now)
    await here.remote.write(seen)
    assert await here.look(seen.session.id) is not None
    await here.lose_redis()
    assert here.store.last_known(written.session.id) == written.session
    assert here.store.last_known(seen.session.id) == seen.session


async def test_an_outage_lets_nobody_in(here: Tier, there: Tier) -> None:
    """What only Redis knew is not known, and that is no session."""
    unknown = await there.subject.login()
    await here.lose_redis()
    assert await here.look(unknown.session.id) is None
    assert await here.look("made-up") is None
    await here.find_redis()
    assert await here.look(unknown.session.id) == unknown.session


async def test_what_was_seen_is_good_for_a_while(here: Tier) -> None:
    """`max_stale` after Redis confirmed it last, an outage ends it after all."""
    grant = new_login(here.clock.now, cookie=True)
    await here.remote.write(grant)
    assert await here.look(grant.session.id) is not None
    await here.lose_redis()
    await here.clock.turn(MAX_STALE - 1)
    assert await here.look(grant.session.id) is not None
    await here.clock.turn(2)
    assert await here.look(grant.session.id) is None


async def test_a_session_that_ended_elsewhere_is_forgotten(here: Tier, there: Tier) -> None:
    """An outage does not bring back what this pod knows to be gone."""
    grant = await here.subject.login()
    await there.store.revoke_session(grant.session.sid)
    assert await here.look(grant.session.id) is None
    await here.lose_redis()
    assert await here.look(grant.session.id) is None
    with pytest.raises(StoreUnavailable):
        await here.store.get_refresh(grant.refresh_id or "")


async def test_a_refresh_token_only_redis_may_know(here: Tier, there: Tier) -> None:
    """Nothing is said of it while Redis is away, so nobody throws it away; then it is as good."""
    grant = await there.subject.login()
    await here.lose_redis()
    with pytest.raises(StoreUnavailable):
        await here.subject.refresh(grant)
    await here.find_redis()
    assert await here.subject.refresh(grant) is not None


async def test_the_sentence_comes_once_per_transition(
    here: Tier, lines: pytest.LogCaptureFixture
) -> None:
    """However many requests meet the outage, and however often probes fail."""
    for _ in range(2):
        await here.lose_redis()
        await asyncio.gather(*(here.look(f"{number}") for number in range(50)))
        await here.clock.turn(60)
        await here.find_redis()
    assert lines.messages == [NOT_AVAILABLE, AVAILABLE] * 2
    assert all(getattr(record, "fault", "broken") == "broken" for record in lines.records)


async def test_one_failed_batch_is_one_failure(here: Tier) -> None:
    """A hundred requests that share a look-up do not open the breaker by their number."""
    here.server.connected = False
    await asyncio.gather(*(here.look(f"{number}") for number in range(100)))
    assert not here.store.degraded
    here.server.connected = True
    grant = await here.subject.login()
    assert await here.look(grant.session.id) is not None


async def test_a_single_failure_is_answered_from_memory(here: Tier) -> None:
    """Before Redis counts as away, what is known here is known already."""
    grant = await here.subject.login()
    here.server.connected = False
    assert await here.look(grant.session.id) == grant.session
    assert await here.store.get_refresh(grant.refresh_id or "") == grant.refresh
    assert not here.store.degraded


async def test_every_question_has_an_answer_when_redis_fails_once(here: Tier) -> None:
    """Listing, refresh and logout fall back like look-ups do."""
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


async def test_look_ups_are_counted_by_who_answered(here: Tier) -> None:
    """The metric tells Redis from memory."""
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
    """After the recovery it is valid here until it ends, and was not copied (the seed)."""
    await here.lose_redis()
    grant = await here.subject.login()
    await here.find_redis()
    assert here.store.peek(grant.session.id) == grant.session
    assert await there.look(grant.session.id) is None
    assert [info.sid for info in await here.store.sessions_of("alice")] == [grant.session.sid]
    assert await here.store.revoke_session(grant.session.sid)
    assert await here.look(grant.session.id) is None


async def test_a_login_of_an_outage_ends_with_its_token(here: Tier) -> None:
    """Nothing here lives longer than it says."""
    await here.lose_redis()
    grant = await here.subject.login()
    await here.find_redis()
    await here.clock.turn(ACCESS_TTL)
    assert await here.look(grant.session.id) is None


async def test_its_first_refresh_takes_a_login_to_redis(here: Tier, there: Tier) -> None:
    """What began here in an outage begins for all with its first refresh after it."""
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
    """At once, and after the recovery, whatever Redis still holds."""
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


async def test_a_logout_of_what_is_not_known_here_holds_too(here: Tier, there: Tier) -> None:
    """The sid alone is enough to end all that Redis has under it."""
    grant = await there.subject.login()
    await here.lose_redis()
    assert not await here.store.revoke_session(grant.session.sid)
    await here.find_redis()
    assert await here.look(grant.session.id) is None


async def test_a_logout_of_all_in_an_outage_ends_the_unknown_too(here: Tier, there: Tier) -> None:
    """Every login of the user that had begun by then, wherever; later ones are not meant."""
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


async def test_a_logout_of_all_counts_what_lives_here_alone(here: Tier) -> None:
    """Two in Redis and one of the outage are three."""
    for _ in range(2):
        await here.subject.login()
    await here.lose_redis()
    await here.subject.login()
    await here.find_redis()
    assert await here.store.revoke_user("alice") == 3


async def test_a_refresh_in_an_outage(here: Tier) -> None:
    """It goes on here; the old tokens stay dead although Redis still thinks them live."""
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
    """In an outage as without one: what was claimed before is not written after."""
    for lose in (False, True):
        grant = await here.subject.login()
        if lose:
            await here.lose_redis()
        assert grant.refresh is not None
        used = replace(grant.refresh, used_at=1.0)
        assert await here.store.claim_refresh(grant.refresh_id or "", used) is not None
        await here.store.revoke_session(grant.session.sid)
        successor = successor_of(grant, here.clock.now)
        assert not await here.store.write(successor)
        assert await here.look(successor.session.id) is None


async def test_a_look_up_under_way_does_not_outlive_a_logout(here: Tier) -> None:
    """An answer that comes after the logout is not remembered for the next outage."""
    grant = await here.subject.login()
    under_way = asyncio.ensure_future(here.store.get(grant.session.id))
    await asyncio.sleep(0)
    await here.store.revoke_session(grant.session.sid)
    await under_way
    await here.lose_redis()
    assert await here.look(grant.session.id) is None


class Unreliable(RedisStore):
    """Writes when it is let, and may then say that it could not."""

    fault: Fault | None = None
    gate: asyncio.Event | None = None

    async def write(self, grant: Grant) -> bool:
        """Write it; the answer may be lost."""
        if self.gate is not None:
            await self.gate.wait()
        done = await super().write(grant)
        if self.fault is not None:
            raise RedisUnavailable(self.fault, 0)
        return done


@pytest.fixture
async def frail(clock: Clock) -> AsyncIterator[Tier]:
    """A pod whose writes may fail in any way."""
    async with Tier(clock, remote_class=Unreliable) as made:
        yield made


@pytest.fixture
def remote(frail: Tier) -> Unreliable:
    """The part of it that fails."""
    assert isinstance(frail.remote, Unreliable)
    return frail.remote


@pytest.fixture
async def beyond(frail: Tier) -> AsyncIterator[Tier]:
    """Another pod on the same Redis, whose writes are good."""
    async with Tier(frail.clock, frail.server) as made:
        yield made


async def test_a_login_whose_answer_was_lost_is_made_good(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """Redis may have it: it is written again, so that a logout anywhere ends it here too."""
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


async def test_reads_are_back_before_writes(
    frail: Tier, remote: Unreliable, beyond: Tier, lines: pytest.LogCaptureFixture
) -> None:
    """A Redis that comes back as a replica is in use again; what it missed waits for a master."""
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


async def test_what_is_to_be_made_good_is_bounded(
    frail: Tier, remote: Unreliable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is valid here for as long as it lives, and only here."""
    monkeypatch.setattr("sidecar.sessions.tiered.backlog._MAX_QUEUED", 2)
    remote.fault = Fault.TIMEOUT
    grants = [await frail.subject.login() for _ in range(3)]
    remote.fault = None
    await frail.clock.turn(10.0)
    alone = [frail.store.peek(grant.session.id) is not None for grant in grants]
    assert alone == [True, False, False]


async def test_what_ended_here_meanwhile_is_not_made_good(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """A login that ended while it waited for that stays ended, here and elsewhere."""
    remote.fault = Fault.TIMEOUT
    ended, all_ended = await frail.subject.login(), await frail.subject.login("bob")
    await frail.store.revoke_session(ended.session.sid)
    await frail.store.revoke_user("bob")
    remote.fault = None
    await frail.clock.turn(10.0)
    for grant in (ended, all_ended):
        assert await frail.look(grant.session.id) is None
        assert await beyond.look(grant.session.id) is None


async def test_what_ended_elsewhere_meanwhile_ends_here(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """A refresh that Redis got, and whose login then ended there, ends here with it."""
    grant = await frail.subject.login()
    remote.fault = Fault.TIMEOUT
    successor = await frail.subject.refresh(grant)
    assert successor is not None
    await beyond.store.revoke_session(grant.session.sid)
    remote.fault = None
    await frail.clock.turn(10.0)
    assert await frail.look(successor.session.id) is None


async def test_a_logout_while_it_is_made_good(
    frail: Tier, remote: Unreliable, beyond: Tier
) -> None:
    """The late write is ended in Redis too."""
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
    """A write that Redis gets after the logout is ended again, and not handed out."""
    await frail.lose_redis()
    grant = await frail.subject.login()
    await frail.find_redis()
    remote.gate = asyncio.Event()
    under_way = asyncio.ensure_future(frail.subject.refresh(grant))
    await frail.clock.turn()
    await frail.store.revoke_session(grant.session.sid)
    remote.gate.set()
    assert await under_way is None
    assert await beyond.store.sessions_of("alice") == []


class Broken(RedisStore):
    """Has a fault of ours in its probe."""

    broken = False

    async def ping(self) -> None:
        """Fail in a way that nobody foresaw."""
        if self.broken:
            raise ZeroDivisionError
        await super().ping()


async def test_the_watch_survives_a_fault_of_ours(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next probe may go well."""
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
    """Probes come when they are due, and get rarer."""
    await here.lose_redis()
    assert here.metrics.breaker_state == "open"
    await here.clock.turn(0.4)
    here.server.connected = True
    await here.clock.turn(0.05)
    assert here.store.degraded
    await here.clock.turn(0.1)
    assert not here.store.degraded


async def test_its_state_in_one_line(here: Tier) -> None:
    """What it is, what it holds, what it owes."""
    await here.subject.login()
    assert repr(here.store) == (
        "<TieredStore closed, <KnownSessions 0 local,"
        " <NearCache 1 logins, not coherent, 0 flushes>,"
        " <Tombstones 0 ids, 0 users, 0 dropped>>, 0 unreplayed>"
    )
