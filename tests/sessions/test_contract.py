"""What every session store does, whatever it is made of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from tests.sessions.contract import ACCESS_TTL, REFRESH_TTL, new_login, successor_of

if TYPE_CHECKING:
    from sidecar.auth.session import Grant, RefreshRecord
    from tests.sessions.contract import Subject


def used(record: RefreshRecord | None, at: float, sealed: bytes = b"sealed") -> RefreshRecord:
    """A record as a claim leaves it."""
    assert record is not None
    return replace(record, used_at=at, sealed=sealed)


async def test_an_unknown_token_has_no_session(subject: Subject) -> None:
    """Absence is None."""
    assert subject.store.peek("f" * 64) is None
    assert await subject.found("f" * 64) is None


async def test_a_login_is_found_again(subject: Subject) -> None:
    """What was written comes back, with all that it said."""
    grant = await subject.login()
    assert await subject.found(grant.session.id) == grant.session


async def test_a_session_ends_with_its_token(subject: Subject) -> None:
    """A session lives until its token expires, and no longer."""
    grant = await subject.login()
    await subject.forward(ACCESS_TTL - 1)
    assert await subject.found(grant.session.id) is not None
    await subject.forward(2)
    assert await subject.found(grant.session.id) is None


async def test_a_refresh_token_outlives_the_access_token(subject: Subject) -> None:
    """The refresh record lives for its own time."""
    grant = await subject.login()
    assert grant.refresh_id is not None
    await subject.forward(ACCESS_TTL + 1)
    assert await subject.record(grant.refresh_id) == grant.refresh
    await subject.forward(REFRESH_TTL)
    assert await subject.record(grant.refresh_id) is None


async def test_an_unknown_refresh_token_has_no_record(subject: Subject) -> None:
    """It can neither be read nor claimed, and a claim leaves nothing behind."""
    record = new_login(subject.clock.now).refresh
    assert await subject.record("unknown") is None
    assert await subject.claim("unknown", used(record, 1.0)) is None
    assert await subject.record("unknown") is None


async def test_a_refresh_puts_the_new_token_in_place_of_the_old(subject: Subject) -> None:
    """After a rotation one access token is live: the successor."""
    grant = await subject.login()
    successor = await subject.refresh(grant)
    assert successor is not None
    assert await subject.found(grant.session.id) is None
    assert await subject.found(successor.session.id) == successor.session
    (info,) = await subject.store.sessions_of("alice")
    assert (info.sid, info.user_agent) == (grant.session.sid, "curl/8")


async def test_a_refresh_token_is_claimed_once(subject: Subject) -> None:
    """The second claim gets the record that the first put there."""
    grant = await subject.login()
    assert grant.refresh_id is not None
    first, second = (used(grant.refresh, at, b"sealed") for at in (1.0, 2.0))
    assert await subject.claim(grant.refresh_id, first) == grant.refresh
    assert await subject.claim(grant.refresh_id, second) == first
    assert await subject.record(grant.refresh_id) == first


async def test_of_many_claims_at_once_one_wins(subject: Subject) -> None:
    """Two tabs, or twenty, get one successor, even if they claim in the same words."""
    grant = await subject.login()
    refresh_id = grant.refresh_id
    claims = (subject.claim(refresh_id, used(grant.refresh, 1.0)) for _ in range(20))
    before = await asyncio.gather(*claims)
    assert [record.used_at for record in before if record is not None].count(None) == 1


async def test_a_used_refresh_token_is_remembered(subject: Subject) -> None:
    """After the rotation the used record still tells of the theft that its return would be."""
    grant = await subject.login()
    assert await subject.refresh(grant) is not None
    assert await subject.refresh(grant) is None
    record = await subject.record(grant.refresh_id)
    assert record is not None
    assert record.used_at == subject.clock.now


async def test_writing_twice_is_writing_once(subject: Subject) -> None:
    """A write whose answer was lost can be repeated; a claimed token stays claimed."""
    grant = await subject.login()
    revocable = used(grant.refresh, 1.0)
    await subject.claim(grant.refresh_id, revocable)
    assert await subject.store.write(grant)
    assert await subject.record(grant.refresh_id) == revocable
    assert len(await subject.store.sessions_of("alice")) == 1


async def test_logout_ends_all_of_a_login(subject: Subject) -> None:
    """The access token, the refresh token and the listing end together."""
    grant = await subject.login()
    assert await subject.store.revoke_session(grant.session.sid)
    assert await subject.found(grant.session.id) is None
    assert await subject.record(grant.refresh_id) is None
    assert await subject.store.sessions_of("alice") == []
    assert not await subject.store.revoke_session(grant.session.sid)


async def test_logout_after_a_refresh_ends_the_successor(subject: Subject) -> None:
    """What a login has now is what its logout ends."""
    successor = await subject.refresh(await subject.login())
    assert successor is not None
    assert await subject.store.revoke_session(successor.session.sid)
    assert await subject.found(successor.session.id) is None
    assert await subject.record(successor.refresh_id) is None


async def test_logout_by_token_ends_its_login(subject: Subject) -> None:
    """Who shows the access token ends the refresh token with it."""
    grant = await subject.login()
    assert await subject.store.revoke_token(grant.session.id)
    assert await subject.found(grant.session.id) is None
    assert await subject.record(grant.refresh_id) is None
    assert not await subject.store.revoke_token(grant.session.id)


async def test_logout_ends_one_login_only(subject: Subject) -> None:
    """The user's other logins, and other users', go on."""
    ended, other, bobs = [await subject.login(sub) for sub in ("alice", "alice", "bob")]
    await subject.store.revoke_session(ended.session.sid)
    assert await subject.found(other.session.id) is not None
    assert await subject.found(bobs.session.id) is not None
    assert [info.sid for info in await subject.store.sessions_of("alice")] == [other.session.sid]


async def test_logout_of_all_ends_every_login_of_the_user(subject: Subject) -> None:
    """All of one user's logins end, nobody else's; new ones can begin."""
    grants = [await subject.login() for _ in range(3)]
    bobs = await subject.login("bob")
    assert await subject.store.revoke_user("alice") == 3
    for grant in grants:
        assert await subject.found(grant.session.id) is None
        assert await subject.record(grant.refresh_id) is None
    assert await subject.found(bobs.session.id) is not None
    assert await subject.store.revoke_user("alice") == 0
    again = await subject.login()
    assert await subject.found(again.session.id) is not None


async def test_a_refresh_does_not_bring_back_what_was_ended(subject: Subject) -> None:
    """A refresh that was under way when its login was ended writes nothing that lives."""
    grant = await subject.login()
    await subject.claim(grant.refresh_id, used(grant.refresh, 1.0))
    await subject.store.revoke_session(grant.session.sid)
    successor = successor_of(grant, subject.clock.now)
    assert not await subject.store.write(successor)
    assert not await subject.store.write(successor)
    assert await subject.found(successor.session.id) is None
    assert await subject.record(successor.refresh_id) is None
    assert await subject.store.sessions_of("alice") == []


async def test_the_listing_shows_live_logins_newest_first(subject: Subject) -> None:
    """What has expired is not listed, what is listed says from where it came."""
    first = await subject.login()
    await subject.forward(REFRESH_TTL / 2)
    second = await subject.login()
    listed = await subject.store.sessions_of("alice")
    assert [info.sid for info in listed] == [second.session.sid, first.session.sid]
    assert (listed[1].created, listed[1].address) == (first.session.created, "192.0.2.1")
    await subject.forward(REFRESH_TTL / 2 + 1)
    assert [info.sid for info in await subject.store.sessions_of("alice")] == [second.session.sid]


async def test_a_cookie_session_has_no_refresh_token(subject: Subject) -> None:
    """It lives as long as its cookie and ends like any other."""
    grant = new_login(subject.clock.now, cookie=True)
    assert await subject.store.write(grant)
    await subject.forward(REFRESH_TTL - 1)
    assert await subject.found(grant.session.id) is not None
    assert await subject.store.revoke_token(grant.session.id)
    assert await subject.store.sessions_of("alice") == []


async def test_any_text_can_be_asked_for(subject: Subject) -> None:
    """A token id may be what a client made up, down to half a surrogate pair."""
    for text in ("", "\ud800", "a b\r\nc", "*", "\x00", "é" * 5000):
        assert await subject.found(text) is None
        assert not await subject.store.revoke_token(text)


set_by_an_hour = pytest.mark.parametrize(
    "step", [pytest.param(3600.0, id="on"), pytest.param(-3600.0, id="back")]
)


async def is_live(subject: Subject, grant: Grant) -> bool:
    """Whether a grant's token is let in. Redis has time of its own: who reads there compares."""
    session = await subject.found(grant.session.id)
    return session is not None and session.exp > subject.clock.now


