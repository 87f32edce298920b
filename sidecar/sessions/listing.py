"""Pages of a user's logins: their order, and where the next page begins. Pure.

Logins are paged by expiry, the latest first, and by sid if they expire at the same time. That is
the order in which Redis keeps them. Within a page they are shown newest first.
"""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.auth.session import SessionInfo

    Position = tuple[float, str]

PAGE: Final = 50  # logins


def position_of(info: SessionInfo) -> Position:
    """A login's position: a page after it continues with the next login."""
    return info.exp, info.sid


def page_of(infos: Iterable[SessionInfo], after: Position | None, limit: int) -> list[SessionInfo]:
    """At most `limit` of the logins that follow `after`, newest first."""
    rest = (info for info in infos if after is None or position_of(info) < after)
    page = nlargest(limit, rest, key=position_of)
    return sorted(page, key=lambda info: info.created, reverse=True)
