"""Lists the logins in Redis for an operator. Uses SCAN, never KEYS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.sessions.redis.key_names import octets
from sidecar.sessions.redis.keyspace import LISTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sidecar.auth.session import SessionInfo
    from sidecar.sessions.redis.keyspace import Keyspace

_STEP: Final = 1000


class SessionScanner:
    """Reads the logins of one realm through a client. Raises the client library's errors."""

    def __init__(self, client: Redis, keys: Keyspace) -> None:
        self._client = client
        self._keys = keys

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
                for info in await self._read(batch, sub):
                    yield info
                batch.clear()
        for info in await self._read(batch, sub):
            yield info

    async def login(self, sid: str) -> SessionInfo | None:
        """The login under this sid, or None."""
        found = await self._keys.read_logins([octets(sid)], self._client)
        return found[0] if found else None

    async def _sids(self, sub: str | None) -> AsyncIterator[bytes]:
        names = self._keys.names
        if sub is None:
            async for key in self._client.scan_iter(match=names.logins, count=_STEP):
                yield names.sid_in(key)
        else:
            async for member, _ in self._client.zscan_iter(names.user(sub), count=_STEP):
                yield member

    async def _read(self, sids: list[bytes], sub: str | None) -> list[SessionInfo]:
        infos = await self._keys.read_logins(sids, self._client)
        return [info for info in infos if sub is None or info.sub == sub]
