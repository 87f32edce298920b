"""Denylist mode: foreign tokens are valid unless revoked; two sidecars and a real Redis."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from msgspec import structs

from sidecar.app.sidecar import Sidecar
from sidecar.settings.model import IssuerSettings
from tests.auth import forge
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, configure, loop_faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

HERE: Final = "https://id.example"
THERE: Final = "https://id.other.example"
SOON: Final = 15.0  # seconds: an upper limit on a busy machine
ALGORITHMS: Final = {HERE: "ES256", THERE: "EdDSA"}
# The order of the group of P-256 (FIPS 186-5).
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DENIED: Final = 'sidecar_decisions_total{decision="deny",reason="revoked"}'
_NUMBERS: Final = itertools.count(1)


class Cluster:
    """Sidecars that trust two foreign issuers and share one Redis."""

    def __init__(self, folder: Path, redis: RedisServer, upstream: ScriptedUpstream) -> None:
        self.redis = redis
        self.upstream = upstream
        self._folder = folder
        for issuer, algorithm in ALGORITHMS.items():
            self._key_file(issuer).write_bytes(forge.public_pem(forge.private_key(algorithm)))

    def _key_file(self, issuer: str) -> Path:
        return self._folder / f"{ALGORITHMS[issuer]}.pem"

    @contextlib.asynccontextmanager
    async def pod(self, **changed: Any) -> AsyncIterator[Stack]:
        """Run one sidecar."""
        settings = configure(
            self._folder,
            self.upstream.url,
            session_store="redis",
            redis_host="127.0.0.1",
            redis_port=self.redis.port,
            redis_timeout=1.0,
            **changed,
        )
        issuers = tuple(
            IssuerSettings(
                issuer=issuer,
                audience="*",
                key_file=str(self._key_file(issuer)),
                session_mode="denylist",
            )
            for issuer in ALGORITHMS
        )
        sidecar = Sidecar(structs.replace(settings, issuer=issuers))
        with loop_faults() as faults:
            await sidecar.start()
            try:
                yield Stack(sidecar, settings)
            finally:
                await sidecar.stop()
        assert faults == []

    async def lose_redis(self, *pods: Stack) -> None:
        """Kill Redis and wait until each sidecar has noticed."""
        self.redis.kill()
        for pod in pods:
            await pod.login("alice")
        await until(lambda: all(pod.sidecar.degraded for pod in pods), SOON)

    async def find_redis(self, *pods: Stack) -> None:
        """Start Redis again and wait until each sidecar has noticed."""
        self.redis.start()
        await until(lambda: not any(pod.sidecar.degraded for pod in pods), SOON)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that loses its data when it is killed."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def cluster(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Cluster]:
    """Two issuers and an application, but no sidecar yet."""
    async with ScriptedUpstream() as upstream:
        yield Cluster(tmp_path, redis, upstream)


@pytest.fixture
async def pair(cluster: Cluster) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two sidecars of the cluster."""
    async with cluster.pod() as one, cluster.pod() as two:
        yield one, two


def token(issuer: str = HERE, **claims: Any) -> str:
    """Return a foreign token of a new login, issued one second ago."""
    now = int(time.time()) - 1
    number = next(_NUMBERS)
    own = {"iat": now, "nbf": now, "exp": now + 300, "jti": f"t{number}", "sid": f"s{number}"}
    return forge.token({**own, "iss": issuer, **claims}, alg=ALGORITHMS[issuer]).decode()


async def status(pod: Stack, shown: str) -> int:
    """Return the status of a request with this token."""
    return (await pod.get("/x", token=shown)).status


async def revoke(pod: Stack, shown: str, query: str = "") -> int:
    """Revoke the token by logging out with it."""
    return (await pod.ask(build("POST", f"/auth/logout{query}", token=shown, body=b""))).status


async def is_refused(pod: Stack, *shown: str) -> None:
    """Wait until all of these tokens are denied."""

    async def refused() -> bool:
        return {await status(pod, one) for one in shown} == {401}

    await until(refused, SOON)


@pytest.mark.parametrize(
    "lacking", [(), ("sid",), ("jti",), ("jti", "sid")], ids=["all", "no-sid", "no-jti", "neither"]
)
async def test_revoked_at_one_is_refused_at_the_other(
    pair: tuple[Stack, Stack], lacking: tuple[str, ...]
) -> None:
    """A revocation at one pod soon holds at the other, even for a token just used there."""
    one, two = pair
    gone: dict[str, Any] = dict.fromkeys(lacking, forge.GONE)
    mine, other = token(**gone), token(**{**gone, "scope": "other"})
    for pod in pair:
        assert [await status(pod, each) for each in (mine, other, mine)] == [200, 200, 200]
    assert await revoke(one, mine) == 204
    assert await status(one, mine) == 401
    await is_refused(two, mine)
    assert await two.metric(DENIED) > 0
    assert [await status(pod, other) for pod in pair] == [200, 200]


