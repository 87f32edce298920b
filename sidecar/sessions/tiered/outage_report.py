"""What operators are told about Redis: a log line for each change, and the state for `/status`.

An outage is one line of information, because it is repaired elsewhere. If Redis refuses the user or
the password, that is a warning that says what to check: it does not end by itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.sessions.redis.faults import CHECK

if TYPE_CHECKING:
    from sidecar.sessions.redis.faults import Fault
    from sidecar.sessions.store import ServerName

REFUSES_USER: Final = "Redis refuses the sidecar's user or password"

logger = logging.getLogger("sidecar.sessions")


class OutageReport:
    """Knows what is wrong with one Redis, and has said so once."""

    __slots__ = ("_fault", "_server")

    def __init__(self, server: ServerName) -> None:
        self._server = server
        self._fault: Fault | None = None

    def __repr__(self) -> str:
        return f"<OutageReport of {self._server.address}: {self._fault or 'no fault'}>"

    def describe(self) -> dict[str, str]:
        """Address and user, and while something is wrong, the fault and what to check."""
        found = {"server": self._server.address, "user": self._server.user}
        if self._fault is not None:
            found["fault"] = str(self._fault)
            if self._fault in CHECK:
                found["check"] = CHECK[self._fault]
        return found

    def begin(self, message: str, fault: Fault, *, warn: bool = False) -> None:
        """Say that this is wrong from now on. It is a warning if somebody must act."""
        self._fault = fault
        extra = {"fault": str(fault), "server": self._server.address}
        if fault in CHECK:
            extra |= {"user": self._server.user, "check": CHECK[fault]}
        level = logging.WARNING if warn or fault in CHECK else logging.INFO
        logger.log(level, message, extra=extra)

    def repeat(self, fault: Fault) -> None:
        """Redis still cannot be used; say so only if it now refuses the user and did not before."""
        if fault is not self._fault and fault in CHECK:
            self.begin(REFUSES_USER, fault)
        self._fault = fault

    def end(self, message: str) -> None:
        """Say that nothing is wrong any more."""
        self._fault = None
        logger.info(message)
