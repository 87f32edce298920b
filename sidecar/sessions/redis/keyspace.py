"""The keys in Redis, their expiry, and the order in which they are written and deleted.

No step needs two keys at once, so it works on a cluster. A crash between two steps costs the user
one more login; it never leaves a live session that no logout can find. Every operation is safe to
repeat. Knows no connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from sidecar.auth.session import encode_refresh, encode_session
from sidecar.auth.value_mac import Purpose
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.faults import Fault, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.session import Grant, SessionInfo
    from sidecar.sessions.redis.key_names import KeyNames
    from sidecar.sessions.redis.login_hash import CurrentGrant
    from sidecar.sessions.redis.stored_values import StoredValues

T = TypeVar("T")

# The fields of a refresh token's hash. HSETNX on `used` is the claim.
RECORD: Final = "record"
USED: Final = "used"

_LOGIN_AND_CURRENT: Final = [login_hash.LOGIN, login_hash.CURRENT]

# How many of a user's logins one step of a logout of all sessions ends.
LISTED: Final = 100


class Keyspace:
    """Operations on keys through a client. No key outlives `max_ttl` seconds.

    `names` makes the keys, and `values` signs and verifies what is stored under them. `clock`
    returns seconds since the epoch.
    """

    __slots__ = ("_clock", "_max_ttl", "_values", "names")

    def __init__(
        self, names: KeyNames, values: StoredValues, clock: Callable[[], float], max_ttl: float
    ) -> None:
        self.names = names
        self._values = values
        self._clock = clock
        self._max_ttl = max_ttl

    def __repr__(self) -> str:
        return f"<Keyspace of keys that live {self._max_ttl:.0f} s at most>"

    async def read_tokens(self, token_ids: Sequence[str], redis: Redis) -> list[bytes | None]:
        """The values under these token ids. A key of another type counts as absent."""
        answers: list[Any] = await redis.mget(list(map(self.names.token, token_ids)))
        return answers

    async def write(self, grant: Grant, redis: Redis) -> bool:
        """Write a grant. If the login it continues was ended, delete it again and return False."""
        session, names = grant.session, self.names
        login, user = names.login(session.sid), names.user(session.sub)
        refresh = names.refresh(grant.refresh_id or "")
        try:
            live = await self._put(grant, login, user, refresh, redis)
        except ResponseError as error:
            if classify(error) is not Fault.WRONG_TYPE:
                raise
            await _clear({login: b"hash", user: b"zset", refresh: b"hash"}, redis)
            live = await self._put(grant, login, user, refresh, redis)
        if not live:
            async with redis.pipeline(transaction=False) as pipe:
                for key in (names.token(session.id), refresh, login):
                    pipe.delete(key)
                pipe.zrem(user, session.sid)
                checked(await pipe.execute(raise_on_error=False))
        return live

    async def _put(
        self, grant: Grant, login: bytes, user: bytes, refresh: bytes, redis: Redis
    ) -> bool:
        """Write all of a grant. True if its login was live after the login's hash was written.

        The credentials are written before the hash that names them. A logout deletes the hash's
        `login` field: if it does so after the check here, it finds the credentials in `current`;
        if it did so before, the check here notices.
        """
        session, now = grant.session, self._clock()
        sign, token = self._values.sign, self.names.token(session.id)
        until = min((grant.refresh or session).exp, now + self._max_ttl)
        fields: dict[Any, Any] = {**login_hash.fields_of(grant, login, now, until, sign)}
        value = sign(Purpose.SESSION, token, encode_session(session))
        async with redis.pipeline(transaction=False) as pipe:
            pipe.set(token, value, px=self._life(session.exp))
            if grant.refresh is not None and grant.refresh_id is not None:
                record = encode_refresh(grant.refresh, grant.refresh_id)
                pipe.hset(refresh, RECORD, sign(Purpose.REFRESH, refresh, record))
                pipe.pexpire(refresh, self._life(until))
            checked(await _flush_in_cluster(pipe, redis))
            pipe.hset(login, mapping=fields)
            pipe.pexpire(login, self._life(until))
            pipe.zremrangebyscore(user, "-inf", now)
            pipe.zadd(user, {session.sid: until})
            # It must live as long as its longest-lived member, which may have begun at any time.
            pipe.pexpire(user, self._life(now + self._max_ttl))
            if grant.replaces is not None:
                pipe.delete(self.names.token(grant.replaces))
            pipe.hexists(login, login_hash.LOGIN)
            return bool(checked(await pipe.execute(raise_on_error=False))[-1])

    async def read_refresh(
        self, refresh_id: str, redis: Redis
    ) -> tuple[bytes | None, bytes | None]:
        """A refresh token's record, and its used record with the claim's mark."""
        fields: list[Any] = await redis.hmget(self.names.refresh(refresh_id), [RECORD, USED])
        return fields[0], fields[1]

    async def claim(
        self, refresh_id: str, value: bytes, exp: float, redis: Redis
    ) -> tuple[bytes | None, bytes | None]:
        """Set the used record unless there is one. Returns the record and the used record now."""
        key = self.names.refresh(refresh_id)
        async with redis.pipeline(transaction=True) as pipe:  # one key, so a cluster accepts it
            pipe.hsetnx(key, USED, value)
            pipe.hmget(key, [RECORD, USED])
            pipe.pexpire(key, self._life(exp))  # HSETNX may have created the key
            record, used = checked(await pipe.execute(raise_on_error=False))[1]
        if record is None:
            await redis.delete(key)
        return record, used

    async def end(
        self, sids: Sequence[bytes], user: bytes | None, redis: Redis
    ) -> list[CurrentGrant | None]:
        """End these logins; safe to repeat. Returns what the last grant of each had issued.

        Only the keys that a signed value names are deleted with a login.
        """
        names = self.names
        keys = [names.login(sid) for sid in sids]
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                # From now on no refresh continues it, and its hash still names its credentials.
                pipe.hdel(key, login_hash.LOGIN)
                pipe.hmget(key, _LOGIN_AND_CURRENT)
            answers = await pipe.execute(raise_on_error=False)
            logins = [
                self._login_in(answer, key)[1]
                for key, answer in zip(keys, answers[1::2], strict=True)
            ]
            for sid, login in zip(sids, logins, strict=True):
                if login is not None:
                    if login.refresh:
                        pipe.delete(names.refresh(login.refresh))
                    pipe.delete(names.token(login.token))
                    pipe.zrem(names.user(login.sub), sid)
                if user is not None:  # even if the hash is empty
                    pipe.zrem(user, sid)
            answers = await _flush_in_cluster(pipe, redis)
            for key in keys:
                pipe.delete(key)
            for answer in answers + await pipe.execute(raise_on_error=False):
                is_of_another_kind(answer)  # raises any other error
        return logins

    async def token_of(self, sid: bytes, redis: Redis) -> str | None:
        """The current token id of a login, or None if it has ended."""
        key = self.names.login(sid)
        live, current = self._login_in(await redis.hmget(key, _LOGIN_AND_CURRENT), key)
        return current.token if live and current is not None else None

    async def drop_token(self, token_id: str, redis: Redis) -> None:
        """Delete the value under a token id."""
        await redis.delete(self.names.token(token_id))

    async def next_sids(self, user: bytes, before: float | None, redis: Redis) -> list[bytes]:
        """Up to LISTED of a user's sids; with `before`, only logins that began before that time."""
        if before is None:
            sids: list[Any] = await redis.zrange(user, 0, LISTED - 1)
            return sids
        everything: list[Any] = await redis.zrange(user, 0, -1)
        old: list[bytes] = []
        for start in range(0, len(everything), LISTED):
            batch = everything[start : start + LISTED]
            async with redis.pipeline(transaction=False) as pipe:
                for sid in batch:
                    pipe.hmget(self.names.login(sid), _LOGIN_AND_CURRENT)
                answers = await pipe.execute(raise_on_error=False)
            old += [
                sid
                for sid, answer in zip(batch, answers, strict=True)
                if self._began_before(before, answer, self.names.login(sid))
            ]
            if len(old) >= LISTED:
                break
        return old[:LISTED]

    async def read_logins(self, sids: Sequence[bytes], redis: Redis) -> list[SessionInfo]:
        """Those of these logins that are live and readable."""
        keys = [self.names.login(sid) for sid in sids]
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            answers = await pipe.execute(raise_on_error=False)
        infos = (
            login_hash.info_of(login_hash.text_of(sid), key, _fields(answer), self._values.verify)
            for sid, key, answer in zip(sids, keys, answers, strict=True)
        )
        return [info for info in infos if info is not None]

    async def write_seen(self, sids: Sequence[str], now: float, redis: Redis) -> None:
        """Record `now` as the time at which these logins were last seen."""
        keys = list(map(self.names.login, sids))
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hset(key, login_hash.SEEN, repr(now))
            created = checked(await pipe.execute(raise_on_error=False))
            for key, new in zip(keys, created, strict=True):
                if new:  # the login ended meanwhile; its sid is never reused
                    pipe.delete(key)
            await pipe.execute()

    def _began_before(self, before: float, answer: object, key: bytes) -> bool:
        """Whether a login began before a time. True if it has ended or cannot be read."""
        live, current = self._login_in(answer, key)
        return not live or current is None or current.created < before

    def _login_in(self, answer: object, key: bytes) -> tuple[bool, CurrentGrant | None]:
        """Whether a login is live, and what its last grant issued; `answer` is HMGET's."""
        if is_of_another_kind(answer) or not isinstance(answer, list):
            return False, None
        live, stored = answer
        return live is not None, login_hash.current_in(stored, key, self._values.verify)

    def _life(self, until: float) -> int:
        """The time to live in milliseconds. Relative, because the pods' clocks differ."""
        return max(1, int(min(until - self._clock(), self._max_ttl) * 1000))


