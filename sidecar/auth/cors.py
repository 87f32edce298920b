"""Which pages of other origins may use the sidecar: the CORS protocol of the Fetch standard.

Owns the judgement of an origin and the headers of the sidecar's own answers. Knows no sessions,
routes or cookies, and never touches the application's answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.wire.head import RequestHead

EVERY_ORIGIN: Final = b"*"
SUBDOMAINS: Final = b"://*."  # as in https://*.example.com

_EXPOSED: Final = b"X-Request-Id, WWW-Authenticate, Retry-After"
_LABEL: Final = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # browsers send lower case
# A serialised origin (Fetch section 3.2), but not "null", which every sandboxed page has.
_ORIGIN: Final = re.compile(rb"[a-z][a-z0-9+.-]*://[A-Za-z0-9._~!$&'()*+;=:\[\]-]+")


class CorsPolicy:
    """The origins whose pages may read the sidecar's own answers, and what they may send.

    An origin is `scheme://host[:port]` as browsers send it, `https://*.example.com` for the direct
    sub-domains of a host, or `*` for every origin. `credentials` lets these pages use the session
    cookie, as the own pages do. `headers` are the request headers that they may set. `max_age` is
    how long a browser may remember this, in seconds. Without origins, nothing changes.
    """

    __slots__ = (
        *("_credentials", "_every", "_exact", "_preflight"),
        *("_subdomains", "_suffix", "_vary"),
    )

    def __init__(
        self,
        origins: Iterable[str] = (),
        *,
        credentials: bool = False,
        headers: Iterable[str] = (),
        max_age: float = 0.0,
    ) -> None:
        given = {each.encode("ascii") for each in origins}
        self._every = EVERY_ORIGIN in given
        if credentials and self._every:
            raise ValueError("credentials are never for every origin")
        self._credentials = credentials
        patterns = {each for each in given if SUBDOMAINS in each}
        self._exact = frozenset(given - patterns - {EVERY_ORIGIN})
        self._subdomains = tuple(map(_pattern, patterns))
        self._vary = b"Vary: Origin\r\n" if given else b""
        allow = b"Access-Control-Allow-Credentials: true\r\n" if credentials else b""
        self._suffix = b"\r\n%bAccess-Control-Expose-Headers: %b\r\n" % (allow, _EXPOSED)
        self._preflight = b"Access-Control-Allow-Headers: %b\r\nAccess-Control-Max-Age: %d\r\n" % (
            ", ".join(headers).encode("ascii"),
            max_age,
        )

    def __repr__(self) -> str:
        origins = "*" if self._every else len(self._exact) + len(self._subdomains)
        return f"<CorsPolicy origins={origins} credentials={self._credentials}>"

    def __bool__(self) -> bool:
        return self._vary != b""

    def allows(self, head: RequestHead) -> bool:
        """Whether a page of an allowed origin sent this request, as far as its browser says."""
        origin = head.origin
        if origin is None or b"origin" in head.repeated:
            return False
        if origin in self._exact:
            return True
        if self._every:
            return _ORIGIN.fullmatch(origin) is not None
        return any(each.fullmatch(origin) for each in self._subdomains)

    def trusts(self, head: RequestHead) -> bool:
        """Whether a page sent this request that may use the session cookie as our own pages do."""
        return self._credentials and self.allows(head)

    def lines(self, head: RequestHead) -> bytes:
        """The header lines of the sidecar's own answer to this request; none without origins.

        The answer depends on Origin even if the request has none, which caches must know
        (RFC 9110 section 12.5.5).
        """
        origin = head.origin
        if origin is None or not self.allows(head):
            return self._vary
        return b"%bAccess-Control-Allow-Origin: %b%b" % (self._vary, origin, self._suffix)

    def preflight_lines(self, methods: bytes) -> bytes:
        """What the answer to an allowed preflight has beside `lines`: methods, headers, age."""
        return b"Access-Control-Allow-Methods: %b\r\n%b" % (methods, self._preflight)


def _pattern(origin: bytes) -> re.Pattern[bytes]:
    scheme, _, parent = origin.partition(SUBDOMAINS)
    return re.compile(re.escape(scheme + b"://") + _LABEL + re.escape(b"." + parent))


NO_CORS: Final = CorsPolicy()
