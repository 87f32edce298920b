"""Lists the logins in Redis for an operator. Uses SCAN, never KEYS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.keyspace import LISTED, LOGIN, USER, is_of_another_kind, octets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.session import SessionInfo

_STEP: Final = 1000


class SessionScanner:
    """Reads logins through a client. Raises the client library's errors."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def __repr__(self) -> str:
        return "<SessionScanner>"

    async def logins(self, sub: str | None = None) -> AsyncIterator[SessionInfo]:
        """Every live login, or one user's, in no order.

        A login that begins during the scan may be missing.
        """
        batch: list[bytes] = []
        async for sid in self._sids(sub):
            batch.append(sid)
            if len(batch) == LISTED:
                for info in await self._read(batch):
                    yield info
                batch.clear()
        for info in await self._read(batch):
            yield info

    async def login(self, sid: str) -> SessionInfo | None:
        """The login under this sid, or None."""
        found = await self._read([octets(sid)])
        return found[0] if found else None

    async def _sids(self, sub: str | None) -> AsyncIterator[bytes]:
        if sub is None:
            async for key in self._client.scan_iter(match=LOGIN + b"*", count=_STEP):
                yield key[len(LOGIN) :]
        else:
            async for member, _ in self._client.zscan_iter(USER + octets(sub), count=_STEP):
                yield member

    async def _read(self, sids: Sequence[bytes]) -> list[SessionInfo]:
        async with self._client.pipeline(transaction=False) as pipe:
            for sid in sids:
                pipe.hgetall(LOGIN + sid)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        found = []
        for sid, answer in zip(sids, answers, strict=True):
            if is_of_another_kind(answer):
                continue
            fields = {login_hash.text_of(name): value for name, value in answer.items()}
            info = login_hash.info_of(login_hash.text_of(sid), fields)
            if info is not None:
                found.append(info)
        return found
