"""OPTIONS, which a browser sends ahead without credentials, and which may be meant for a proxy.

Owns what only these requests need, so that no other pays for it: the way of a preflight past the
gate, and Max-Forwards. And HEAD, whose answer has no body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth import preflight
from sidecar.errors import PeerError
from sidecar.proxy.exchange import Exchange
from sidecar.wire.hops import decrement_max_forwards
from sidecar.wire.replies import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.proxy.upstream_pool import UpstreamPool


class HeadExchange(Exchange):
    """One HEAD request."""

    to_head = True


class OptionsExchange(Exchange):
    """One OPTIONS request."""

    def start(self) -> None:
        """Let a preflight pass where a rule says so; decide about anything else."""
        context = self.context
        overloaded = context.metrics.in_flight > context.limits.requests
        route = None if overloaded else preflight.find_route(context.routes, self.head)
        if route is None:
            super().start()
            return
        self.route = route
        self.head = preflight.without_credentials(self.head)
        self.on_preflight()
        self._decided(context.gate.anonymous)

    def forward(self, pool: UpstreamPool, identity: bytes, upgrades: frozenset[bytes]) -> None:
        """Send it on, if it may go further than to this proxy (RFC 9110 section 7.6.2)."""
        if self.route.target == "upstream":  # else it is here already
            try:
                head = decrement_max_forwards(self.head)
            except PeerError as error:
                self._problem(error.status)
                return
            if head is None:
                self._reply(200, options(self.request_id, close=not self._may_keep()))
                return
            self.head = head
        super().forward(pool, identity, upgrades)


# What a request other than a GET becomes, where that is no plain exchange.
KINDS: Final[Mapping[bytes, type[Exchange]]] = {b"HEAD": HeadExchange, b"OPTIONS": OptionsExchange}
