"""The contract that every session store fulfils."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.sessions.listing import position_of
from tests.sessions.contract import (
    ACCESS_TTL,
    REFRESH_TTL,
    USED_TTL,
    new_login,
    successor_of,
    used_of,
)

GRACE = 10.0

if TYPE_CHECKING:
    from sidecar.auth.session import Grant, RefreshRecord
    from tests.sessions.contract import Subject


def used(record: RefreshRecord | None, at: float, sealed: bytes = b"sealed") -> RefreshRecord:
    """A refresh record after a claim."""
    assert record is not None
    return replace(record, used_at=at, sealed=sealed)


async def test_an_unknown_token_has_no_session(subject: Subject) -> None:
    """Absence is None, never an error."""
    assert subject.store.peek("f" * 64) is None
    assert await subject.found("f" * 64) is None


async def test_a_login_is_found_again(subject: Subject) -> None:
    """A look-up returns the session that was written, field by field."""
    grant = await subject.login()
    assert await subject.found(grant.session.id) == grant.session


async def test_a_session_ends_with_its_token(subject: Subject) -> None:
    """A session is live until its token expires, and not longer."""
    grant = await subject.login()
    await subject.forward(ACCESS_TTL - 1)
    assert await subject.found(grant.session.id) is not None
    await subject.forward(2)
    assert await subject.found(grant.session.id) is None


async def test_a_refresh_token_outlives_the_access_token(subject: Subject) -> None:
    """The refresh record has its own expiry."""
    grant = await subject.login()
    assert grant.refresh_id is not None
    await subject.forward(ACCESS_TTL + 1)
    assert await subject.record(grant.refresh_id) == grant.refresh
    await subject.forward(REFRESH_TTL)
    assert await subject.record(grant.refresh_id) is None


async def test_an_unknown_refresh_token_has_no_record(subject: Subject) -> None:
    """It can neither be read nor claimed, and an attempted claim stores nothing."""
    record = new_login(subject.clock.now).refresh
    assert await subject.record("unknown") is None
    assert await subject.claim("unknown", used(record, 1.0)) is None
    assert await subject.record("unknown") is None


async def test_a_refresh_puts_the_new_token_in_place_of_the_old(subject: Subject) -> None:
    """After a rotation only the successor's access token is live."""
    grant = await subject.login()
    successor = await subject.refresh(grant)
    assert successor is not None
    assert await subject.found(grant.session.id) is None
    assert await subject.found(successor.session.id) == successor.session
    (info,) = await subject.store.sessions_of("alice")
    assert (info.sid, info.user_agent) == (grant.session.sid, "curl/8")


async def test_a_replaced_token_counts_for_its_grace(subject: Subject) -> None:
    """Both tokens are live until the grace ends, then only the successor; it is one login."""
    grant = await subject.login()
    successor = await subject.refresh(grant, GRACE)
    assert successor is not None
    until = subject.clock.now + GRACE
    assert await subject.found(grant.session.id) == replace(grant.session, exp=until)
    assert await subject.found(successor.session.id) == successor.session
    assert len(await subject.store.sessions_of("alice")) == 1
    await subject.forward(GRACE - 1)
    assert await subject.found(grant.session.id) is not None
    await subject.forward(2)
    assert await subject.found(grant.session.id) is None
    assert await subject.found(successor.session.id) == successor.session


async def test_a_grace_ends_with_the_token(subject: Subject) -> None:
    """A replaced token does not live longer than it would have without the refresh."""
    grant = await subject.login()
    await subject.forward(ACCESS_TTL - 2)
    assert await subject.refresh(grant, GRACE) is not None
    assert await subject.found(grant.session.id) == grant.session
    await subject.forward(3)
    assert await subject.found(grant.session.id) is None


async def test_the_next_refresh_ends_a_grace(subject: Subject) -> None:
    """Of a login that is refreshed quickly, the last two tokens count."""
    first = await subject.login()
    second = await subject.refresh(first, GRACE)
    assert second is not None
    assert await subject.found(first.session.id) is not None
    third = await subject.refresh(second, GRACE)
    assert third is not None
    found = [await subject.found(each.session.id) for each in (first, second, third)]
    assert [each is not None for each in found] == [False, True, True]
    assert len(await subject.store.sessions_of("alice")) == 1


