"""Refreshing: a refresh token buys one successor pair, however many clients race for it.

A used token that its client shows again within the grace period is such a race. From another
client, too often, or later it is theft. The store's atomic claim decides who is first; afterwards
the login's generation tells that a token was used. Does not know how tokens are made.
"""

from __future__ import annotations

import math
import secrets
import zlib
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.api.audit import audit_request, identify
from sidecar.api.grants import Login, TokenPair, UsedToken, issue_pair
from sidecar.api.login import token_response
from sidecar.api.problems import Refusal, unauthorized
from sidecar.api.requests import client_of, read_json
from sidecar.api.services import SERVICES
from sidecar.auth.issue import GENERATION, NONCE_BYTES, seal, unseal
from sidecar.auth.reason import Reason
from sidecar.auth.session import refresh_id
from sidecar.errors import StoreUnavailable
from sidecar.telemetry.audit import Event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from aiohttp import web

    from sidecar.api.grants import ClientInfo
    from sidecar.api.services import Services
    from sidecar.auth.session import RefreshRecord

METHOD: Final = "refresh"
_EXPECTED: Final = 'a JSON object with the text "refresh_token"'
_TOO_SOON: Final = "This login was refreshed a moment ago. Its refresh token is still valid."
_PAIR: Final = msgspec.json.Decoder(TokenPair)


class Result(StrEnum):
    """The outcome of a refresh, as the metric's label."""

    SUCCESS = "success"
    REPEATED = "repeated"  # a client that raced got the same pair again
    TOO_SOON = "too_soon"  # the login was refreshed just before; the token was not used
    INVALID = "invalid"  # not a valid refresh token
    UNKNOWN = "unknown"  # the store has no record of it: logged out, or expired
    ENDED = "ended"  # the login was ended during the refresh
    TOO_OLD = "too_old"  # the login has reached its greatest age
    USER_GONE = "user_gone"  # the user was disabled or removed after the login
    REUSED = "reused"  # theft: the login has been ended
    UNAVAILABLE = "unavailable"  # the session store could not be reached


class Reuse(StrEnum):
    """How a used token was recognised; the log shows it."""

    LATE = "after its grace"
    CLIENT = "by another client"
    REPEATS = "too many times"
    GENERATION = "after it was forgotten"


class RefreshRequest(msgspec.Struct):
    """The body of a refresh."""

    refresh_token: str

    def __repr__(self) -> str:
        return "<RefreshRequest>"


async def refresh(request: web.Request) -> web.Response:
    """Exchange a refresh token for a new pair."""
    services = request.app[SERVICES]
    asked = await read_json(request, RefreshRequest, _EXPECTED)
    now = services.clock()
    client = client_of(request)
    rotation = Rotation(services, asked.refresh_token.encode(), client, now)
    try:
        result, pair = await rotation.run()
    except StoreUnavailable:
        services.metrics.logins[METHOD, Result.UNAVAILABLE] += 1
        raise
    services.metrics.logins[METHOD, result] += 1
    if rotation.sid:
        issuer = services.config.current.issuer.issuer
        identify(request, rotation.user, issuer=issuer, sid=rotation.sid)
    if rotation.reuse is None:
        audit_request(request, "refresh", Event.REFRESH, result=result, method=METHOD)
    else:
        audit_request(
            request,
            "a used refresh token was presented again; its login is ended",
            Event.REFRESH,
            result=result,
            method=METHOD,
            more={"shown": rotation.reuse},
            warn=True,
        )
    if result is Result.TOO_SOON:
        raise Refusal(429, _TOO_SOON, headers={"Retry-After": str(math.ceil(rotation.wait))})
    if pair is None:
        raise unauthorized("The refresh token is not valid.", error="invalid_grant")
    return token_response(pair, now)


