"""Look-ups at one pod while another one logs out, whatever happens to Redis meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.errors import StoreUnavailable

if TYPE_CHECKING:
    from sidecar.auth.session import Grant
    from tests.topologies.pod import Pod


class Load:
    """Look-ups at a pod, and logouts at another, until it is stopped."""

    def __init__(self, pod: Pod, other: Pod, grants: list[Grant]) -> None:
        self._pod, self._other = pod, other
        self._alive = dict.fromkeys(grant.session.id for grant in grants)
        self._sids = {grant.session.id: grant.session.sid for grant in grants}
        self._stopped = False
        self.ended = 0
        self.wrong: list[str] = []
        self.warm = 0

    async def run(self) -> None:
        """Run until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(self._look_up())
            group.create_task(self._log_out())

    def stop(self) -> None:
        """End the load."""
        self._stopped = True

    async def _look_up(self) -> None:
        while not self._stopped:
            for token_id in list(self._alive):
                self.warm += self._pod.store.peek(token_id) is not None
                try:
                    await self._pod.store.get(token_id)
                except StoreUnavailable:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)

    async def _log_out(self) -> None:
        """Log out at the other pod; from then on, whatever this pod says must be a denial."""
        while not self._stopped and len(self._alive) > 10:
            token_id = next(iter(self._alive))
            if not await self._log_out_one(token_id):
                await asyncio.sleep(0.05)  # Redis is changing over; another attempt
                continue
            del self._alive[token_id]
            self.ended += 1
            await self._pod.heard()
            if self._pod.store.peek(token_id) is not None:
                self.wrong.append(token_id)
            await asyncio.sleep(0.01)

    async def _log_out_one(self, token_id: str) -> bool:
        """Delete the keys in Redis, by the store itself: it does not write to a journal."""
        try:
            await self._other.remote.revoke_session(self._sids[token_id])
        except StoreUnavailable:
            return False
        return True
