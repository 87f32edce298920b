"""The Redis store: the keys it writes, its commands, and values that others wrote."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from sidecar.auth.session import SessionKey
from sidecar.auth.value_mac import Purpose
from sidecar.sessions.listing import PAGE, position_of
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.telemetry.logs import rfc3339
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.signed import MAC, NAMES, signed, unsigned
from tests.sessions.conftest import PATIENT
from tests.sessions.contract import ACCESS_TTL, REFRESH_TTL, new_login, successor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.telemetry.metrics import Metrics
    from tests.peers.clock import Clock
    from tests.peers.redis_server import RedisServer


@pytest.fixture
async def store(server: RedisServer, metrics: Metrics, clock: Clock) -> AsyncIterator[RedisStore]:
    """A store on the real server."""
    client = connect(RedisConfig(port=server.port))
    made = RedisStore(client, metrics, MAC, clock=clock, timeout=PATIENT)
    yield made
    await made.close()


@pytest.fixture
async def shared(server: RedisServer, metrics: Metrics, clock: Clock) -> AsyncIterator[RedisStore]:
    """A store with `SESSION_KEY=token`."""
    made = RedisStore(
        connect(RedisConfig(port=server.port)),
        metrics,
        MAC,
        clock=clock,
        timeout=PATIENT,
        session_key=SessionKey.TOKEN,
    )
    yield made
    await made.close()


async def test_the_keys_of_a_login(store: RedisStore, server: RedisServer, clock: Clock) -> None:
    """A login has four keys, each with the designed time to live."""
    grant = new_login(clock.now)
    await store.write(grant)
    assert server.lives() == {
        NAMES.token(grant.session.id).decode(): pytest.approx(ACCESS_TTL, abs=1),
        NAMES.refresh(grant.refresh_id or "").decode(): pytest.approx(REFRESH_TTL, abs=1),
        NAMES.login(grant.session.sid).decode(): pytest.approx(REFRESH_TTL, abs=1),
        NAMES.user("alice").decode(): pytest.approx(REFRESH_TTL, abs=1),
    }
    key = NAMES.token(grant.session.id)
    value = unsigned(Purpose.SESSION, key, server.value(key.decode()))
    assert msgspec.json.decode(value) == msgspec.to_builtins(grant.session)
    assert server.admin.zscore(NAMES.user("alice"), grant.session.sid) == clock.now + REFRESH_TTL


async def test_no_key_outlives_max_ttl(server: RedisServer, metrics: Metrics, clock: Clock) -> None:
    """`max_ttl` caps a token that claims to live longer."""
    client = connect(RedisConfig(port=server.port))
    store = RedisStore(client, metrics, MAC, clock=clock, timeout=PATIENT, max_ttl=60.0)
    await store.write(new_login(clock.now))
    assert set(server.lives().values()) <= {59.0, 60.0}
    await store.close()


async def test_a_logout_leaves_no_key(store: RedisStore, server: RedisServer, clock: Clock) -> None:
    """A logout deletes every key of the login."""
    grant = new_login(clock.now)
    await store.write(grant)
    await store.revoke_session(grant.session.sid)
    assert server.lives() == {}


async def test_a_claim_of_nothing_leaves_no_key(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """Made-up refresh tokens do not fill Redis' memory."""
    record = new_login(clock.now).refresh
    assert record is not None
    assert await store.claim_refresh("made-up", record) is None
    assert server.lives() == {}


