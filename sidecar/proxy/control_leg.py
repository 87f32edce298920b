"""The way to the control plane and back: an upstream leg whose answer names the caller.

The route table lets everyone reach the control plane, so only its handlers learn who a request is
of, and refuse it. Knows the line in which they name the caller, and nothing of what they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy.accounting import Refused
from sidecar.proxy.upstream_leg import UpstreamLeg
from sidecar.wire.caller_line import read_caller

if TYPE_CHECKING:
    from sidecar.wire.head import ResponseHead


class ControlLeg(UpstreamLeg):
    """One request forwarded to the control plane."""

    def on_response(self, head: ResponseHead, first: bytes, *, complete: bool) -> None:
        """Note who the request is of and whether it is refused, and pass the answer on."""
        if head.status >= 400:
            self._accounting.reason = Refused.CONTROL_PLANE
        if head.caller:
            self._exchange.named = read_caller(head.caller)
        super().on_response(head, first, complete=complete)
