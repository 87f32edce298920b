"""OPTIONS, which a browser sends ahead without credentials.

Owns what only these requests need, so that no other pays for it: the way of a preflight past the
gate. And HEAD, whose answer has no body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth import preflight
from sidecar.proxy.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping


class HeadExchange(Exchange):
    """One HEAD request."""

    to_head = True


class OptionsExchange(Exchange):
    """One OPTIONS request."""

    def start(self) -> None:
        """Let a preflight pass where a rule says so; decide about anything else."""
        shared = self.shared
        overloaded = shared.metrics.in_flight > shared.limits.requests
        route = None if overloaded else preflight.find_route(shared.routes, self.head)
        if route is None:
            super().start()
            return
        self.route = route
        self.head = preflight.without_credentials(self.head)
        self.on_preflight()
        self._decided(shared.gate.anonymous)


# What a request other than a GET becomes, where that is no plain exchange.
KINDS: Final[Mapping[bytes, type[Exchange]]] = {b"HEAD": HeadExchange, b"OPTIONS": OptionsExchange}