@pytest.mark.parametrize("by", ["sid", "token", "replaced", "user"])
@pytest.mark.parametrize("seen", [True, False])
async def test_a_logout_ends_a_grace(subject: Subject, by: str, *, seen: bool) -> None:
    """No token of a login counts after its logout, and no late write brings one back."""
    grant = await subject.login()
    successor = await subject.refresh(grant, GRACE)
    assert successor is not None
    tokens = (grant.session.id, successor.session.id)
    if seen:
        assert [await subject.found(each) is not None for each in tokens] == [True, True]
    if by == "user":
        assert await subject.store.revoke_user("alice") == 1
    elif by == "sid":
        assert await subject.store.revoke_session(grant.session.sid)
    else:
        assert await subject.store.revoke_token(tokens[by == "token"])
    assert [await subject.found(each) for each in tokens] == [None, None]
    assert not await subject.store.write(successor)
    assert [await subject.found(each) for each in tokens] == [None, None]


async def test_a_refresh_that_is_written_twice_with_a_grace(subject: Subject) -> None:
    """A grace does not begin anew, nor after its end."""
    grant = await subject.login()
    successor = await subject.refresh(grant, GRACE)
    assert successor is not None
    await subject.forward(GRACE - 1)
    assert await subject.store.write(successor)
    found = await subject.found(grant.session.id)
    assert found is not None
    assert found.exp == subject.clock.now + 1
    await subject.forward(2)
    assert await subject.store.write(successor)
    assert await subject.found(grant.session.id) is None


async def test_a_refresh_token_is_claimed_once(subject: Subject) -> None:
    """The second claim returns the record that the first one stored."""
    grant = await subject.login()
    assert grant.refresh_id is not None
    first, second = (used(grant.refresh, at, b"sealed") for at in (1.0, 2.0))
    assert await subject.claim(grant.refresh_id, first) == grant.refresh
    assert await subject.claim(grant.refresh_id, second) == first
    assert await subject.record(grant.refresh_id) == first


async def test_one_of_many_concurrent_claims_wins(subject: Subject) -> None:
    """Twenty tabs get one successor, even if their claims are identical."""
    grant = await subject.login()
    refresh_id = grant.refresh_id
    claims = (subject.claim(refresh_id, used(grant.refresh, 1.0)) for _ in range(20))
    before = await asyncio.gather(*claims)
    assert [record.used_at for record in before if record is not None].count(None) == 1


async def test_a_used_refresh_token_is_remembered(subject: Subject) -> None:
    """After a rotation the used record remains for a while, so that a racing client is answered."""
    grant = await subject.login()
    assert await subject.refresh(grant) is not None
    assert await subject.refresh(grant) is None
    record = await subject.record(grant.refresh_id)
    assert record is not None
    assert record.used_at == subject.clock.now


async def test_a_used_record_disappears(subject: Subject) -> None:
    """Its own expiry ends it. The login's generation still shows that the token was used."""
    grant = await subject.login()
    assert await subject.store.generation_of(grant.session.sid) == 0
    successor = await subject.refresh(grant)
    assert successor is not None
    await subject.forward(USED_TTL + 1)
    assert await subject.record(grant.refresh_id) is None
    assert await subject.store.generation_of(grant.session.sid) == 1
    assert await subject.refresh(grant) is None
    assert await subject.record(successor.refresh_id) == successor.refresh


async def test_an_unused_record_does_not_disappear(subject: Subject) -> None:
    """A claim whose successor was never written costs no other token its record."""
    grant, other = await subject.login(), await subject.login()
    await subject.claim(grant.refresh_id, used_of(grant, subject.clock.now))
    await subject.forward(USED_TTL + 1)
    assert await subject.record(grant.refresh_id) is None
    assert await subject.store.generation_of(grant.session.sid) == 0
    assert await subject.record(other.refresh_id) == other.refresh


async def test_two_used_records_of_a_login_are_kept(subject: Subject) -> None:
    """However fast a login is refreshed, it has two used records at most."""
    grants = [await subject.login()]
    for _ in range(4):
        successor = await subject.refresh(grants[-1])
        assert successor is not None
        grants.append(successor)
    records = [await subject.record(grant.refresh_id) for grant in grants]
    assert [record is not None and record.used_at is None for record in records].count(True) == 1
    assert [record is not None for record in records] == [False, False, True, True, True]


