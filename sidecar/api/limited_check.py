"""One password check within all limits: of guesses, of the slow lane and of the queue.

Knows neither users nor what is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.guesses import Blocked
from sidecar.api.services import SERVICES
from sidecar.api.slow_lane import PAUSE
from sidecar.api.turns import Place

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.api.guesses import Attempt
    from sidecar.api.passwords import Verdict


async def limited_check(
    request: web.Request, expected: str, password: str, attempt: Attempt, known: str
) -> Verdict | Blocked:
    """Check the password against the hash `expected` in this attempt's turn, unless it is blocked.

    `known` is the name of the user for the log; empty if there is no such user.
    """
    services = request.app[SERVICES]
    guesses = services.guesses
    standing = await guesses.look(attempt)
    if isinstance(standing, Blocked):
        return standing
    if standing.is_slow and not await services.slow_lane.wait(attempt.user, standing.attempts):
        return Blocked(PAUSE)
    blocked: Blocked | None = None

    async def may_begin() -> bool:
        nonlocal blocked
        blocked = await guesses.count(attempt, user=known)
        return blocked is None

    # aiohttp takes the transport away when the client has disconnected.
    place = Place(attempt.pair, standing.group, standing.cost, lambda: request.transport is None)
    verdict = await services.passwords.check(expected, password, place, may_begin)
    return verdict if blocked is None else blocked
