"""What of an exchange lasts, and ends with its session: an answer that goes on, or a tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.gate import Allow
    from sidecar.auth.routes import Route
    from sidecar.proxy.session_watch import WatchedStream
    from sidecar.proxy.tunnel import TunnelEnd


class Lasting(Relay):
    """An exchange that knows who was let in."""

    route: Route
    allow: Allow | None = None
    fault: str = ""  # what went wrong, beside a denial; or "preflight": nobody was asked
    watched: WatchedStream | None = None  # once the answer has begun and goes on

    def on_preflight(self) -> None:
        """It passes without a decision on who sent it."""
        self.fault = "preflight"
        self.context.metrics.preflights += 1

    def on_stream(self) -> None:
        """The answer has begun, and goes on: no longer than the session."""
        self.watched = self._watch(self._on_session_over)

    def on_tunnel(self, tunnel: TunnelEnd) -> None:
        """The same for a tunnel."""
        tunnel.watched = self._watch(tunnel.end)

    def _watch(self, end: Callable[[], None]) -> WatchedStream | None:
        live, allow = self.context.live, self.allow
        if live is None or allow is None or self.route.target != "upstream":
            return None
        return live.watch(self.route, self.head, allow, end, began=self.began)

    def _on_session_over(self) -> None:
        self.fault = "session_ended"
        self.abandon()
