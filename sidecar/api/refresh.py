"""Refreshing: a refresh token buys one successor pair, however many clients race for it.

A used token that is shown again within the grace period is such a race, and later it is theft. The
store's atomic claim decides. Does not know how tokens are made.
"""

from __future__ import annotations

import logging
import secrets
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.api.grants import Login, TokenPair, issue_pair
from sidecar.api.login import token_response
from sidecar.api.problems import request_id, unauthorized
from sidecar.api.requests import client_of, read_json
from sidecar.api.services import SERVICES
from sidecar.auth.issue import NONCE_BYTES, seal, unseal
from sidecar.auth.reason import Reason
from sidecar.auth.session import refresh_id
from sidecar.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from aiohttp import web

    from sidecar.api.grants import ClientInfo
    from sidecar.api.services import Services
    from sidecar.auth.session import RefreshRecord

logger = logging.getLogger(__name__)

METHOD: Final = "refresh"
_EXPECTED: Final = 'a JSON object with the text "refresh_token"'
_PAIR: Final = msgspec.json.Decoder(TokenPair)


class Result(StrEnum):
    """The outcome of a refresh, as the metric's label."""

    SUCCESS = "success"
    REPEATED = "repeated"  # a client that raced got the same pair again
    INVALID = "invalid"  # not a valid refresh token
    UNKNOWN = "unknown"  # the store has no record of it: logged out, or expired
    ENDED = "ended"  # the login was ended during the refresh
    TOO_OLD = "too_old"  # the login has reached its greatest age
    USER_GONE = "user_gone"  # the user was disabled or removed after the login
    REUSED = "reused"  # theft: the login has been ended
    UNAVAILABLE = "unavailable"  # the session store could not be reached


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
    rotation = Rotation(services, asked.refresh_token.encode(), client_of(request), now)
    try:
        result, pair = await rotation.run()
    except StoreUnavailable:
        services.metrics.logins[METHOD, Result.UNAVAILABLE] += 1
        raise
    services.metrics.logins[METHOD, result] += 1
    extra = {"result": result, "sid": rotation.sid, "request_id": request_id(request)}
    if result is Result.REUSED:
        logger.warning("a used refresh token was presented again; its login is ended", extra=extra)
    else:
        logger.info("refresh", extra=extra)
    if pair is None:
        raise unauthorized("The refresh token is not valid.", error="invalid_grant")
    return token_response(pair, now)


class Rotation:
    """One attempt to exchange a refresh token. `sid` names its login, once it is known."""

    __slots__ = ("_client", "_id", "_now", "_services", "_token", "sid")

    def __init__(self, services: Services, token: bytes, client: ClientInfo, now: float) -> None:
        self._services = services
        self._token = token
        self._id = refresh_id(token)
        self._client = client
        self._now = now
        self.sid = ""

    def __repr__(self) -> str:
        return f"<Rotation of {self.sid or 'an unknown login'}>"

    async def run(self) -> tuple[Result, TokenPair | None]:
        """The result, and the pair if there is one. Raises StoreUnavailable."""
        verified = self._services.config.current.verifier.verify_refresh(self._token, self._now)
        if isinstance(verified, Reason):
            return Result.INVALID, None
        record = await self._services.store.get_refresh(self._id)
        if record is None:
            return Result.UNKNOWN, None
        if (record.sid, record.sub) != (verified.session_id, verified.subject):
            return Result.INVALID, None
        self.sid = record.sid
        claims = self._services.config.current.logins.present_claims(
            record.method, record.sub, record.claims
        )
        if claims is None:
            return await self._end(Result.USER_GONE)
        if record.used_at is None:
            return await self._rotate(record, claims)
        return await self._repeat(record, record.used_at)

    async def _rotate(
        self, record: RefreshRecord, claims: Mapping[str, Any]
    ) -> tuple[Result, TokenPair | None]:
        services, now = self._services, self._now
        if now >= record.created + services.config.current.issuer.max_age:
            return await self._end(Result.TOO_OLD)
        pair = self._successor(record, claims)
        sealed = seal(self._token, msgspec.json.encode(pair), secrets.token_bytes(NONCE_BYTES))
        used = msgspec.structs.replace(record, used_at=now, sealed=sealed)
        before = await services.store.claim_refresh(self._id, used)
        if before is None:
            return Result.UNKNOWN, None
        if before.used_at is not None:
            return await self._repeat(before, before.used_at)
        if await services.store.write(pair.grant):
            return Result.SUCCESS, pair
        return Result.ENDED, None

    async def _repeat(
        self, record: RefreshRecord, used_at: float
    ) -> tuple[Result, TokenPair | None]:
        """Answer a used token: with its successor within the grace period, afterwards as theft."""
        services = self._services
        # A use in the future means that the clock was set back; its true age is unknown.
        if services.refresh_grace <= 0 or abs(self._now - used_at) > services.refresh_grace:
            return await self._end(Result.REUSED)
        sealed = unseal(self._token, record.sealed)
        if sealed is None:
            return Result.INVALID, None
        pair = _PAIR.decode(sealed)
        # The request that claimed the token may have stopped before it wrote the pair. A pair that
        # is already written must not be written again: the login may have a later pair by now.
        successor = await services.store.get_refresh(pair.grant.refresh_id or "")
        if successor is None and not await services.store.write(pair.grant):
            return Result.ENDED, None
        return Result.REPEATED, pair

    async def _end(self, result: Result) -> tuple[Result, None]:
        await self._services.store.revoke_session(self.sid)
        return result, None

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
            replaces=record.token_id,
        )
