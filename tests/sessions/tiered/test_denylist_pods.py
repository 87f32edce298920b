"""Denials among pods on a real Redis: told of at once, kept over outages and an emptied Redis."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.denylist import (
    EVERYTHING,
    RevocableToken,
    Revocation,
    RevocationKind,
    decode_revocation,
    revocation_name,
)
from sidecar.errors import StoreUnavailable
from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.keyspace import DENIED
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.revocation.denylist import OwnTokens
from sidecar.sessions.revocation.journal import Entry, Journal, Kind
from sidecar.sessions.revocation.journal_file import JournalFile
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer
from tests.sessions.test_denylist import new_claim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

PATIENT: Final = 2.0
SOON: Final = 15.0  # seconds, at most, on a busy machine
LIFE: Final = 900.0


class Pod:
    """A tiered store that follows its Redis, on the machine's own clock."""

    def __init__(self, port: int, journal: Journal | None = None) -> None:
        config = RedisConfig(host="127.0.0.1", port=port, timeout=PATIENT)
        self.metrics = Metrics()
        own = OwnTokens("us", LIFE)
        remote = RedisStore(connect(config), self.metrics, timeout=PATIENT, own=own)
        self.store = TieredStore(
            remote,
            Breaker(interval=0.05, longest=0.2),
            self.metrics,
            connect=tracked(config),
            journal=journal,
            own=own,
        )

    async def coherent(self) -> None:
        """Wait until it is."""
        await until(lambda: self.store.near.coherent, SOON)

    async def counts(self, revocable: RevocableToken) -> bool:
        """Whether a token is let in, as requests find out."""
        revocations = self.store.revocations
        try:
            return (revocations.peek(revocable) or await revocations.get(revocable)) is not None
        except StoreUnavailable:
            return not revocations.is_revoked(revocable)

    async def is_denied(self, revocable: RevocableToken) -> bool:
        """The opposite, to be waited for."""
        return not await self.counts(revocable)

    async def deny(self, *names: str) -> None:
        """Deny all under these names."""
        revocation = Revocation(EVERYTHING, time.time() + LIFE)
        await self.store.revocations.revoke(dict.fromkeys(names, revocation))


