"""The keys in Redis, their lives, and the order in which they are written and deleted.

No step needs two keys at once, so a cluster will do; a crash between two steps means one more
login, never a live session that no logout can find. All of it may run twice. Knows no connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from sidecar.auth.session import encode_refresh, encode_session
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.faults import Fault, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.session import Grant, SessionInfo

T = TypeVar("T")

TOKEN: Final = b"session:token:"
REFRESH: Final = b"session:refresh:"
LOGIN: Final = b"session:sid:"
USER: Final = b"session:user:"
DENIED: Final = b"session:denied:"

# The fields of a refresh token's hash. HSETNX on the second is the claim.
RECORD: Final = "record"
USED: Final = "used"

# Of one user's logins: in one listing, and in one step of a logout of all.
LISTED: Final = 500


class Keyspace:
    """Work on a client's keys. No key outlives `max_ttl` seconds."""

    __slots__ = ("_clock", "_max_ttl")

    def __init__(self, clock: Callable[[], float], max_ttl: float) -> None:
        self._clock = clock
        self._max_ttl = max_ttl

    def __repr__(self) -> str:
        return f"<Keyspace of keys that live {self._max_ttl:.0f} s at most>"

    async def tokens(self, token_ids: Sequence[str], redis: Redis) -> list[bytes | None]:
        """The values under these token ids. One of another type is as good as none."""
        answers: list[Any] = await redis.mget([TOKEN + octets(one) for one in token_ids])
        return answers

    async def write(self, grant: Grant, redis: Redis) -> bool:
        """Write a grant. False, and nothing of it left, if the login it continues was ended."""
        session = grant.session
        login, user = LOGIN + octets(session.sid), USER + octets(session.sub)
        refresh = REFRESH + octets(grant.refresh_id or "")
        try:
            live = await self._put(grant, login, user, refresh, redis)
        except ResponseError as error:
            if classify(error) is not Fault.WRONG_TYPE:
                raise
            await _clear({login: b"hash", user: b"zset", refresh: b"hash"}, redis)
            live = await self._put(grant, login, user, refresh, redis)
        if not live:
            async with redis.pipeline(transaction=False) as pipe:
                for key in (TOKEN + octets(session.id), refresh, login):
                    pipe.delete(key)
                pipe.zrem(user, session.sid)
                checked(await pipe.execute(raise_on_error=False))
        return live

    async def _put(
        self, grant: Grant, login: bytes, user: bytes, refresh: bytes, redis: Redis
    ) -> bool:
        """Write all of a grant; whether its login was live when the login's hash had been written.

        The credentials come before the hash that names them: a logout that takes `created` away
        after this has looked finds them there; one that took it before is seen here.
        """
        session, now = grant.session, self._clock()
        until = min((grant.refresh or session).exp, now + self._max_ttl)
        fields: dict[Any, Any] = {**login_hash.fields_of(grant, now, until)}
        value = encode_session(session)
        async with redis.pipeline(transaction=False) as pipe:
            pipe.set(TOKEN + octets(session.id), value, px=self._life(session.exp))
            if grant.refresh is not None and grant.refresh_id is not None:
                record = encode_refresh(grant.refresh, grant.refresh_id)
                pipe.hset(refresh, RECORD, record)
                pipe.pexpire(refresh, self._life(until))
            checked(await _before_what_follows(pipe, redis))
            pipe.hset(login, mapping=fields)
            pipe.pexpire(login, self._life(until))
            pipe.zremrangebyscore(user, "-inf", now)
            pipe.zadd(user, {session.sid: until})
            # No shorter than its longest member, whenever that one began.
            pipe.pexpire(user, self._life(now + self._max_ttl))
            if grant.replaces is not None:
                pipe.delete(TOKEN + octets(grant.replaces))
            pipe.hexists(login, login_hash.CREATED)
            return bool(checked(await pipe.execute(raise_on_error=False))[-1])

    async def refresh(self, refresh_id: str, redis: Redis) -> tuple[bytes | None, bytes | None]:
        """A refresh token's record and its used record."""
        fields: list[Any] = await redis.hmget(REFRESH + octets(refresh_id), [RECORD, USED])
        return fields[0], fields[1]

    async def claim(
        self, refresh_id: str, value: bytes, exp: float, redis: Redis
    ) -> tuple[bytes | None, bytes | None]:
        """Set the used record if there is none; the record, and the used record that now stands."""
        key = REFRESH + octets(refresh_id)
        async with redis.pipeline(transaction=True) as pipe:  # of one key
            pipe.hsetnx(key, USED, value)
            pipe.hmget(key, [RECORD, USED])
            pipe.pexpire(key, self._life(exp))  # this may have made the key
            record, used = checked(await pipe.execute(raise_on_error=False))[1]
        if record is None:
            await redis.delete(key)
        return record, used

    async def end(
        self, sids: Sequence[bytes], user: bytes | None, redis: Redis
    ) -> list[dict[str, bytes]]:
        """End these logins; the fields that their hashes had. A second call ends what one left."""
        async with redis.pipeline(transaction=False) as pipe:
            for sid in sids:
                # From here on no refresh continues it, and its hash still names all it has.
                pipe.hdel(LOGIN + sid, login_hash.CREATED)
                pipe.hgetall(LOGIN + sid)
            answers = await pipe.execute(raise_on_error=False)
            logins = [_fields(answer) for answer in answers[1::2]]
            for sid, fields in zip(sids, logins, strict=True):
                if refresh := fields.get(login_hash.REFRESH):
                    pipe.delete(REFRESH + refresh)
                if token := fields.get(login_hash.TOKEN):
                    pipe.delete(TOKEN + token)
                if sub := fields.get(login_hash.SUB):
                    pipe.zrem(USER + sub, sid)
                if user is not None:  # also when the hash says nothing
                    pipe.zrem(user, sid)
            answers = await _before_what_follows(pipe, redis)
            for sid in sids:
                pipe.delete(LOGIN + sid)
            for answer in answers + await pipe.execute(raise_on_error=False):
                is_of_another_kind(answer)  # raises any other error
        return logins

    async def token_of(self, sid: bytes, redis: Redis) -> bytes | None:
        """The id of the token that a login has now; None when it has ended."""
        fields = [login_hash.CREATED, login_hash.TOKEN]
        found: list[Any] = await redis.hmget(LOGIN + sid, fields)
        return None if found[0] is None else found[1]

    async def drop_token(self, token_id: str, redis: Redis) -> None:
        """Delete the value under a token id."""
        await redis.delete(TOKEN + octets(token_id))

    async def some_of(self, user: bytes, before: float | None, redis: Redis) -> list[bytes]:
        """Some sids of a user, as long as there are any; if so asked, of logins begun `before`."""
        if before is None:
            sids: list[Any] = await redis.zrange(user, 0, LISTED - 1)
            return sids
        everything: list[Any] = await redis.zrange(user, 0, -1)
        old: list[bytes] = []
        for start in range(0, len(everything), LISTED):
            some = everything[start : start + LISTED]
            async with redis.pipeline(transaction=False) as pipe:
                for sid in some:
                    pipe.hget(LOGIN + sid, login_hash.CREATED)
                answers = await pipe.execute(raise_on_error=False)
            old += [
                sid
                for sid, answer in zip(some, answers, strict=True)
                if is_of_another_kind(answer) or login_hash.began_before(answer, before)
            ]
            if len(old) >= LISTED:
                break
        return old[:LISTED]

    async def listing(self, user: bytes, redis: Redis) -> list[SessionInfo]:
        """A user's live logins, newest first; of very many those that live longest."""
        now = self._clock()
        sids: list[Any] = await redis.zrevrangebyscore(user, "+inf", now, start=0, num=LISTED)
        async with redis.pipeline(transaction=False) as pipe:
            for sid in sids:
                pipe.hgetall(LOGIN + sid)
            answers = await pipe.execute(raise_on_error=False)
        infos = [
            login_hash.info_of(login_hash.text_of(sid), _fields(answer))
            for sid, answer in zip(sids, answers, strict=True)
        ]
        return sorted(filter(None, infos), key=lambda info: info.created, reverse=True)

    async def seen(self, sids: Sequence[str], now: float, redis: Redis) -> None:
        """Write when these logins were seen last."""
        keys = [LOGIN + octets(sid) for sid in sids]
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hset(key, login_hash.SEEN, repr(now))
            made = checked(await pipe.execute(raise_on_error=False))
            for key, new in zip(keys, made, strict=True):
                if new:  # the login ended meanwhile, and a sid never comes again
                    pipe.delete(key)
            await pipe.execute()

    def _life(self, until: float) -> int:
        """Milliseconds that a key ending then has to live. Relative: pods' clocks differ."""
        return max(1, int(min(until - self._clock(), self._max_ttl) * 1000))