async def test_a_refresh_of_an_ended_login_leaves_no_key(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """Keys written before the end was noticed are deleted again."""
    grant = new_login(clock.now)
    await store.write(grant)
    await store.revoke_session(grant.session.sid)
    assert not await store.write(successor_of(grant, clock.now))
    assert server.lives() == {}


async def test_an_interrupted_logout_can_be_repeated(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A login without `login` cannot be continued, and its tokens can still be found."""
    grant = new_login(clock.now)
    await store.write(grant)
    server.admin.hdel(NAMES.login(grant.session.sid).decode(), "login")
    assert await store.sessions_of("alice") == []
    assert await store.revoke_session(grant.session.sid)
    assert await store.get(grant.session.id) is None
    assert server.lives() == {}


async def test_look_ups_of_one_tick_are_one_command(
    store: RedisStore, server: RedisServer, clock: Clock, metrics: Metrics
) -> None:
    """Sixty-four look-ups, each key asked for twice, cost Redis one MGET."""
    grants = [new_login(clock.now) for _ in range(32)]
    for grant in grants:
        await store.write(grant)
    server.forget_calls()
    found = await asyncio.gather(*(store.get(grant.session.id) for grant in grants * 2))
    assert found == [grant.session for grant in grants * 2]
    assert {key: calls for key, calls in server.calls().items() if "get" in key} == {"mget": 1}
    assert metrics.lookups["redis", "hit"] == 32


async def test_many_more_look_ups_than_connections(store: RedisStore, clock: Clock) -> None:
    """Look-ups beyond the connections wait. Every caller gets its own answer."""
    grants = [new_login(clock.now) for _ in range(20)]
    for grant in grants:
        await store.write(grant)

    async def ask(turns: int) -> None:
        grant = grants[turns % len(grants)]
        for _ in range(turns % 7):
            await asyncio.sleep(0)
        assert await store.get(grant.session.id) == grant.session
        assert await store.get(f"{turns:064x}ff") is None

    await asyncio.gather(*(ask(turns) for turns in range(500)))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"true", id="not an object"),
        pytest.param(b"\xff\xfe\x00", id="not text"),
        pytest.param(b'{"id": "x"', id="cut"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="deep"),
        pytest.param(b"x" * 1_000_000, id="large"),
        pytest.param(b'{"id":1,"sid":2,"sub":3,"claims":4,"created":5,"exp":6}', id="types"),
    ],
)
async def test_an_unreadable_value_is_no_session(
    value: bytes, store: RedisStore, server: RedisServer, metrics: Metrics
) -> None:
    """It counts as unreadable, and is not a session."""
    server.admin.set(NAMES.token("t"), signed(Purpose.SESSION, NAMES.token("t"), value))
    assert await store.get("t") is None
    assert metrics.lookups["redis", "unreadable"] == 1
    assert metrics.lookups["redis", "hit"] == 0


async def test_an_unreadable_refresh_record(
    store: RedisStore, server: RedisServer, metrics: Metrics
) -> None:
    """It can neither be read nor claimed."""
    record = new_login().refresh
    assert record is not None
    key = NAMES.refresh("r")
    server.admin.hset(key.decode(), "record", signed(Purpose.REFRESH, key, b"not ours"))
    assert await store.get_refresh("r") is None
    assert await store.claim_refresh("r", record) is None
    assert metrics.lookups["redis", "unreadable"] == 2


async def test_a_copied_value_is_no_session(
    store: RedisStore, server: RedisServer, clock: Clock, metrics: Metrics
) -> None:
    """A session is bound to its token, so a copy under another key is worthless."""
    grant = new_login(clock.now)
    await store.write(grant)
    server.admin.copy(NAMES.token(grant.session.id).decode(), NAMES.token("another").decode())
    assert await store.get("another") is None
    assert metrics.lookups["redis", "bad_mac"] == 1


async def test_values_of_another_type_are_no_sessions(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """Keys of an unexpected type are misses, never errors."""
    for key in (NAMES.token("t"), NAMES.refresh("r"), NAMES.login("s"), NAMES.user("alice")):
        server.admin.rpush(key.decode(), "not ours")
    record = new_login(clock.now).refresh
    assert record is not None
    assert await store.get("t") is None
    assert await store.get_refresh("r") is None
    assert await store.claim_refresh("r", record) is None
    assert await store.sessions_of("alice") == []
    assert await store.revoke_user("alice") == 0
    assert not await store.revoke_session("s")
    assert not await store.revoke_token("t")


async def test_a_login_replaces_values_of_another_type(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """If a user's list could not be written, no logout would find the login."""
    server.admin.set(NAMES.user("alice"), "not ours")
    grant = new_login(clock.now)
    assert await store.write(grant)
    assert await store.revoke_user("alice") == 1
    assert await store.get(grant.session.id) is None


async def test_logins_that_are_not_listed(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """If a user's list is lost or of another type, the sid still ends the login."""
    grants = [new_login(clock.now) for _ in range(3)]
    for grant in grants:
        assert await store.write(grant)
    server.admin.delete(NAMES.user("alice"))
    server.admin.set(NAMES.user("alice"), "not ours")
    assert await store.revoke_session(grants[0].session.sid)
    also = [grant.session.sid for grant in grants]
    assert await store.revoke_user("alice", also=also) == 2
    assert [await store.get(grant.session.id) for grant in grants] == [None] * 3


async def test_any_value_is_a_session_under_the_token_itself(
    shared: RedisStore, server: RedisServer, metrics: Metrics
) -> None:
    """With `SESSION_KEY=token`, a value of another service only says that the token is live."""
    server.admin.set(NAMES.token("a.b.c"), '{"userId": 7}', ex=60)
    session = await shared.get("a.b.c")
    assert session is not None
    assert (session.id, session.sub, session.method) == ("a.b.c", "", "foreign")
    assert metrics.lookups["redis", "hit"] == 1
    assert await shared.revoke_token("a.b.c")
    assert await shared.get("a.b.c") is None
    assert server.lives() == {}


@pytest.mark.parametrize("how", ["token", "sid", "user", "foreign", "replaced"])
async def test_a_look_up_after_a_logout_shares_no_earlier_answer(
    how: str, server: RedisServer, clock: Clock, metrics: Metrics
) -> None:
    """A look-up after the logout does not join one that was sent before it."""
    async with FaultProxy(server.port) as proxy:
        client = connect(RedisConfig(host="127.0.0.1", port=proxy.port, timeout=PATIENT))
        key = SessionKey.TOKEN if how == "foreign" else SessionKey.SHA256
        store = RedisStore(client, metrics, MAC, clock=clock, timeout=PATIENT, session_key=key)
        grant = new_login(clock.now)
        await store.write(grant)
        token = grant.session.id
        if how == "foreign":
            server.admin.set(NAMES.token(token), "not ours")
        if how == "replaced":
            assert await store.write(successor_of(grant, clock.now, 10.0))
        server.forget_calls()
        proxy.stall(1)
        before = asyncio.ensure_future(store.get(token))
        await until(lambda: "mget" in server.calls())
        if how in {"sid", "replaced"}:
            await store.revoke_session(grant.session.sid)
        elif how == "user":
            await store.revoke_user("alice")
        else:
            await store.revoke_token(token)
        assert await store.get(token) is None
        proxy.flow()
        assert await before is not None
        await store.close()


async def test_expired_logins_leave_the_users_list(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A new login removes the user's expired ones from the list."""
    await store.write(new_login(clock.now))
    clock.advance(REFRESH_TTL + 1)
    await store.write(new_login(clock.now))
    assert server.admin.zcard(NAMES.user("alice")) == 1


async def test_seen_is_written_when_the_clock_was_set_back(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A previous write that lies in the future does not count as recent."""
    grant = new_login(clock.now)
    await store.write(grant)
    clock.advance(-3600)
    server.forget_calls()
    await store.touch([grant.session.sid])
    await store.touch([grant.session.sid])
    (info,) = await store.sessions_of("alice")
    assert info.seen == clock.now
    assert server.calls()["hset"] == 1


async def test_seen_is_written_rarely(store: RedisStore, server: RedisServer, clock: Clock) -> None:
    """It is written once per interval, and never for a login that has ended."""
    grant = new_login(clock.now)
    await store.write(grant)
    clock.advance(301)
    server.forget_calls()
    for _ in range(5):
        await store.get(grant.session.id)

    async def seen() -> bool:
        (info,) = await store.sessions_of("alice")
        return info.seen == clock.now

    await until(seen)
    assert server.calls()["hset"] == 1
    server.admin.delete(NAMES.login(grant.session.sid))
    clock.advance(301)
    await store.get(grant.session.id)
    await until(lambda: server.calls()["hset"] == 2)
    await until(lambda: not server.admin.exists(NAMES.login(grant.session.sid)))


@pytest.mark.parametrize("seen", ["1e300", "-1e300", "1e18", "nan", "inf", "-0.5", "", "x"])
async def test_a_time_that_is_none(
    seen: str, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """The time when a login was last seen has no MAC: it may be any text, and is only shown."""
    grant = new_login(clock.now)
    await store.write(grant)
    server.admin.hset(NAMES.login(grant.session.sid).decode(), "seen", seen)
    (info,) = await store.sessions_of("alice")
    assert info.seen == grant.session.created
    assert rfc3339(info.seen)


async def test_seen_beside_a_value_of_another_type(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """It is written for the other logins, and none that has ended is left behind."""
    grant = new_login(clock.now)
    await store.write(grant)
    clock.advance(301)
    server.admin.set(NAMES.login("changed"), "not ours")
    await store.touch(["changed", "ended", grant.session.sid])
    (info,) = await store.sessions_of("alice")
    assert info.seen == clock.now
    assert not server.admin.exists(NAMES.login("ended"))


async def test_no_command_looks_through_all_keys(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """No command takes longer because Redis has more keys."""
    grant = new_login(clock.now)
    await store.write(grant)
    await store.write(successor_of(grant, clock.now))
    await store.sessions_of("alice")
    await store.revoke_token(grant.session.id)
    await store.revoke_user("alice")
    assert {"keys", "scan", "eval", "flushall"} & set(server.calls()) <= {"flushall"}


async def test_a_user_with_very_many_logins(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A listing reads one page of them. A logout of all sessions ends all."""
    for _ in range(1200):
        await store.write(new_login(clock.now, cookie=True))
    server.forget_calls()
    page = await store.sessions_of("alice")
    assert len(page) == PAGE
    assert server.calls()["hgetall"] == PAGE
    await store.sessions_of("alice", min(map(position_of, page)))
    assert server.calls()["hgetall"] == 2 * PAGE
    assert await store.revoke_user("alice") == 1200
    assert server.lives() == {}


async def test_repr_shows_no_secret(server: RedisServer, metrics: Metrics) -> None:
    """Neither the store nor its link shows a password."""
    store = RedisStore(connect(RedisConfig(port=server.port)), metrics, MAC)
    assert repr(store) == (
        f"<RedisStore by sha256 on <RedisLink localhost:{server.port}/0, 0 operations>>"
    )
    await store.close()


async def test_look_up_after_close(server: RedisServer, metrics: Metrics) -> None:
    """A look-up after `close` raises RuntimeError."""
    store = RedisStore(connect(RedisConfig(port=server.port)), metrics, MAC)
    await store.close()
    with pytest.raises(RuntimeError, match="after close"):
        await store.get("t")


async def test_writes_complete_although_the_caller_is_cancelled(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A client that disconnects during its login leaves no partial login."""
    grants = [new_login(clock.now) for _ in range(10)]
    for turns, grant in enumerate(grants):
        task = asyncio.ensure_future(store.write(grant))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def written() -> int:
        return sum(server.admin.exists(NAMES.token(g.session.id)) for g in grants)

    def whole() -> int:
        return sum(server.admin.exists(NAMES.login(g.session.sid)) for g in grants)

    await until(lambda: written() == whole() >= 9)
