"""Values in Redis that a writer without the secret has made, edited, copied or kept.

On a real server, for each kind of value. What is not valid is never believed, counted once for each
read, and logged rarely.
"""

from __future__ import annotations

import json
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec.structs import replace

from sidecar.auth.denylist import RevocableToken
from sidecar.auth.revocation import EVERYTHING, Revocation, encode_revocation
from sidecar.auth.session import SessionKey, encode_refresh, encode_session
from sidecar.auth.value_mac import Purpose, ValueMac
from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.signed import MAC, NAMES, REFRESH_SECRET
from tests.sessions.conftest import PATIENT
from tests.sessions.contract import new_login, successor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.clock import Clock
    from tests.peers.redis_server import RedisServer

OTHER_SECRET: Final = "another-secret-0123456789abcdefghijklmn"
OTHERS: Final = {
    "no MAC": None,
    "another secret": ValueMac([OTHER_SECRET.encode()], "auth-sidecar", "auth-sidecar"),
    "another issuer": ValueMac([REFRESH_SECRET.encode()], "another", "auth-sidecar"),
    "another audience": ValueMac([REFRESH_SECRET.encode()], "auth-sidecar", "another"),
}


def mac_of(*secrets: str) -> ValueMac:
    """The MAC of a sidecar with these refresh secrets."""
    return ValueMac([secret.encode() for secret in secrets], "auth-sidecar", "auth-sidecar")


def new_store(server: RedisServer, clock: Clock, mac: ValueMac = MAC, **options: Any) -> RedisStore:
    """A store on this server."""
    client = connect(RedisConfig(port=server.port))
    return RedisStore(client, Metrics(), mac, clock=clock, timeout=PATIENT, **options)


@asynccontextmanager
async def aclosing_store(
    server: RedisServer, clock: Clock, mac: ValueMac, **options: Any
) -> AsyncIterator[RedisStore]:
    """A store on this server, which is closed at the end."""
    store = new_store(server, clock, mac, **options)
    try:
        yield store
    finally:
        await store.close()


def bad_macs(store: RedisStore) -> int:
    """How many values without a valid MAC a store has read."""
    lookups: dict[tuple[str, str], int] = vars(store)["_metrics"].lookups
    return lookups["redis", "bad_mac"]


@pytest.fixture
async def store(server: RedisServer, clock: Clock) -> AsyncIterator[RedisStore]:
    """A store on the real server."""
    async with aclosing_store(server, clock, MAC) as made:
        yield made


def hostile(purpose: Purpose, key: bytes, value: bytes) -> dict[str, bytes]:
    """This value under this key as attackers can write it, by what is wrong with it."""
    found = {
        name: value if mac is None else mac.sign(purpose, key, value)
        for name, mac in OTHERS.items()
    }
    wrong = next(each for each in Purpose if each is not purpose)
    found["another purpose"] = MAC.sign(wrong, key, value)
    found["another key"] = MAC.sign(purpose, key + b"x", value)
    signed = MAC.sign(purpose, key, value)
    found["edited"] = b" " + signed
    found["cut"] = signed[:-1]
    return found