async def test_the_generation_of_a_login_that_has_ended(subject: Subject) -> None:
    """It is None, as for a login that was never known."""
    successor = await subject.refresh(await subject.login())
    assert successor is not None
    await subject.store.revoke_session(successor.session.sid)
    assert await subject.store.generation_of(successor.session.sid) is None


async def test_a_late_write_changes_nothing(subject: Subject) -> None:
    """A grant that arrives after its own successor takes no effect, and brings nothing back."""
    first = await subject.login()
    second = await subject.refresh(first)
    assert second is not None
    third = await subject.refresh(second)
    assert third is not None
    for late in (second, first):
        assert not await subject.store.write(late)
        assert await subject.found(late.session.id) is None
    assert await subject.store.generation_of(first.session.sid) == 2
    assert await subject.found(third.session.id) == third.session
    assert await subject.record(third.refresh_id) == third.refresh
    record = await subject.record(second.refresh_id)
    assert record is not None
    assert record.used_at is not None
    await subject.forward(USED_TTL + 1)
    assert not await subject.store.write(second)
    assert await subject.record(second.refresh_id) is None
    assert await subject.refresh(third) is not None


async def test_a_login_has_one_grant_of_a_generation(subject: Subject) -> None:
    """A second, different successor takes no effect, in whatever order both are written."""
    grant = await subject.login()
    first, second = (successor_of(grant, subject.clock.now) for _ in range(2))
    assert await subject.store.write(first)
    assert not await subject.store.write(second)
    assert await subject.store.write(first)
    assert await subject.found(second.session.id) is None
    assert await subject.record(second.refresh_id) is None
    assert await subject.found(first.session.id) == first.session
    assert await subject.record(first.refresh_id) == first.refresh


async def test_repeats_are_counted(subject: Subject) -> None:
    """Each repeat of a used token adds one, until its record expires."""
    grant = await subject.login()
    used_record = used_of(grant, subject.clock.now)
    await subject.claim(grant.refresh_id, used_record)
    assert grant.refresh_id is not None
    counted = await asyncio.gather(
        *(subject.store.count_repeat(grant.refresh_id, used_record) for _ in range(5))
    )
    assert sorted(filter(None, counted)) == [1, 2, 3, 4, 5]
    await subject.forward(USED_TTL + 1)
    assert await subject.repeats(grant.refresh_id, used_record) is None
    assert await subject.record(grant.refresh_id) is None


async def test_login_times(subject: Subject) -> None:
    """They are those of logins, not of refreshes, and only read if there are too many."""
    began = {}
    for _ in range(3):
        grant = await subject.login()
        began[grant.session.sid] = subject.clock.now
        await subject.forward(10)
        await subject.refresh(grant)
    await subject.login("bob")
    assert await subject.store.login_times("alice", above=3) == {}
    assert await subject.store.login_times("alice", above=2) == began
    ended = next(iter(began))
    await subject.store.revoke_session(ended)
    del began[ended]
    assert await subject.store.login_times("alice", above=1) == began
    assert await subject.store.login_times("carol", above=0) == {}


async def test_writing_twice_is_writing_once(subject: Subject) -> None:
    """A write whose answer was lost can be repeated. A claimed token stays claimed."""
    grant = await subject.login()
    claimed = used(grant.refresh, 1.0)
    await subject.claim(grant.refresh_id, claimed)
    assert await subject.store.write(grant)
    assert await subject.record(grant.refresh_id) == claimed
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
    """A logout ends the login's current tokens."""
    successor = await subject.refresh(await subject.login())
    assert successor is not None
    assert await subject.store.revoke_session(successor.session.sid)
    assert await subject.found(successor.session.id) is None
    assert await subject.record(successor.refresh_id) is None


async def test_logout_by_token_ends_its_login(subject: Subject) -> None:
    """A logout by access token also ends the refresh token."""
    grant = await subject.login()
    assert await subject.store.revoke_token(grant.session.id)
    assert await subject.found(grant.session.id) is None
    assert await subject.record(grant.refresh_id) is None
    assert not await subject.store.revoke_token(grant.session.id)


async def test_logout_ends_one_login_only(subject: Subject) -> None:
    """The user's other logins and other users' logins stay live."""
    ended, other, bobs = [await subject.login(sub) for sub in ("alice", "alice", "bob")]
    await subject.store.revoke_session(ended.session.sid)
    assert await subject.found(other.session.id) is not None
    assert await subject.found(bobs.session.id) is not None
    assert [info.sid for info in await subject.store.sessions_of("alice")] == [other.session.sid]


