"""A request that a trusted proxy passes on: it counts for the client that the proxy names.

A proxy's connections carry many clients, so they have no limit of their own; what each client has
in progress there does. Requests that come from elsewhere pay nothing for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy import accounting
from sidecar.proxy.accounting import Accounting
from sidecar.proxy.admission import ADDRESS
from sidecar.proxy.exchange import Exchange
from sidecar.wire.replies import RETRY_AFTER

if TYPE_CHECKING:
    from sidecar.proxy.accounting import Accountable
    from sidecar.proxy.contracts import WatchedTunnel


class ProxiedExchange(Exchange):
    """The state of one request of a trusted proxy."""

    _client = ""  # that it counts for; empty: none

    def start(self) -> None:
        """Refuse with 429 what is one too many of its client; otherwise as any other request.

        Subrequests are not counted: the request that they are about has its own proxy's limits, and
        their answer takes no longer than a look-up.
        """
        context, head = self.context, self.head
        limit = context.limits.per_address
        if not limit or head.forwarded is None or context.verify.covers(head.path):
            super().start()
            return
        client = self.downstream.forwarding.named(head).client
        if not client:
            super().start()
            return
        if context.admission.opened(client) >= limit:
            context.admission.refused(ADDRESS, client)
            self.route = context.routes.match(head.method, head.host, head.path)
            self.accounting.fault = accounting.CLIENT_BUSY
            self._problem(429, RETRY_AFTER)
            return
        context.admission.add(client)
        self._client = client
        accounts = _ClientAccounting()
        accounts.began, accounts.reason = self.accounting.began, None
        accounts.client = client
        self.accounting = accounts
        super().start()

    def on_upgraded(self, tunnel: WatchedTunnel, now: float) -> None:
        """The connection has become a tunnel, which counts for the client until it closes."""
        super().on_upgraded(tunnel, now)
        self.downstream.count_for(self._client)


class _ClientAccounting(Accounting):
    """Accounts whose end is also that of the client's request."""

    client = ""

    def close(self, exchange: Accountable, now: float) -> None:
        """Count the request, and no longer for its client."""
        exchange.context.admission.remove(self.client)
        super().close(exchange, now)
