"""The keys in Redis, their expiry, and the order in which they are written and deleted.

No step needs two keys at once, so it works on a cluster. A crash between two steps costs the user
one more login; it never leaves a live session that no logout can find. Every operation is safe to
repeat. Knows no connections.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from sidecar.auth.session import encode_refresh, encode_session
from sidecar.auth.value_mac import Purpose
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.answers import (
    checked,
    clear_other_kinds,
    fields_in,
    flush_in_cluster,
    is_of_another_kind,
)
from sidecar.sessions.redis.faults import Fault, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.session import Grant, SessionInfo
    from sidecar.sessions.redis.key_names import GrantKeys, KeyNames
    from sidecar.sessions.redis.login_hash import CurrentGrant
    from sidecar.sessions.redis.stored_values import StoredValues
    from sidecar.sessions.redis.tracked_reads import TrackedReads

# The fields of a refresh token's hash. HSETNX on `used` is the claim.
RECORD: Final = "record"
USED: Final = "used"
REPEATS: Final = "repeats"

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

    async def read_tokens(
        self, token_ids: Sequence[str], redis: Redis, reads: TrackedReads | None = None
    ) -> list[bytes | None]:
        """The values under these token ids. A key of another type counts as absent."""
        keys = list(map(self.names.token, token_ids))
        answers: list[Any] = await (redis.mget(keys) if reads is None else reads.mget(keys, redis))
        return answers

    async def write(self, grant: Grant, redis: Redis) -> tuple[bool, bool]:
        """Write a grant. Returns whether it took effect, and whether its refresh token is used.

        It takes no effect, and is deleted again, if the login was ended or has continued with
        another grant. The record of a used token now lives as long as that of a live one.
        """
        session, keys = grant.session, self.names.of_grant(grant)
        try:
            fields, used = await self._put(grant, keys, redis)
        except ResponseError as error:
            if classify(error) is not Fault.WRONG_TYPE:
                raise
            kinds = {keys.login: b"hash", keys.user: b"zset", keys.refresh: b"hash"}
            await clear_other_kinds(kinds, redis)
            fields, used = await self._put(grant, keys, redis)
        found = login_hash.grants_in(fields, keys.login, self._values.verify)
        if login_hash.LOGIN not in fields or not found:
            async with redis.pipeline(transaction=False) as pipe:
                for key in (keys.token, keys.refresh, keys.login):
                    pipe.delete(key)
                pipe.zrem(keys.user, session.sid)
                checked(await pipe.execute(raise_on_error=False))
            return False, False
        if found[1:]:
            await self._forget(found[1:], keys.login, redis)
        if found[0].token == session.id:
            return True, used
        async with redis.pipeline(transaction=False) as pipe:
            pipe.delete(keys.token)
            if not used:  # if it is, the login has continued with it
                pipe.delete(keys.refresh)
            pipe.pexpire(keys.login, self._life(found[0].exp))  # this grant may have changed it
            pipe.zadd(keys.user, {session.sid: found[0].exp})
            checked(await pipe.execute(raise_on_error=False))
        return False, used

    async def _forget(self, grants: Sequence[CurrentGrant], login: bytes, redis: Redis) -> None:
        """Delete what earlier grants of a login issued, and their fields."""
        async with redis.pipeline(transaction=False) as pipe:
            for token in chain.from_iterable(each.tokens for each in grants):
                pipe.delete(self.names.token(token))
            checked(await flush_in_cluster(pipe, redis))
            for each in grants:
                pipe.hdel(login, login_hash.current_field(each.generation))
            checked(await pipe.execute(raise_on_error=False))

    async def _put(
        self, grant: Grant, keys: GrantKeys, redis: Redis
    ) -> tuple[dict[str, bytes], bool]:
        """Write all of a grant. Returns the login's fields, and whether the token is used.

        The credentials are written before the hash that names them. A logout deletes the hash's
        `login` field: if it does so after the check of the fields here, it finds the credentials
        in `current:*`; if it did so before, the check here notices.
        """
        session, now, sign = grant.session, self._clock(), self._values.sign
        token, refresh, login, user = keys
        until = min((grant.refresh or session).exp, now + self._max_ttl)
        fields: dict[Any, Any] = {**login_hash.fields_of(grant, login, now, until, sign)}
        current = login_hash.current_field(grant.generation)
        issued = fields.pop(current)
        value = sign(Purpose.SESSION, token, encode_session(session))
        async with redis.pipeline(transaction=False) as pipe:
            pipe.set(token, value, px=self._life(session.exp))
            if grant.refresh is not None and grant.refresh_id is not None:
                record = encode_refresh(grant.refresh, grant.refresh_id)
                pipe.hset(refresh, RECORD, sign(Purpose.REFRESH, refresh, record))
                pipe.pexpire(refresh, self._life(until))
            checked(await flush_in_cluster(pipe, redis))
            pipe.hsetnx(login, current, issued)
            if grant.generation:
                pipe.hdel(login, login_hash.current_field(grant.generation - 1))
            pipe.hset(login, mapping=fields)
            pipe.pexpire(login, self._life(until))
            pipe.zremrangebyscore(user, "-inf", now)
            pipe.zadd(user, {session.sid: until})
            # It must live as long as its longest-lived member, which may have begun at any time.
            pipe.pexpire(user, self._life(now + self._max_ttl))
            if (replaced := grant.replaced(now)) is not None:
                key = self.names.token(replaced.id)
                value = sign(Purpose.SESSION, key, encode_session(replaced))
                # XX: a logout may have deleted it.
                pipe.set(key, value, px=self._life(replaced.exp), xx=True)
            elif grant.replaces is not None:
                pipe.delete(self.names.token(grant.replaces))
            if grant.ends is not None:
                pipe.delete(self.names.token(grant.ends))
            if grant.discards is not None:
                pipe.delete(self.names.refresh(grant.discards))
            pipe.hexists(refresh, USED)
            pipe.hgetall(login)
            *_, used, found = checked(await pipe.execute(raise_on_error=False))
            return fields_in(found), bool(used)

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

    async def expire_refresh(self, refresh_id: str, exp: float, redis: Redis) -> None:
        """Let the record of a refresh token live until then."""
        await redis.pexpire(self.names.refresh(refresh_id), self._life(exp))

    async def count_repeat(self, refresh_id: str, exp: float, redis: Redis) -> int | None:
        """Count a repeat of a used refresh token. None if its record has expired."""
        key = self.names.refresh(refresh_id)
        async with redis.pipeline(transaction=True) as pipe:  # one key, so a cluster accepts it
            pipe.hincrby(key, REPEATS, 1)
            pipe.hexists(key, RECORD)
            pipe.pexpire(key, self._life(exp))  # HINCRBY may have created the key
            repeats, exists, _ = checked(await pipe.execute(raise_on_error=False))
        if not exists:
            await redis.delete(key)
        return int(repeats) if exists else None

    async def end(
        self, sids: Sequence[bytes], user: bytes | None, redis: Redis
    ) -> list[list[CurrentGrant]]:
        """End these logins; safe to repeat. Returns what the grants of each had issued.

        Only the keys that a signed value names are deleted with a login.
        """
        names = self.names
        keys = [names.login(sid) for sid in sids]
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                # From now on no refresh continues it, and its hash still names its credentials.
                pipe.hdel(key, login_hash.LOGIN)
                pipe.hgetall(key)
            answers = await pipe.execute(raise_on_error=False)
            logins = [
                login_hash.grants_in(fields_in(answer), key, self._values.verify)
                for key, answer in zip(keys, answers[1::2], strict=True)
            ]
            for sid, grants in zip(sids, logins, strict=True):
                for grant in grants:
                    if grant.refresh:
                        pipe.delete(names.refresh(grant.refresh))
                    for token in grant.tokens:
                        pipe.delete(names.token(token))
                    pipe.zrem(names.user(grant.sub), sid)
                if user is not None:  # even if the hash is empty
                    pipe.zrem(user, sid)
            answers = await flush_in_cluster(pipe, redis)
            for key in keys:
                pipe.delete(key)
            for answer in answers + await pipe.execute(raise_on_error=False):
                is_of_another_kind(answer)  # raises any other error
        return logins

    async def read_current(self, sid: bytes, redis: Redis) -> CurrentGrant | None:
        """What the last grant of a login issued, or None if the login has ended."""
        key = self.names.login(sid)
        fields = fields_in(await redis.hgetall(key))
        return login_hash.live_grant_in(fields, key, self._values.verify)

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
                    pipe.hgetall(self.names.login(sid))
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
            login_hash.info_of(login_hash.text_of(sid), key, fields_in(answer), self._values.verify)
            for sid, key, answer in zip(sids, keys, answers, strict=True)
        )
        return [info for info in infos if info is not None]

    async def write_seen(self, sids: Sequence[str], now: float, redis: Redis) -> None:
        """Record `now` as the time at which these logins were last seen."""
        keys = list(map(self.names.login, sids))
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hset(key, login_hash.SEEN, repr(now))
            created = await pipe.execute(raise_on_error=False)
            for key, new in zip(keys, created, strict=True):
                # The login ended meanwhile; its sid is never reused.
                if not is_of_another_kind(new) and new:
                    pipe.delete(key)
            await pipe.execute()

    def _began_before(self, before: float, answer: object, key: bytes) -> bool:
        """Whether a login began before a time. True if it has ended or cannot be read."""
        current = login_hash.live_grant_in(fields_in(answer), key, self._values.verify)
        return current is None or current.created < before

    def _life(self, until: float) -> int:
        """The time to live in milliseconds. Relative, because the pods' clocks differ."""
        return max(1, int(min(until - self._clock(), self._max_ttl) * 1000))