def with_other_signature(shown: str) -> str:
    """Return the same ES256 token with the other valid signature, (r, n - s) for (r, s)."""
    content, _, signature = shown.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    flipped = P256_ORDER - int.from_bytes(raw[32:], "big")
    other = raw[:32] + flipped.to_bytes(32, "big")
    return f"{content}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"


@pytest.mark.parametrize("lacking", [("jti",), ("jti", "sid")], ids=["sid", "no-name"])
async def test_another_signature_is_the_same_token(
    pair: tuple[Stack, Stack], lacking: tuple[str, ...]
) -> None:
    """A revoked token stays revoked under the second signature that ECDSA gives it."""
    one, two = pair
    gone: dict[str, Any] = dict.fromkeys(lacking, forge.GONE)
    mine = token(**gone)
    other = with_other_signature(mine)
    for pod in pair:
        assert [await status(pod, each) for each in (mine, other)] == [200, 200]
    assert await revoke(one, mine) == 204
    assert [await status(one, each) for each in (mine, other)] == [401, 401]
    await is_refused(two, mine)
    await is_refused(two, other)


async def test_what_is_known_costs_redis_nothing(
    pair: tuple[Stack, Stack], redis: RedisServer
) -> None:
    """After its first use a token is served from the near cache without asking Redis."""
    pod, mine = pair[0], token()

    async def coherent() -> bool:
        return await pod.metric("sidecar_near_cache_coherent") == 1

    await until(coherent, SOON)
    assert await status(pod, mine) == 200
    redis.forget_calls()
    for _ in range(20):
        assert await status(pod, mine) == 200
    assert redis.calls().get("mget", 0) == 0


async def test_a_login_is_revoked(pair: tuple[Stack, Stack]) -> None:
    """Revoking one token revokes its whole login, and no other login of the same user."""
    one, two = pair
    mine, sibling, other = token(sid="s"), token(sid="s"), token(sid="another")
    for each in (mine, sibling, other):
        assert await status(two, each) == 200
    assert await revoke(one, mine) == 204
    await is_refused(two, mine, sibling)
    assert await status(two, other) == 200


async def test_everything_of_a_user(pair: tuple[Stack, Stack]) -> None:
    """Revoking everything of a user affects tokens issued until then, and no later ones."""
    one, two = pair
    mine, other, bobs = token(), token(), token(sub="bob")
    for each in (mine, other, bobs):
        assert await status(two, each) == 200
    assert await revoke(one, mine, "?all=true") == 204
    await is_refused(two, mine, other)
    assert await status(two, bobs) == 200
    assert await status(two, token(iat=int(time.time()) + 1)) == 200
    assert await status(two, token(iat=forge.GONE)) == 401


async def test_a_clock_that_is_ahead(pair: tuple[Stack, Stack]) -> None:
    """A token from an issuer whose clock is ahead does not outlive a revocation of everything.

    How far ahead it is, the pod knows from the tokens that it has seen. The user's next token is
    as far ahead, and counts.
    """
    one, two = pair
    ahead = int(time.time()) + 4
    early, shown = token(iat=ahead), token()
    for each in (early, shown):
        assert [await status(pod, each) for pod in pair] == [200, 200]
    assert await revoke(one, shown, "?all=true") == 204
    assert await status(one, early) == 401
    await is_refused(two, early, shown)

    async def counts() -> bool:
        next_one = token(iat=int(time.time()) + 4)
        return [await status(pod, next_one) for pod in pair] == [200, 200]

    await until(counts, SOON)


async def test_issuers_do_not_meet(pair: tuple[Stack, Stack]) -> None:
    """Equal names at two issuers, or in a local login, are different identities."""
    one, two = pair
    own = await one.login("alice")
    sid = (await one.get("/auth/userinfo", token=own.access)).json()["sid"]
    mine, theirs = (token(issuer, jti="t", sid=sid, sub="alice") for issuer in (HERE, THERE))
    for query in ("?all=true", ""):
        for each in (theirs, own.access):
            assert await status(two, each) == 200
        assert await revoke(one, mine, query) == 204
        await is_refused(two, mine)
        mine = token(jti="t2", sid=sid, sub="alice", iat=int(time.time()) + 1)
    assert [await status(pod, each) for pod in pair for each in (theirs, own.access)] == [200] * 4
    expired = token(sid=sid, sub="alice", exp=int(time.time()) - 60)
    assert await revoke(one, expired) == 204
    assert await status(one, own.access) == 200


async def test_a_revoked_token_revokes_nothing_more(pair: tuple[Stack, Stack]) -> None:
    """A revoked token cannot revoke all tokens of its user."""
    one, _ = pair
    mine, other = token(), token()
    assert await revoke(one, mine) == 204
    assert await revoke(one, mine, "?all=true") == 401
    assert await status(one, other) == 200
    assert await revoke(one, mine) == 204  # revoking it again does no harm


