"""The upstream leg of a request with a stale session cookie: its answer deletes the cookie.

The request itself went to the upstream as an anonymous one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.proxy.upstream_leg import UpstreamLeg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.wire.head import ResponseHead

# A copy in a shared cache would sign out everybody who gets it (RFC 9111 section 7.3).
_NO_STORE: Final = b"Cache-Control: private, no-store\r\n"
# How the names of such headers end. Caches prefer one of their own (RFC 9213 section 2.2).
_CACHING: Final = (b"cache-control", b"surrogate-control", b"expires")


class CookieClearingLeg(UpstreamLeg):
    """One request, forwarded as any other."""

    def on_response(self, head: ResponseHead, first: bytes, *, complete: bool) -> None:
        """Pass the answer's head on, with what arrived of its body."""
        super().on_response(self._clearing(head), first, complete=complete)

    def on_upgrade(self, head: ResponseHead, rest: bytes) -> None:
        """Become a tunnel, if the upstream switches to the protocol that it was asked for."""
        super().on_upgrade(self._clearing(head), rest)

    def _clearing(self, head: ResponseHead) -> ResponseHead:
        """Return a copy of the head, which its connection keeps for equal answers."""
        changed = head.copy()
        start, *lines = head.lines.splitlines(keepends=True)
        kept = _without_caching(lines)
        changed.lines = b"".join((start, *kept, _NO_STORE, self._context.clear_cookie))
        changed.cache_control = True
        return changed


def _without_caching(lines: Iterable[bytes]) -> Iterable[bytes]:
    return (each for each in lines if not each.partition(b":")[0].lower().endswith(_CACHING))
