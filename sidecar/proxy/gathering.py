"""The body of one request for the control plane, until it is complete.

Owns what such a body may take: octets, time, and room among all unfinished requests. The control
plane's few connections are not for clients that send an octet a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from sidecar.proxy.accounting import Accounting
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.contracts import ClientSide
    from sidecar.proxy.staging import StagedBody
    from sidecar.wire.framing import Body
    from sidecar.wire.head import RequestHead

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class GatheringExchange(Protocol):
    """An exchange whose body is gathered."""

    context: DataPlaneContext
    accounting: Accounting
    head: RequestHead
    continued: bool  # the client has been sent 100 (Continue)

    @property
    def downstream(self) -> ClientSide:
        """The client's connection."""

    @property
    def caller(self) -> str:
        """The client's address, as far as limits are concerned."""

    def on_gathered(self) -> None:
        """The body is complete."""

    def on_too_large(self) -> None:
        """The body is larger than one for the control plane may be."""

    def give_up(self) -> None:
        """Refuse this request, because others need what it keeps."""


class Gathering:
    """One body; its exchange calls `begin` once, and drops it at its end."""

    __slots__ = ("_body", "_exchange", "_staged")

    def __init__(self, exchange: GatheringExchange, body: Body, staged: StagedBody) -> None:
        self._exchange = exchange
        self._body = body
        self._staged = staged

    def __repr__(self) -> str:
        return f"<Gathering of {self._body!r}, {self._staged!r}>"

    def begin(self) -> None:
        """Set the time limit, and ask for the body if the client waits for that."""
        exchange = self._exchange
        downstream = exchange.downstream
        downstream.expect(exchange.accounting.began, exchange.context.limits.form_timeout)
        if exchange.head.expect_continue and exchange.head.minor:
            exchange.continued = True
            downstream.transport.write(_CONTINUE)
        self._count()

    def on_more(self) -> None:
        """More of the body has been staged."""
        if self._staged.size > self._exchange.context.limits.form_size:
            self._exchange.on_too_large()
        elif self._body.done:
            self._exchange.on_gathered()
        else:
            self._count()

    def _count(self) -> None:
        """Count what this unfinished request keeps; it may have to give up at once."""
        head = self._exchange.head
        beside = len(head.lines) + len(head.target)
        unfinished = self._exchange.context.unfinished
        self._staged.count(unfinished, self._exchange, self._exchange.caller, beside)
