"""Revocations among pods on a real Redis, also in outages and when Redis is emptied."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.denylist import RevocableToken, RevocationKind, revocation_name
from sidecar.auth.revocation import EVERYTHING, Revocation, decode_revocation
from sidecar.auth.value_mac import Purpose
from sidecar.errors import StoreUnavailable
from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.revocation.denylist import OwnTokens
from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.sessions.revocation.journal import Journal
from sidecar.sessions.revocation.journal_file import JournalFile
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer
from tests.peers.signed import MAC, NAMES, unsigned
from tests.sessions.test_denylist import new_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

PATIENT: Final = 2.0
SOON: Final = 15.0  # seconds, at most, on a busy machine
LIFE: Final = 900.0


class Pod:
    """A tiered store that tracks its Redis, on the machine's clock."""

    def __init__(
        self, port: int, journal: Journal | None = None, *, max_sessions: int = 100_000
    ) -> None:
        config = RedisConfig(host="127.0.0.1", port=port, timeout=PATIENT)
        self.metrics = Metrics()
        own = OwnTokens("us", LIFE)
        remote = RedisStore(connect(config), self.metrics, MAC, timeout=PATIENT, own=own)
        self.store = TieredStore(
            remote,
            Breaker(interval=0.05, longest=0.2),
            self.metrics,
            connect=tracked(config),
            journal=journal,
            max_sessions=max_sessions,
            own=own,
        )

    async def coherent(self) -> None:
        """Wait until the near cache is coherent."""
        await until(lambda: self.store.near.coherent, SOON)

    async def counts(self, revocable: RevocableToken) -> bool:
        """Whether a token counts, by a look-up like a request's."""
        revocations = self.store.revocations
        try:
            return (revocations.peek(revocable) or await revocations.get(revocable)) is not None
        except StoreUnavailable:
            return not revocations.is_revoked(revocable)

    async def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether a token does not count, for `until`."""
        return not await self.counts(revocable)

    async def revoke(self, *names: str) -> None:
        """Revoke every token with one of these names."""
        revocation = Revocation(EVERYTHING, time.time() + LIFE)
        await self.store.revocations.revoke(dict.fromkeys(names, revocation))


@asynccontextmanager
async def coherent_pair(
    server: RedisServer, max_sessions: int = 100_000
) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two pods that track this server."""
    made = tuple(Pod(server.port, max_sessions=max_sessions) for _ in range(2))
    for pod in made:
        await pod.store.start()
        await pod.coherent()
    yield made[0], made[1]
    for pod in made:
        await pod.store.close()