def octets(text: str) -> bytes:
    """A part of a key. Never fails: a token id may be text that a client made up."""
    return text.encode("utf-8", "surrogatepass")


def checked(answers: list[T]) -> list[T]:
    """A pipeline's answers; the first error among them is raised as it came.

    The library would write the command into it, key and value too. A cluster's pipeline also gives
    faults of connections as answers.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def is_of_another_kind(answer: object) -> bool:
    """Whether what stands at a key was found to be no hash. Raises any other error."""
    if not isinstance(answer, Exception):
        return False
    if classify(answer) is not Fault.WRONG_TYPE:
        raise answer
    return True


async def _before_what_follows(pipe: Any, redis: Redis) -> list[Any]:
    """Have all of the pipeline done before the rest; a single server keeps the order anyhow."""
    if not isinstance(redis, RedisCluster):
        return []
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers


async def _clear(kinds: Mapping[bytes, bytes], redis: Redis) -> None:
    """Delete what stands at keys of ours but is of another kind."""
    async with redis.pipeline(transaction=False) as pipe:
        for key in kinds:
            pipe.type(key)
        found = await pipe.execute()
        for (key, kind), actual in zip(kinds.items(), found, strict=True):
            if actual not in (kind, b"none"):
                pipe.delete(key)
        await pipe.execute()


def _fields(answer: object) -> dict[str, bytes]:
    """A hash's fields; what stands at the key but is no hash has none."""
    if is_of_another_kind(answer) or not isinstance(answer, dict):
        return {}
    return {login_hash.text_of(name): value for name, value in answer.items()}