# By mode, four tokens: seen here before the outage, not seen here, revoked before it, revoked
# during it.
TABLE: Final = {
    "local": (200, 200, 401, 401),
    "signature": (200, 200, 401, 401),
    "stale": (200, 503, 401, 401),
    "strict": (503, 503, 503, 503),
}


@pytest.mark.parametrize("mode", TABLE)
async def test_an_outage(cluster: Cluster, mode: str) -> None:
    """Each mode answers as in the table, and revocations hold although Redis lost its data."""
    async with cluster.pod(session_outage=mode) as pod, cluster.pod() as other:
        seen, unseen, before, now = tokens = [token() for _ in range(4)]
        assert await status(pod, seen) == 200
        assert await status(pod, now) == 200
        assert await revoke(pod, before) == 204
        await cluster.lose_redis(pod)
        assert await revoke(pod, now) == 204
        assert tuple([await status(pod, one) for one in tokens]) == TABLE[mode]
        await cluster.find_redis(pod)
        assert [await status(pod, one) for one in tokens] == [200, 200, 401, 401]
        await is_refused(other, before, now)
        assert await status(other, unseen) == 200


async def test_a_slow_redis_is_no_outage(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """A token revoked at another pod is not let in while Redis is only silent for a moment."""
    one, two = pair
    ended = token()
    assert await status(two, ended) == 200
    assert await revoke(two, ended) == 204
    redis.freeze()
    while not one.sidecar.degraded:
        assert await status(one, token()) == 503
    assert await status(one, ended) == 503
    redis.thaw()
    await until(lambda: not one.sidecar.degraded, SOON)
    assert await status(one, ended) == 401


async def test_redis_comes_back_empty(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """When Redis loses its data in a quick restart, known revocations are written again."""
    one, two = pair
    mine, other = token(), token()
    assert await status(two, mine) == 200
    assert await revoke(one, mine) == 204
    redis.restart()
    assert await status(one, mine) == 401
    await until(lambda: any(key.startswith("session:denied:") for key in redis.lives()), SOON)
    await is_refused(two, mine)
    assert [await status(pod, other) for pod in pair] == [200, 200]


async def test_redis_holds_no_names(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """Keys and values in Redis do not reveal whose token was revoked."""
    mine = token(jti="secret-jti", sid="secret-sid", sub="secret-sub")
    assert await revoke(pair[0], mine, "?all=true") == 204
    dump = json.dumps({key: redis.value(key).decode() for key in redis.lives()})
    assert dump.count("session:denied:") == 3
    assert "secret" not in dump
    assert all(life > 0 for life in redis.lives().values())


async def test_our_own_tokens(cluster: Cluster) -> None:
    """In denylist mode local tokens need no session, and a logout still ends them everywhere."""
    async with (
        cluster.pod(session_mode="denylist") as one,
        cluster.pod(session_mode="denylist") as two,
    ):
        mine, other, bobs = [await one.login(name) for name in ("alice", "alice", "admin")]
        for each in (mine, other, bobs):
            assert await status(two, each.access) == 200
        await two.logout(mine.access)
        await is_refused(one, mine.access)
        assert [await status(one, each.access) for each in (other, bobs)] == [200, 200]
        body = f'{{"refresh_token": "{mine.refresh}"}}'.encode()
        kind = "Content-Type: application/json"
        refresh = build("POST", "/auth/refresh", kind, body=body)
        assert (await one.ask(refresh)).status == 401
        assert await revoke(one, other.access, "?all=true") == 204
        await is_refused(two, other.access)
        again = await two.login("alice")
        for pod in (one, two):
            assert [await status(pod, each.access) for each in (again, bobs)] == [200, 200]
        body = f'{{"refresh_token": "{again.refresh}"}}'.encode()
        assert (await one.ask(build("POST", "/auth/logout", kind, body=body))).status == 204
        await is_refused(two, again.access)


async def test_a_namesake_has_no_logins_here(pair: tuple[Stack, Stack]) -> None:
    """A foreign issuer's user cannot see or end the sessions of a local user of that name."""
    running, _ = pair
    await running.login("alice")
    foreign = token(sub="alice")
    answer = await running.get("/auth/sessions", token=foreign)
    assert (answer.status, answer.json()) == (200, {"sessions": []})
    ours = (await running.login("alice")).access
    sids = [
        each["sid"] for each in (await running.get("/auth/sessions", token=ours)).json()["sessions"]
    ]
    assert len(sids) == 2
    for sid in sids:
        gone = await running.ask(build("DELETE", f"/auth/sessions/{sid}", token=foreign))
        assert gone.status == 404
    assert len((await running.get("/auth/sessions", token=ours)).json()["sessions"]) == 2