@asynccontextmanager
async def coherent_pair(server: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two pods that follow this server."""
    made = Pod(server.port), Pod(server.port)
    for pod in made:
        await pod.store.start()
        await pod.coherent()
    yield made
    for pod in made:
        await pod.store.close()


@pytest.fixture
async def pods(server: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two that are coherent."""
    async with coherent_pair(server) as made:
        yield made


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    """A server of the test's own, to be killed; its data do not outlive that."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def mortals(mortal: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two pods on it."""
    async with coherent_pair(mortal) as made:
        yield made


def token(*more: str) -> RevocableToken:
    """A token issued now."""
    now = time.time()
    return new_claim(*more, issued=now, exp=now + LIFE)


def keys(server: RedisServer) -> Mapping[str, float]:
    """The denials in Redis, and how long they have to live."""
    mark = DENIED.decode()
    return {
        key.removeprefix(mark): life for key, life in server.lives().items() if key.startswith(mark)
    }


async def test_what_no_denial_names_costs_redis_nothing(
    pods: tuple[Pod, Pod], server: RedisServer
) -> None:
    """All its names are read once, in one command."""
    pod, mine = pods[0], token("login", "user")
    server.forget_calls()
    assert await pod.counts(mine)
    assert server.calls()["mget"] == 1
    for _ in range(100):
        assert pod.store.revocations.peek(mine) is mine.session
    assert server.calls()["mget"] == 1
    assert pod.metrics.lookups["redis", "hit"] == 1
    assert pod.metrics.lookups["near", "hit"] == 100


@pytest.mark.parametrize("by", [0, 1, 2], ids=["token", "login", "user"])
async def test_a_denial_elsewhere(pods: tuple[Pod, Pod], by: int) -> None:
    """It is told of, though its key was not there when it was read; and no other token suffers."""
    here, there = pods
    mine, other = token("login", "user"), token("another", "somebody")
    assert await here.counts(mine)
    assert await here.counts(other)
    await there.deny(mine.names[by])
    await until(lambda: here.store.revocations.peek(mine) is None)
    assert not await here.counts(mine)
    assert here.store.revocations.peek(other) is not None
    # It is also known for an outage, without having been asked for again.
    await until(lambda: here.store.revocations.is_revoked(mine))


async def test_a_user_who_comes_again(pods: tuple[Pod, Pod]) -> None:
    """What was issued before that moment is denied, what is issued later is not."""
    here, there = pods
    old = token("user")
    assert await here.counts(old)
    moment = old.issued + 0.5
    await there.store.revocations.revoke({"user": Revocation(moment, moment + LIFE)})
    await until(lambda: here.is_denied(old))
    new = new_claim("user", issued=moment, exp=moment + LIFE)
    assert await here.counts(new)
    assert here.store.revocations.peek(new) is not None
    assert not await here.counts(old)


async def test_keys_end_by_themselves(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """When what they deny has ended; and say nothing of whom they are about."""
    name = revocation_name(RevocationKind.USER, "https://id.example", "alice")
    await pods[0].deny(name)
    ((found, life),) = keys(server).items()
    assert found == name
    assert LIFE - 60 < life <= LIFE
    assert b"alice" not in server.value(DENIED.decode() + name)


async def test_a_value_that_cannot_be_read(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """Denies, and is counted; a denial of ours takes its place."""
    mine = token()
    server.admin.set(DENIED + mine.names[0].encode(), "rubbish")
    assert not await pods[0].counts(mine)
    assert pods[0].metrics.lookups["redis", "unreadable"] == 1
    await pods[0].deny(mine.names[0])
    assert server.value(DENIED.decode() + mine.names[0]).startswith(b"{")


async def test_an_emptied_redis(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """Gets back all that anybody knows, also who only heard of it."""
    here, there = pods
    mine, other = token("login"), token()
    await there.deny("login")
    assert not await here.counts(mine)
    await there.store.close()
    server.admin.flushall()
    await until(lambda: "login" in keys(server), SOON)
    assert not await here.counts(mine)
    assert await here.counts(other)


async def test_redis_comes_back_empty(mortals: tuple[Pod, Pod], mortal: RedisServer) -> None:
    """What was denied before stays so at every pod; what nobody denied counts."""
    here, there = mortals
    mine, other = token("login", "user"), token("user")
    await there.deny("login")
    assert not await here.counts(mine)
    mortal.restart()
    await until(lambda: "login" in keys(mortal), SOON)
    for pod in mortals:
        await pod.coherent()
        assert not await pod.counts(mine)
        assert await pod.counts(other)
    late = Pod(mortal.port)
    await late.store.start()
    assert not await late.counts(mine)
    await late.store.close()


async def test_a_denial_of_an_outage(mortals: tuple[Pod, Pod], mortal: RedisServer) -> None:
    """Holds here at once, and everywhere before a recovered Redis is believed here."""
    here, there = mortals
    mine = token("login")
    assert await here.counts(mine)
    assert await there.counts(mine)
    mortal.kill()
    await here.deny("login")
    assert not await here.counts(mine)
    mortal.start()
    await until(lambda: not here.store.degraded and "login" in keys(mortal), SOON)
    await until(lambda: there.is_denied(mine), SOON)
    assert not await here.counts(mine)


async def test_a_denial_of_an_outage_outlives_the_pod(mortal: RedisServer, tmp_path: Path) -> None:
    """With a folder for it."""
    mine = token("login")
    mortal.kill()
    pod = Pod(mortal.port, Journal(JournalFile(tmp_path)))
    await pod.store.start()
    await pod.deny("login")
    await pod.store.close()
    mortal.start()
    again = Pod(mortal.port, Journal(JournalFile(tmp_path)))
    await again.store.start()
    assert not await again.counts(mine)
    assert "login" in keys(mortal)
    await again.store.close()


async def test_our_own_logins(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """Where our tokens need no session, ending a login denies them at every pod."""
    here, there = pods
    sid, user = (
        revocation_name(RevocationKind.SID, "us", "s1"),
        revocation_name(RevocationKind.USER, "us", "alice"),
    )
    one, two = token(sid), new_claim(user, issued=time.time() - 60, exp=time.time() + LIFE)
    assert await here.counts(one)
    assert await here.counts(two)
    await there.store.revoke_session("s1")
    await there.store.revoke_user("alice")
    await until(lambda: here.is_denied(one))
    await until(lambda: here.is_denied(two))
    assert set(keys(server)) == {sid, user}


async def test_our_own_logins_of_a_journal(mortal: RedisServer) -> None:
    """What was ended without Redis by a pod before is denied here, and there."""
    now = time.time()
    journal = Journal()
    await journal.add(Entry(Kind.SESSION, "s1", now, now + LIFE))
    await journal.add(Entry(Kind.USER, "alice", now, now + LIFE))
    pod = Pod(mortal.port, journal)
    await pod.store.start()
    sid, user = (
        revocation_name(RevocationKind.SID, "us", "s1"),
        revocation_name(RevocationKind.USER, "us", "alice"),
    )
    assert set(keys(mortal)) == {sid, user}
    for name in (sid, user):
        old = new_claim(name, issued=now - 60, exp=now + LIFE)
        assert pod.store.revocations.is_revoked(old)
    await pod.store.close()


async def test_the_strongest_of_many_writers(server: RedisServer) -> None:
    """Whatever order they come in, nothing is taken back; it lives as long as the longest."""
    stores = [
        RedisStore(connect(RedisConfig(port=server.port)), Metrics(), timeout=PATIENT)
        for _ in range(4)
    ]
    now = time.time()
    moments = list(range(40))
    random.Random(7).shuffle(moments)
    await asyncio.gather(
        *(
            stores[number % 4].revocations.revoke(
                {"user": Revocation(now + moment, now + LIFE + moment)}
            )
            for number, moment in enumerate(moments)
        )
    )
    for store in stores:
        await store.close()
    found = decode_revocation(server.value(DENIED.decode() + "user"))
    assert found == Revocation(now + 39, now + LIFE + 39)
    assert keys(server)["user"] > LIFE