async def test_logout_of_all_ends_every_login_of_the_user(subject: Subject) -> None:
    """All logins of one user end, and no others. The user can log in again."""
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
    """If a login is ended during a refresh, the refresh writes nothing that is live."""
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
    """Expired logins are not listed. Each entry has the time and address of its login."""
    first = await subject.login()
    await subject.forward(REFRESH_TTL / 2)
    second = await subject.login()
    listed = await subject.store.sessions_of("alice")
    assert [info.sid for info in listed] == [second.session.sid, first.session.sid]
    assert (listed[1].created, listed[1].address) == (first.session.created, "192.0.2.1")
    await subject.forward(REFRESH_TTL / 2 + 1)
    assert [info.sid for info in await subject.store.sessions_of("alice")] == [second.session.sid]


async def test_the_listing_has_pages(subject: Subject) -> None:
    """Pages hold each login once, those that expire last first, also if some expire together."""
    sids = []
    for number in range(23):
        if number % 5 == 0:
            await subject.forward(1.0)
        sids.append((await subject.login()).session.sid)
    await subject.login("bob")
    pages = [await subject.store.sessions_of("alice", limit=4)]
    while len(pages[-1]) == 4:
        after = min(map(position_of, pages[-1]))
        pages.append(await subject.store.sessions_of("alice", after, 4))
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 3]
    assert sorted(info.sid for page in pages for info in page) == sorted(sids)
    ends = [[info.exp for info in page] for page in pages]
    assert all(min(ends[n]) >= max(ends[n + 1]) for n in range(5))


async def test_a_page_continues_after_a_login_that_ended(subject: Subject) -> None:
    """No login is left out because the last one of the previous page was ended."""
    sids = {(await subject.login()).session.sid for _ in range(6)}
    page = await subject.store.sessions_of("alice", limit=3)
    after = min(map(position_of, page))
    await subject.store.revoke_session(after[1])
    rest = await subject.store.sessions_of("alice", after, 6)
    assert {info.sid for info in (*page, *rest)} == sids
    assert len(rest) == 3


async def test_one_login_of_a_user(subject: Subject) -> None:
    """It is found by its sid, while it is live, and only for its own user."""
    grant = await subject.login()
    sid = grant.session.sid
    info = await subject.store.login_of("alice", sid)
    assert info is not None
    assert (info.sid, info.sub, info.address) == (sid, "alice", "192.0.2.1")
    assert await subject.store.login_of("bob", sid) is None
    for other in ("", "unknown", "\ud800"):
        assert await subject.store.login_of("alice", other) is None
    await subject.store.revoke_session(sid)
    assert await subject.store.login_of("alice", sid) is None


async def test_a_cookie_session_has_no_refresh_token(subject: Subject) -> None:
    """It is live until its cookie expires, and a logout ends it."""
    grant = new_login(subject.clock.now, cookie=True)
    assert await subject.store.write(grant)
    await subject.forward(REFRESH_TTL - 1)
    assert await subject.found(grant.session.id) is not None
    assert await subject.store.revoke_token(grant.session.id)
    assert await subject.store.sessions_of("alice") == []


async def test_any_text_can_be_asked_for(subject: Subject) -> None:
    """A token id may be any text from a client, even half a surrogate pair."""
    for text in ("", "\ud800", "a b\r\nc", "*", "\x00", "é" * 5000):
        assert await subject.found(text) is None
        assert not await subject.store.revoke_token(text)


set_by_an_hour = pytest.mark.parametrize(
    "step", [pytest.param(3600.0, id="on"), pytest.param(-3600.0, id="back")]
)


async def is_live(subject: Subject, grant: Grant) -> bool:
    """Whether a grant's token is live by this clock; Redis expires keys by its own."""
    session = await subject.found(grant.session.id)
    return session is not None and session.exp > subject.clock.now


@set_by_an_hour
async def test_a_login_survives_a_change_of_the_clock(subject: Subject, step: float) -> None:
    """Its token expires by the new clock. Refreshing works, also after the clock is corrected."""
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
async def test_ended_logins_stay_ended_when_the_clock_is_set(subject: Subject, step: float) -> None:
    """They are not live by the new clock, nor after it is corrected."""
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
    """It ends every earlier login, by whichever clock. A later login is live and stays live."""
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