@set_by_an_hour
async def test_a_login_goes_on_when_the_clock_is_set(subject: Subject, step: float) -> None:
    """Its token ends by the clock that is; a refresh goes on, also when the clock is put right."""
    grant = await subject.login()
    subject.clock.advance(step)
    assert await is_live(subject, grant) is (step < 0)
    successor = await subject.refresh(grant)
    assert successor is not None
    assert await subject.found(successor.session.id) == successor.session
    subject.clock.advance(-step)
    assert await subject.found(grant.session.id) is None
    assert await is_live(subject, successor) is (step > 0)
    (info,) = await subject.store.sessions_of("alice")
    assert info.sid == grant.session.sid
    assert await subject.refresh(successor) is not None


@set_by_an_hour
async def test_what_was_ended_stays_so_when_the_clock_is_set(subject: Subject, step: float) -> None:
    """Neither before nor after that, nor when the clock is put right."""
    ended, by_token = await subject.login(), await subject.login()
    await subject.store.revoke_session(ended.session.sid)
    await subject.store.revoke_token(by_token.session.id)
    for turn in (step, -step):
        subject.clock.advance(turn)
        for grant in (ended, by_token):
            assert await subject.found(grant.session.id) is None
            assert await subject.record(grant.refresh_id) is None
            assert not await subject.store.write(successor_of(grant, subject.clock.now))


@set_by_an_hour
async def test_a_logout_of_all_when_the_clock_is_set(subject: Subject, step: float) -> None:
    """It ends what had begun, by whatever clock; who logs in after it is in, and stays so."""
    early = await subject.login()
    subject.clock.advance(step)
    late = await subject.login()
    assert await subject.store.revoke_user("alice") == 2
    subject.clock.advance(-step)
    again = await subject.login()
    for grant in (early, late):
        assert await subject.found(grant.session.id) is None
        assert await subject.record(grant.refresh_id) is None
    assert await subject.found(again.session.id) == again.session
    successor = await subject.refresh(again)
    assert successor is not None
    assert await subject.found(successor.session.id) == successor.session