WRONG: Final = sorted(hostile(Purpose.SESSION, b"", b""))


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_invalid_value_is_no_session(
    wrong: str, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A session is believed only if a sidecar has signed it for this very key."""
    session = replace(new_login(clock.now).session, sub="admin", claims={"roles": ["admin"]})
    key = NAMES.token(session.id)
    server.admin.set(key, MAC.sign(Purpose.SESSION, key, encode_session(session)))
    assert await store.get(session.id) == session
    server.admin.set(key, hostile(Purpose.SESSION, key, encode_session(session))[wrong])
    assert await store.get(session.id) is None
    assert bad_macs(store) == 1
    assert not await store.revoke_token(session.id)
    assert server.admin.exists(key)  # it may be another application's


async def test_a_session_that_was_copied(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """The genuine session of one token gives nothing to another."""
    grant = new_login(clock.now)
    await store.write(grant)
    server.admin.copy(NAMES.token(grant.session.id).decode(), NAMES.token("mine").decode())
    assert await store.get("mine") is None
    assert bad_macs(store) == 1


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_invalid_refresh_record(
    wrong: str, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A user cannot raise their own roles, or the age of their login, between two refreshes."""
    grant = new_login(clock.now)
    assert grant.refresh is not None
    assert grant.refresh_id is not None
    await store.write(grant)
    key = NAMES.refresh(grant.refresh_id)
    raised = replace(grant.refresh, claims={"roles": ["admin"]}, method="sso")
    value = encode_refresh(raised, grant.refresh_id)
    server.admin.hset(key.decode(), "record", hostile(Purpose.REFRESH, key, value)[wrong])
    assert await store.get_refresh(grant.refresh_id) is None
    assert await store.claim_refresh(grant.refresh_id, replace(raised, used_at=clock.now)) is None
    assert bad_macs(store) == 2


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_invalid_used_record(
    wrong: str, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A used refresh token has no successor but the one that a sidecar has stored."""
    grant = new_login(clock.now)
    assert grant.refresh is not None
    assert grant.refresh_id is not None
    await store.write(grant)
    key = NAMES.refresh(grant.refresh_id)
    used = replace(grant.refresh, used_at=clock.now, sealed=b"mine")
    value = bytes(8) + encode_refresh(used, grant.refresh_id)
    server.admin.hset(key.decode(), "used", hostile(Purpose.USED, key, value)[wrong])
    assert await store.get_refresh(grant.refresh_id) is None
    assert await store.claim_refresh(grant.refresh_id, used) is None
    assert bad_macs(store) == 2


async def test_a_used_record_without_a_valid_record(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A claim of a forged record does not make the record genuine."""
    record = new_login(clock.now).refresh
    assert record is not None
    key = NAMES.refresh("r")
    server.admin.hset(key.decode(), "record", encode_refresh(record, "r"))
    used = replace(record, used_at=clock.now)
    assert await store.claim_refresh("r", used) is None
    assert await store.get_refresh("r") is None
    assert server.admin.hexists(key.decode(), "used")


@pytest.mark.parametrize("field", ["current:0", "client"])
@pytest.mark.parametrize("wrong", WRONG)
async def test_an_invalid_login(
    wrong: str, field: str, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """It names no credentials: it is not listed, and ending it ends nobody else's."""
    grant, victim = new_login(clock.now), new_login(clock.now, "bob")
    await store.write(grant)
    await store.write(victim)
    key = NAMES.login(grant.session.sid)
    theirs = server.admin.hget(NAMES.login(victim.session.sid).decode(), field)
    assert isinstance(theirs, bytes)
    value = theirs.rpartition(b" mac")[0].replace(b"bob", b"alice")
    purpose = Purpose(field.removesuffix(":0"))
    server.admin.hset(key.decode(), field, hostile(purpose, key, value)[wrong])
    listed = await store.sessions_of("alice")
    if field == "client":
        assert [(info.sid, info.user_agent) for info in listed] == [(grant.session.sid, "")]
        return
    assert listed == []
    assert await store.token_of(grant.session.sid) is None
    assert not await store.revoke_session(grant.session.sid)
    assert await store.get(victim.session.id) == victim.session
    assert bad_macs(store) == 3


async def test_a_login_in_another_users_list(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """The list carries no MAC, so the login itself says whose it is."""
    grant = new_login(clock.now, "bob")
    await store.write(grant)
    server.admin.zadd(NAMES.user("alice"), {grant.session.sid: clock.now + 60})
    assert await store.sessions_of("alice") == []
    assert [info.sid for info in await store.sessions_of("bob")] == [grant.session.sid]


@pytest.mark.parametrize("seen", [b"nan", b"soon", b""])
async def test_a_time_without_a_mac(
    seen: bytes, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """When a login was last seen is only shown, and cannot hide the login."""
    grant = new_login(clock.now)
    await store.write(grant)
    server.admin.hset(NAMES.login(grant.session.sid).decode(), "seen", seen)
    (info,) = await store.sessions_of("alice")
    assert info.seen == info.created == grant.session.created


async def test_what_a_login_began_with_means_nothing(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """Only the presence of `login` counts; its value cannot make the login younger."""
    grant = new_login(clock.now)
    await store.write(grant)
    later = json.dumps({"sub": "admin", "created": clock.now + 1e6})
    server.admin.hset(NAMES.login(grant.session.sid).decode(), "login", later)
    (info,) = await store.sessions_of("alice")
    assert (info.sub, info.created) == ("alice", grant.session.created)
    assert await store.revoke_user("alice", clock.now + 1) == 1


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_invalid_revocation_refuses(
    wrong: str, store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """A revocation cannot be weakened: instead of what was written there, it refuses all."""
    revocable = RevocableToken("t", ("aa",), clock.now, clock.now + 900)
    await store.revocations.revoke({"aa": Revocation(EVERYTHING, clock.now + 900)})
    key = NAMES.revocation("aa")
    weak = encode_revocation(Revocation(0.0, clock.now + 900))
    server.admin.set(key, MAC.sign(Purpose.REVOCATION, key, weak))
    assert await store.revocations.get(revocable) == revocable.session
    server.admin.set(key, hostile(Purpose.REVOCATION, key, weak)[wrong])
    assert await store.revocations.get(revocable) is None
    assert bad_macs(store) == 1


async def test_an_invalid_revocation_is_not_believed_later(
    store: RedisStore, server: RedisServer, clock: Clock
) -> None:
    """Where a sidecar adds a revocation, the result still refuses everything."""
    key = NAMES.revocation("aa")
    server.admin.set(key, encode_revocation(Revocation(0.0, clock.now + 9e9)))
    await store.revocations.revoke({"aa": Revocation(clock.now, clock.now + 900)})
    revocable = RevocableToken("t", ("aa",), clock.now + 60, clock.now + 900)
    assert await store.revocations.get(revocable) is None
    assert bad_macs(store) == 2  # read twice while it was replaced, and valid from then on
    assert 0 < int(str(server.admin.pttl(key))) <= 900_000


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_value_that_claims_to_be_ours(
    wrong: str, server: RedisServer, clock: Clock
) -> None:
    """With `SESSION_KEY=token`, it must be ours; only what claims nothing is a foreign session."""
    session = replace(new_login(clock.now).session, sub="admin")
    key = NAMES.token(session.id)
    server.admin.set(key, hostile(Purpose.SESSION, key, encode_session(session))[wrong])
    async with aclosing_store(server, clock, MAC, session_key=SessionKey.TOKEN) as store:
        found = await store.get(session.id)
        if wrong == "cut":  # neither ours nor claiming to be: nothing of it is believed
            assert found is not None
            assert (found.sub, found.claims) == ("", {})
        else:
            assert found is None
            assert bad_macs(store) == 1


async def test_a_rotation_ends_nothing(server: RedisServer, clock: Clock) -> None:
    """A login that began before a rotation can be used, refreshed, listed and ended after it."""
    grant, unused = new_login(clock.now), new_login(clock.now, cookie=True)
    async with AsyncExitStack() as stack:
        before, during, after = [
            await stack.enter_async_context(aclosing_store(server, clock, mac_of(*secrets)))
            for secrets in ((OTHER_SECRET,), (REFRESH_SECRET, OTHER_SECRET), (REFRESH_SECRET,))
        ]
        for each in (grant, unused):
            await before.write(each)
            assert await during.get(each.session.id) == each.session
        assert await during.get_refresh(grant.refresh_id or "") == grant.refresh
        assert len(await during.sessions_of("alice")) == 2
        successor = replace(successor_of(grant, clock.now), address="192.0.2.2")
        assert await during.write(successor)
        assert await after.get(successor.session.id) == successor.session
        (info,) = await after.sessions_of("alice")
        assert (info.sid, info.address) == (grant.session.sid, "192.0.2.2")
        assert await after.token_of(grant.session.sid) == successor.session.id
        assert await after.write(successor_of(successor, clock.now))
        assert await after.get(unused.session.id) is None  # its secret was removed
        assert bad_macs(after) == 2
        assert await after.revoke_session(grant.session.sid)


async def test_one_line_a_minute(
    store: RedisStore, server: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """However many values are forged, the log has one line for each kind, and no value or key."""
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        found = [vars(each)["kind"] for each in caplog.records if "valid MAC" in each.message]
        assert "secret-value" not in caplog.text + str([vars(each) for each in caplog.records])
        caplog.clear()
        return found

    server.admin.set(NAMES.token("t"), "secret-value")
    server.admin.hset(NAMES.refresh("r").decode(), "record", "secret-value")
    for _ in range(5):
        await store.get("t")
    assert lines() == ["session"]
    await store.get_refresh("r")
    assert lines() == ["refresh"]
    clock.advance(59)
    await store.get("t")
    assert lines() == []
    clock.advance(2)
    await store.get("t")
    assert lines() == ["session"]
    clock.advance(-3600)
    await store.get("t")
    assert lines() == ["session"]


class Counting(ValueMac):
    """Counts verifications."""

    verified = 0

    def verify(self, purpose: Purpose, key: bytes, stored: bytes) -> bytes | None:
        """Verify, and count."""
        self.verified += 1
        return super().verify(purpose, key, stored)


@pytest.fixture
async def near(server: RedisServer) -> AsyncIterator[tuple[TieredStore, Counting]]:
    """A store with a coherent near cache, and its MAC."""
    mac = Counting([REFRESH_SECRET.encode()], "auth-sidecar", "auth-sidecar")
    config = RedisConfig(host="127.0.0.1", port=server.port, timeout=PATIENT)
    metrics = Metrics()
    remote = RedisStore(connect(config), metrics, mac, timeout=PATIENT)
    store = TieredStore(remote, Breaker(), metrics, connect=tracked(config))
    mac.set_removal_listener(store.near.clear)
    await store.start()
    await until(lambda: store.near.coherent, 10.0)
    yield store, mac
    await store.close()


async def test_a_near_hit_verifies_nothing(near: tuple[TieredStore, Counting]) -> None:
    """A session is verified when it is read from Redis, and not again while it is certain."""
    store, mac = near
    grant = new_login()
    grant = replace(grant, session=replace(grant.session, exp=9e9))
    assert await store.write(grant)
    written = mac.verified
    assert await store.get(grant.session.id) == grant.session
    assert mac.verified == written + 1
    for _ in range(100):
        assert store.peek(grant.session.id) == grant.session
        assert await store.get(grant.session.id) == grant.session
    assert mac.verified == written + 1


@pytest.mark.parametrize(
    ("secrets", "kept"),
    [
        pytest.param([OTHER_SECRET, REFRESH_SECRET], True, id="rotated"),
        pytest.param([OTHER_SECRET], False, id="removed"),
    ],
)
async def test_a_removed_secret_empties_the_near_cache(
    near: tuple[TieredStore, Counting], *, secrets: list[str], kept: bool
) -> None:
    """What is remembered on the strength of a secret does not outlast the secret."""
    store, mac = near
    changes: list[str | None] = []
    grant = new_login()
    grant = replace(grant, session=replace(grant.session, exp=9e9))
    await store.write(grant)
    assert await store.get(grant.session.id) == grant.session
    store.set_change_listener(changes.append)
    mac.replace_secrets([secret.encode() for secret in secrets])
    assert (store.peek(grant.session.id) is not None) is kept
    assert (store.last_known(grant.session.id) is not None) is kept
    assert changes[-1:] == ([] if kept else [None])
    assert (await store.get(grant.session.id) is not None) is kept
    assert store.near.coherent