def checked(answers: list[T]) -> list[T]:
    """A pipeline's answers. Raises the first error among them, unchanged.

    The library would add the command to its message, with key and value. A cluster's pipeline also
    returns connection errors as answers.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def is_of_another_kind(answer: object) -> bool:
    """Whether the answer says that the key holds another type. Raises any other error."""
    if not isinstance(answer, Exception):
        return False
    if classify(answer) is not Fault.WRONG_TYPE:
        raise answer
    return True


async def _flush_in_cluster(pipe: Any, redis: Redis) -> list[Any]:
    """In a cluster, execute the pipeline so far. A single server keeps the order anyway."""
    if not isinstance(redis, RedisCluster):
        return []
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers


async def _clear(kinds: Mapping[bytes, bytes], redis: Redis) -> None:
    """Delete those of these keys that hold another type than the given one."""
    async with redis.pipeline(transaction=False) as pipe:
        for key in kinds:
            pipe.type(key)
        found = await pipe.execute()
        for (key, expected), actual in zip(kinds.items(), found, strict=True):
            if actual not in (expected, b"none"):
                pipe.delete(key)
        await pipe.execute()


def _fields(answer: object) -> dict[str, bytes]:
    """A hash's fields. A key of another type has none."""
    if is_of_another_kind(answer) or not isinstance(answer, dict):
        return {}
    return {login_hash.text_of(name): value for name, value in answer.items()}