@pytest.fixture
async def pods(server: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two coherent pods."""
    async with coherent_pair(server) as made:
        yield made


@pytest.fixture
async def small_pods(server: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two coherent pods, which keep one token each that was used once."""
    async with coherent_pair(server, 32) as made:
        yield made


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    """A server for this test alone, which it may kill. Its data do not survive that."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def mortals(mortal: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two coherent pods on the server that may be killed."""
    async with coherent_pair(mortal) as made:
        yield made


def token(*more: str) -> RevocableToken:
    """A token issued now."""
    now = time.time()
    return new_token(*more, issued=now, exp=now + LIFE)


def keys(server: RedisServer) -> Mapping[str, float]:
    """The revocations in Redis, and their time to live."""
    named = ((NAMES.revocation_in(key.encode()), life) for key, life in server.lives().items())
    return {name: life for name, life in named if name is not None}


async def test_an_unrevoked_token_costs_redis_one_command(
    pods: tuple[Pod, Pod], server: RedisServer
) -> None:
    """All its names are read once, in one command; then the near cache answers."""
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
async def test_a_revocation_elsewhere(pods: tuple[Pod, Pod], by: int) -> None:
    """It is reported although its key did not exist before. No other token is affected."""
    here, there = pods
    mine, other = token("login", "user"), token("another", "somebody")
    assert await here.counts(mine)
    assert await here.counts(other)
    await there.revoke(mine.names[by])
    await until(lambda: here.store.revocations.peek(mine) is None)
    assert not await here.counts(mine)
    assert here.store.revocations.peek(other) is not None
    # It is also known for an outage, without another look-up.
    await until(lambda: here.store.revocations.is_revoked(mine))


@pytest.mark.parametrize("by", [0, 1, 2], ids=["token", "login", "user"])
async def test_a_revocation_of_a_token_that_is_no_longer_kept(
    small_pods: tuple[Pod, Pod], by: int
) -> None:
    """The pod learns of it like of any other, because an outage could hide it afterwards."""
    here, there = small_pods
    mine = token("login", "user")
    assert await here.counts(mine)
    # So many that the index of revocations forgets the token as well.
    assert all(await asyncio.gather(*(here.counts(token("other")) for _ in range(2_500))))
    assert here.store.last_known(mine.session.id) is None
    looked_up = here.metrics.lookups["redis", "hit"]
    await there.revoke(mine.names[by])
    await until(lambda: here.store.revocations.is_revoked(mine), SOON)
    assert here.metrics.lookups["redis", "hit"] <= looked_up + 1
    assert len(here.store.near) <= 1


async def test_a_user_who_logs_in_again(pods: tuple[Pod, Pod]) -> None:
    """Tokens issued before the revocation's time are revoked, later ones are not."""
    here, there = pods
    old = token("user")
    assert await here.counts(old)
    before = old.issued + 0.5
    await there.store.revocations.revoke({"user": Revocation(before, before + LIFE)})
    await until(lambda: here.is_revoked(old))
    new = new_token("user", issued=before, exp=before + LIFE)
    assert await here.counts(new)
    assert here.store.revocations.peek(new) is not None
    assert not await here.counts(old)


async def test_keys_expire(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """A key expires with its revocation, and does not show whom it is about."""
    name = revocation_name(RevocationKind.USER, "https://id.example", "alice")
    await pods[0].revoke(name)
    ((found, life),) = keys(server).items()
    assert found == name
    assert LIFE - 60 < life <= LIFE
    assert b"alice" not in server.value(NAMES.revocation(name).decode())


async def test_an_unreadable_value(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """It revokes, and is counted. A later revocation replaces it."""
    mine = token()
    server.admin.set(NAMES.revocation(mine.names[0]), "rubbish")
    assert not await pods[0].counts(mine)
    assert pods[0].metrics.lookups["redis", "bad_mac"] == 1
    await pods[0].revoke(mine.names[0])
    assert server.value(NAMES.revocation(mine.names[0]).decode()).startswith(b"{")


async def test_an_emptied_redis(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """Every pod writes back what it knows, even revocations that another pod made."""
    here, there = pods
    mine, other = token("login"), token()
    await there.revoke("login")
    assert not await here.counts(mine)
    await there.store.close()
    server.admin.flushall()
    await until(lambda: "login" in keys(server), SOON)
    assert not await here.counts(mine)
    assert await here.counts(other)


async def test_redis_comes_back_empty(mortals: tuple[Pod, Pod], mortal: RedisServer) -> None:
    """Revoked tokens stay revoked at every pod; others count."""
    here, there = mortals
    mine, other = token("login", "user"), token("user")
    await there.revoke("login")
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


async def test_a_revocation_in_an_outage(mortals: tuple[Pod, Pod], mortal: RedisServer) -> None:
    """It holds here at once, and at every pod before this pod trusts Redis again."""
    here, there = mortals
    mine = token("login")
    assert await here.counts(mine)
    assert await there.counts(mine)
    mortal.kill()
    await here.revoke("login")
    assert not await here.counts(mine)
    mortal.start()
    await until(lambda: not here.store.degraded and "login" in keys(mortal), SOON)
    await until(lambda: there.is_revoked(mine), SOON)
    assert not await here.counts(mine)


async def test_a_revocation_in_an_outage_survives_a_restart(
    mortal: RedisServer, tmp_path: Path
) -> None:
    """With a journal file, a new process knows it and writes it to Redis."""
    mine = token("login")
    mortal.kill()
    pod = Pod(mortal.port, Journal(JournalFile(tmp_path)))
    await pod.store.start()
    await pod.revoke("login")
    await pod.store.close()
    mortal.start()
    again = Pod(mortal.port, Journal(JournalFile(tmp_path)))
    await again.store.start()
    assert not await again.counts(mine)
    assert "login" in keys(mortal)
    await again.store.close()


async def test_logouts_of_own_tokens(pods: tuple[Pod, Pod], server: RedisServer) -> None:
    """If this issuer's tokens need no session, a logout revokes them at every pod."""
    here, there = pods
    sid, user = (
        revocation_name(RevocationKind.SID, "us", "s1"),
        revocation_name(RevocationKind.USER, "us", "alice"),
    )
    one, two = token(sid), new_token(user, issued=time.time() - 60, exp=time.time() + LIFE)
    assert await here.counts(one)
    assert await here.counts(two)
    await there.store.revoke_session("s1")
    await there.store.revoke_user("alice")
    await until(lambda: here.is_revoked(one))
    await until(lambda: here.is_revoked(two))
    assert set(keys(server)) == {sid, user}


async def test_logouts_in_a_journal(mortal: RedisServer) -> None:
    """Logouts that an earlier process made without Redis are revoked here and in Redis."""
    now = time.time()
    journal = Journal()
    await journal.add(Entry(EntryKind.SESSION, "s1", now, now + LIFE))
    await journal.add(Entry(EntryKind.USER, "alice", now, now + LIFE))
    pod = Pod(mortal.port, journal)
    await pod.store.start()
    sid, user = (
        revocation_name(RevocationKind.SID, "us", "s1"),
        revocation_name(RevocationKind.USER, "us", "alice"),
    )
    assert set(keys(mortal)) == {sid, user}
    for name in (sid, user):
        old = new_token(name, issued=now - 60, exp=now + LIFE)
        assert pod.store.revocations.is_revoked(old)
    await pod.store.close()


async def test_the_strongest_of_many_writers(server: RedisServer) -> None:
    """Whatever the order of writes, the strongest revocation and the longest life remain."""
    stores = [
        RedisStore(connect(RedisConfig(port=server.port)), Metrics(), MAC, timeout=PATIENT)
        for _ in range(4)
    ]
    now = time.time()
    offsets = list(range(40))
    random.Random(7).shuffle(offsets)
    await asyncio.gather(
        *(
            stores[number % 4].revocations.revoke(
                {"user": Revocation(now + offset, now + LIFE + offset)}
            )
            for number, offset in enumerate(offsets)
        )
    )
    for store in stores:
        await store.close()
    key = NAMES.revocation("user")
    found = decode_revocation(unsigned(Purpose.REVOCATION, key, server.value(key.decode())))
    assert found == Revocation(now + 39, now + LIFE + 39)
    assert keys(server)["user"] > LIFE