class Rotation:
    """One attempt to exchange a refresh token.

    `user` and `sid` name its user and login, once they are known. `wait` is the time in seconds
    after which a token that was shown too soon may be used. `reuse` says how a used token was
    recognised.
    """

    __slots__ = ("_client", "_id", "_now", "_services", "_token", "reuse", "sid", "user", "wait")

    def __init__(self, services: Services, token: bytes, client: ClientInfo, now: float) -> None:
        self._services = services
        self._token = token
        self._id = refresh_id(token)
        self._client = client
        self._now = now
        self.user = self.sid = ""
        self.wait = 0.0
        self.reuse: Reuse | None = None

    def __repr__(self) -> str:
        return f"<Rotation of {self.sid or 'an unknown login'}>"

    async def run(self) -> tuple[Result, TokenPair | None]:
        """The result, and the pair if there is one. Raises StoreUnavailable."""
        verified = self._services.config.current.verifier.verify_refresh(self._token, self._now)
        if isinstance(verified, Reason):
            return Result.INVALID, None
        generation = verified.claims.get(GENERATION, 0)  # none: a token of an earlier release
        record = await self._services.store.get_refresh(self._id)
        self.user, self.sid = verified.subject, verified.session_id
        if record is None:
            return await self._judge(generation)
        if (record.sid, record.sub) != (self.sid, verified.subject):
            return Result.INVALID, None
        claims = self._services.config.current.logins.present_claims(
            record.method, record.sub, record.claims
        )
        if claims is None:
            return await self._end(Result.USER_GONE)
        if record.used_at is None:
            return await self._rotate(record, claims)
        return await self._repeat(record, record.used_at)

    async def _judge(self, generation: int) -> tuple[Result, None]:
        """Judge a token without a record by its generation.

        A login whose generation is higher has used the token. One whose generation is lower, or
        equal, has lost the record: Redis may have lost its last writes in a failover.
        """
        current = await self._services.store.generation_of(self.sid)
        if current is not None and generation < current:
            return await self._end_reused(Reuse.GENERATION)
        return Result.UNKNOWN, None

    async def _rotate(
        self, record: RefreshRecord, claims: Mapping[str, Any]
    ) -> tuple[Result, TokenPair | None]:
        services, config, now = self._services, self._services.config.current, self._now
        if now >= record.created + config.issuer.max_age:
            return await self._end(Result.TOO_OLD)
        self.wait = config.refreshing.wait(record, now)
        if self.wait > 0:
            return Result.TOO_SOON, None
        pair = self._successor(record, claims)
        used = msgspec.structs.replace(
            record,
            used_at=now,
            exp=config.refreshing.forgotten_at(now),
            sealed=seal(
                self._token,
                zlib.compress(msgspec.json.encode(pair)),  # which says most things three times
                secrets.token_bytes(NONCE_BYTES),
                config.refreshing.identity(self._client),
            ),
            claims={},  # the pair has what is needed from now on
            previous=(),
        )
        before = await services.store.claim_refresh(self._id, used)
        if before is None:
            return await self._judge(record.generation)
        if before.used_at is not None:
            return await self._repeat(before, before.used_at)
        return await self._write(pair, Result.SUCCESS)

    async def _repeat(
        self, record: RefreshRecord, used_at: float
    ) -> tuple[Result, TokenPair | None]:
        """Answer a used token: its client gets the successor again, a few times and for a while."""
        store, policy = self._services.store, self._services.config.current.refreshing
        if not policy.in_grace(used_at, self._now):
            return await self._end_reused(Reuse.LATE)
        sealed = unseal(self._token, record.sealed, policy.identity(self._client))
        if sealed is None:
            return await self._end_reused(Reuse.CLIENT)
        repeats = await store.count_repeat(self._id, record)
        if repeats is None:
            return await self._judge(record.generation)
        if repeats > policy.repeats:
            return await self._end_reused(Reuse.REPEATS)
        pair = _PAIR.decode(zlib.decompress(sealed))
        # The request that claimed the token may have stopped before it wrote the pair. A pair that
        # is already written must not be written again: the login may have a later pair by now.
        if await store.get_refresh(pair.grant.refresh_id or "") is not None:
            return Result.REPEATED, pair
        return await self._write(pair, Result.REPEATED)

    async def _write(self, pair: TokenPair, result: Result) -> tuple[Result, TokenPair | None]:
        """Write a pair. If the login has another by now, that came either from this pair or not."""
        grant = pair.grant
        if await self._services.store.write(grant):
            return result, pair
        if await self._services.store.get_refresh(grant.refresh_id or "") is not None:
            return Result.REPEATED, pair  # the client has got the pair meanwhile, and used it
        current = await self._services.store.generation_of(self.sid)
        if current is not None and current >= grant.generation:
            return await self._end_reused(Reuse.GENERATION)
        return Result.ENDED, None

    async def _end(self, result: Result) -> tuple[Result, None]:
        await self._services.store.revoke_session(self.sid)
        return result, None

    async def _end_reused(self, how: Reuse) -> tuple[Result, None]:
        self.reuse = how
        return await self._end(Result.REUSED)

    def _successor(self, record: RefreshRecord, claims: Mapping[str, Any]) -> TokenPair:
        login = Login(
            sid=record.sid,
            sub=record.sub,
            claims=claims,
            created=record.created,
            method=record.method,
        )
        return issue_pair(
            self._services.config.current.issuer,
            login,
            self._client,
            self._now,
            session_key=self._services.session_key,
            after=UsedToken(self._id, record),
            access_grace=self._services.config.current.refreshing.access_grace,
        )
